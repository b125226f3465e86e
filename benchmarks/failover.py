"""A leader and a worker lost, with writers at work: how long until writes are accepted, until
the node is down, until its tasks run elsewhere; and is every acknowledged write still there?

Three managers and two workers. A node is lost by SIGKILL of its daemon, agent and tasks at once,
or (`--silent`, as root) by its packets, which are dropped without a word: no connection is reset.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from benchmarks import processes
from benchmarks.cluster import Cluster, NodeProcess, channel_to, sleeping_service, until
from benchmarks.network import Network
from benchmarks.report import Report, Row, finish
from swarm.api.v1.control_pb2 import (
    CreateServiceRequest,
    GetNodeRequest,
    ListServicesRequest,
)
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.node_pb2 import NODE_STATE_DOWN

OURS = "ours"
_REPLICAS = 10
_ATTEMPT_S = 1.0
_LOST_S = 60.0


@dataclass(slots=True)
class Writers:
    """Clients that create services all along, each asking the next manager when one does not
    answer, with the same request id until it is acknowledged."""

    cluster: Cluster
    acknowledged: list[str] = field(default_factory=list[str])
    # Longest wait for an acknowledgement since this was last set to 0.
    longest_s: float = 0.0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    _stopping: bool = False

    def start(self, count: int, pause_s: float) -> None:
        self._tasks = [asyncio.create_task(self._write(n, pause_s)) for n in range(count)]

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _write(self, number: int, pause_s: float) -> None:
        managers = self.cluster.nodes[: self.cluster.managers]
        turn = number
        while not self._stopping:
            name = f"w-{secrets.token_hex(8)}"
            request = CreateServiceRequest(
                request_id=secrets.token_hex(16), spec=sleeping_service(name, 0)
            )
            started = time.perf_counter()
            while True:
                try:
                    node = managers[turn % len(managers)]
                    await node.control.CreateService(request, timeout=_ATTEMPT_S)
                    break
                except grpc.aio.AioRpcError:
                    turn += 1
                    await asyncio.sleep(0.01)
            self.acknowledged.append(name)
            self.longest_s = max(self.longest_s, time.perf_counter() - started)
            await asyncio.sleep(pause_s)

    async def lost(self) -> list[str]:
        """Acknowledged, and not there."""
        leader = await self.cluster.leader()
        listed = await leader.control.ListServices(ListServicesRequest(), timeout=30)
        there = {view.service.name for view in listed.services}
        return [name for name in self.acknowledged if name not in there]


async def write_accepted(node: NodeProcess) -> float:
    """Ask one manager until it has accepted a write. When that was."""
    channel = channel_to(node.socket)
    request = CreateServiceRequest(
        request_id=secrets.token_hex(16), spec=sleeping_service(f"p-{secrets.token_hex(8)}", 0)
    )
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await ControlStub(channel).CreateService(request, timeout=_ATTEMPT_S)
            break
        await asyncio.sleep(0.01)
    accepted = time.perf_counter()
    await channel.close()
    return accepted


async def is_down(node: NodeProcess, lost: NodeProcess) -> bool:
    with contextlib.suppress(grpc.aio.AioRpcError):
        answer = await node.control.GetNode(GetNodeRequest(reference=lost.node_id), timeout=1)
        return answer.node.node.status.state == NODE_STATE_DOWN
    return False


@dataclass(slots=True)
class Times:
    """Seconds since the node was lost, a value a round."""

    first_write: list[float] = field(default_factory=list[float])
    every_survivor: list[float] = field(default_factory=list[float])
    longest_write: list[float] = field(default_factory=list[float])
    down: list[float] = field(default_factory=list[float])
    replaced: list[float] = field(default_factory=list[float])


async def lose(
    cluster: Cluster, lost: NodeProcess, cut: Callable[[], None], writers: Writers, times: Times
) -> None:
    """One round: a service over all nodes, one node lost, and how it goes on."""
    asked = next(node for node in cluster.nodes[: cluster.managers] if node is not lost)
    service_id = await cluster.create(
        asked, sleeping_service(f"s-{secrets.token_hex(4)}", _REPLICAS)
    )
    await cluster.wait_running(asked, service_id, _REPLICAS)
    writers.longest_s = 0.0
    started = time.perf_counter()
    cut()
    was_leader = lost in cluster.nodes[: cluster.managers]
    if was_leader:
        survivors = cluster.others(lost)
        accepted = await asyncio.gather(*(write_accepted(node) for node in survivors))
        times.first_write.append(min(accepted) - started)
        times.every_survivor.append(max(accepted) - started)
    await until(lambda: is_down(asked, lost), _LOST_S, 0.02)
    times.down.append(time.perf_counter() - started)

    async def replaced() -> bool:
        with contextlib.suppress(grpc.aio.AioRpcError):
            tasks = await cluster.running(asked, service_id)
            return sum(task.node_id != lost.node_id for task in tasks) >= _REPLICAS
        return False

    await until(replaced, _LOST_S, 0.02)
    times.replaced.append(time.perf_counter() - started)
    times.longest_write.append(writers.longest_s)


async def rounds(
    cluster: Cluster, arguments: argparse.Namespace, report: Report, writers: Writers
) -> None:
    network = cluster.network
    how = "packets dropped" if network is not None else "SIGKILL"
    for what, count in (("leader", arguments.rounds), ("worker", arguments.worker_rounds)):
        times = Times()
        for number in range(count):
            lost = await cluster.leader() if what == "leader" else cluster.nodes[-1]
            if network is not None:
                await lose(cluster, lost, lambda: network.cut(lost.number), writers, times)  # noqa: B023
                network.heal(lost.number)
            else:
                await lose(cluster, lost, lambda: cluster.power_cut(lost), writers, times)  # noqa: B023
                await cluster.start(lost)
            await cluster.all_ready()
            print(f"  {what} {number + 1}/{count}: {_line(times)}", flush=True)
        _add_rows(report, f"{what} lost, {how}", times)


def _line(times: Times) -> str:
    shown = {
        "write": times.first_write,
        "all survivors": times.every_survivor,
        "down": times.down,
        "replaced": times.replaced,
    }
    return ", ".join(f"{name} {values[-1]:.2f} s" for name, values in shown.items() if values)


def _add_rows(report: Report, what: str, times: Times) -> None:
    for name, values in (
        ("first write accepted", times.first_write),
        ("a write on every survivor", times.every_survivor),
        ("longest wait of a writer", times.longest_write),
        ("node down", times.down),
        ("its tasks run elsewhere", times.replaced),
    ):
        if values:
            report.add(Row(f"{what}: {name}", OURS, "s", values))


async def measure(arguments: argparse.Namespace, report: Report) -> None:
    network = Network() if arguments.silent else None
    try:
        async with Cluster(managers=3, workers=2, network=network) as cluster:
            writers = Writers(cluster)
            writers.start(arguments.writers, 0.1)
            try:
                await rounds(cluster, arguments, report, writers)
            finally:
                await writers.stop()
            lost = await writers.lost()
            extra: dict[str, float | int | str] = {"acknowledged": len(writers.acknowledged)}
            report.add(Row("acknowledged writes lost", OURS, "", [float(len(lost))], extra))
    finally:
        if network is not None:
            network.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="leaders lost")
    parser.add_argument("--worker-rounds", type=int, default=5, help="workers lost")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--silent", action="store_true", help="drop packets instead; needs root")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    report = Report("A node lost, with writers at work")
    processes.run(measure(arguments, report))
    finish(report, arguments.json)


if __name__ == "__main__":
    main()
