"""Writes a second through three managers, with 1 to 256 clients: services created, services
updated, and proposals that go to Raft with no API in front.

Beside: Docker Swarm with three managers, and three members of etcd (puts of 256 bytes to new keys,
and to keys that are there), on the same disk in the same run. All clients are one Python process on
the same machine, and take CPU from the servers; those of raw proposals are in the leader itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import processes
from benchmarks.closed_loop import Act, closed_loop
from benchmarks.cluster import Cluster, NodeProcess, channel_to, sleeping_service
from benchmarks.report import Report, Row, finish, quantile
from swarm.api.v1.control_pb2 import CreateServiceRequest, ServiceView, UpdateServiceRequest
from swarm.api.v1.control_pb2_grpc import ControlStub

if TYPE_CHECKING:
    from swarm.api.v1.control_pb2_grpc import ControlAsyncStub

OURS, SWARM, ETCD = "ours", "Docker Swarm", "etcd"
CREATIONS, UPDATES, PROPOSALS = "creations", "updates", "raw proposals"

_IDLE_S = 3.0

Runs = list[tuple[list[float], float]]


def what_of(kind: str, clients: int) -> str:
    return f"{kind}, {clients} client{'s' if clients > 1 else ''}"


@dataclass(slots=True)
class Used:
    """CPU time that servers and this process have used since this was made."""

    pids: list[int]
    _servers_s: float = field(init=False)
    _own_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._servers_s = processes.cpu_seconds(self.pids)
        self._own_s = time.process_time()

    def servers_s(self) -> float:
        return processes.cpu_seconds(self.pids) - self._servers_s

    def own_s(self) -> float:
        return time.process_time() - self._own_s


def row_of(kind: str, clients: int, system: str, runs: Runs, used: Used) -> Row:
    latencies = [latency for run, _ in runs for latency in run]
    return Row(
        what_of(kind, clients),
        system,
        "/s",
        [len(run) / took for run, took in runs],
        {
            "p50 ms": round(1e3 * quantile(latencies, 0.5), 2),
            "p99 ms": round(1e3 * quantile(latencies, 0.99), 2),
            "writes": len(latencies),
            "servers CPU ms/write": round(1e3 * used.servers_s() / len(latencies), 2),
            "client CPU ms/write": round(1e3 * used.own_s() / len(latencies), 2),
        },
    )


async def ours(counts: list[int], seconds: float, rounds: int, report: Report) -> None:
    async with Cluster(managers=3, leader_program="benchmarks.proposing_daemon") as cluster:
        leader = await cluster.leader()
        await _idle(cluster, leader, report)
        pids = [pid for node in cluster.nodes for pid in node.pids()]
        for clients in counts:
            channels = [channel_to(leader.socket) for _ in range(clients)]
            stubs = [ControlStub(channel) for channel in channels]
            used = Used(pids)
            runs = [await closed_loop(clients, seconds, _creations(stubs)) for _ in range(rounds)]
            report.add(row_of(CREATIONS, clients, OURS, runs, used))
            update = await _updates(stubs)
            used = Used(pids)
            runs = [await closed_loop(clients, seconds, update) for _ in range(rounds)]
            report.add(row_of(UPDATES, clients, OURS, runs, used))
            for channel in channels:
                await channel.close()
            used = Used(pids)
            runs = [await _propose(leader, clients, seconds) for _ in range(rounds)]
            report.add(row_of(PROPOSALS, clients, OURS, runs, used))


def _creations(stubs: list[ControlAsyncStub]) -> Act:
    run = secrets.token_hex(4)

    async def create(client: int, number: int) -> None:
        await _create(stubs[client], f"{run}-{client}-{number}")

    return create


async def _create(stub: ControlAsyncStub, name: str) -> ServiceView:
    request = CreateServiceRequest(request_id=secrets.token_hex(16), spec=sleeping_service(name, 0))
    return (await stub.CreateService(request, timeout=30)).service


async def _updates(stubs: list[ControlAsyncStub]) -> Act:
    """Each client changes a label of a service of its own, again and again."""
    run = secrets.token_hex(4)
    views = [await _create(stub, f"{run}-{number}") for number, stub in enumerate(stubs)]

    async def update(client: int, number: int) -> None:
        view = views[client]
        view.spec.annotations.labels["x"] = str(number)
        request = UpdateServiceRequest(
            request_id=secrets.token_hex(16),
            service_id=view.service.id,
            version=view.service.meta.version,
            spec=view.spec,
        )
        views[client] = (await stubs[client].UpdateService(request, timeout=30)).service

    return update


async def _propose(leader: NodeProcess, clients: int, seconds: float) -> tuple[list[float], float]:
    from benchmarks.proposing_daemon import SOCKET

    reader, writer = await asyncio.open_unix_connection(
        leader.socket.with_name(SOCKET), limit=1 << 26
    )
    writer.write(f"{clients} {seconds}\n".encode())
    latencies, took = json.loads(await reader.readline())
    writer.close()
    return latencies, took


async def _idle(cluster: Cluster, leader: NodeProcess, report: Report) -> None:
    for node in cluster.nodes:
        used = Used(node.pids())
        await asyncio.sleep(_IDLE_S)
        daemon, *agents = node.pids()
        report.add(
            Row(
                f"idle, {'leader' if node is leader else 'follower'}",
                OURS,
                "% CPU",
                [100 * used.servers_s() / _IDLE_S],
                {
                    "daemon MiB": round(processes.resident_mib(daemon)),
                    "agent MiB": round(sum(map(processes.resident_mib, agents))),
                },
            )
        )


async def measure(arguments: argparse.Namespace, report: Report) -> None:
    if arguments.etcd:
        from benchmarks import etcd

        await etcd.writes(arguments.clients, arguments.seconds, arguments.rounds, report)
    if arguments.swarm:
        from benchmarks import docker_swarm

        await docker_swarm.writes(arguments.clients, arguments.seconds, arguments.rounds, report)
    await ours(arguments.clients, arguments.seconds, arguments.rounds, report)
    for clients in arguments.clients:
        for kind in (CREATIONS, UPDATES):
            for peer in (SWARM, ETCD):
                report.compare(what_of(kind, clients), OURS, peer, more_is_better=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writes", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--etcd", action="store_true", help="etcd beside it")
    parser.add_argument("--swarm", action="store_true", help="Docker Swarm beside it; needs root")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    report = Report("Writes through three managers")
    processes.run(measure(arguments, report))
    finish(report, arguments.json)


if __name__ == "__main__":
    main()
