"""100,000 tasks: a new manager takes their snapshot while clients write. What do the writes notice?

Three managers, and simulated workers (see there) on which a hundred services run. Once the log
below a snapshot is gone, a fourth manager joins: it gets the snapshot, and then the log behind it,
until it has a vote. Clients create services all along; their latencies without and with that are
compared, and those while the leader saves a snapshot of its own. Then a follower is started again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from benchmarks import processes
from benchmarks.cluster import Cluster, NodeProcess, channel_to, sleeping_service, until
from benchmarks.report import Report, Row, finish, quantile
from benchmarks.restart import restarts
from benchmarks.simulated_workers import SimulatedWorkers
from swarm.api.v1.control_pb2 import (
    REACHABILITY_REACHABLE,
    CreateServiceRequest,
    GetClusterRequest,
    GetNodeRequest,
    UpdateClusterRequest,
    UpdateNodeRequest,
)
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.daemon_pb2 import InfoRequest, JoinRequest, LeaveRequest
from swarm.api.v1.daemon_pb2_grpc import DaemonStub
from swarm.api.v1.node_pb2 import NODE_ROLE_WORKER, NodeRole

if TYPE_CHECKING:
    from swarm.api.v1.control_pb2_grpc import ControlAsyncStub

OURS = "ours"
_RUNNING_S = 1800.0
_JOINED_S = 300.0
_PING_S = 0.01
# Entries from one snapshot to the next: the default, and before the first one.
_INTERVAL = 10_000
_FIRST_INTERVAL = 1_000
_SAVED_S = 600.0


@dataclass(slots=True)
class Writers:
    """Clients of the leader's socket that write again as soon as they are answered, and one that
    asks it for nothing at all, to see how long its loop lets others wait."""

    socket: Path
    # When each write was begun, and how long it took.
    begun: list[float] = field(default_factory=list[float])
    took: list[float] = field(default_factory=list[float])
    pings: list[float] = field(default_factory=list[float])
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    _stopping: bool = False

    def start(self, count: int) -> None:
        self._tasks = [asyncio.create_task(self._write()) for _ in range(count)]
        self._tasks.append(asyncio.create_task(self._ping()))

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _write(self) -> None:
        async with channel_to(self.socket) as channel:
            stub = ControlStub(channel)
            while not self._stopping:
                spec = sleeping_service(f"w-{secrets.token_hex(8)}", 0)
                request = CreateServiceRequest(request_id=secrets.token_hex(16), spec=spec)
                begun = time.perf_counter()
                await _acknowledged(stub, request)
                self.begun.append(begun)
                self.took.append(time.perf_counter() - begun)

    async def _ping(self) -> None:
        async with channel_to(self.socket) as channel:
            stub = DaemonStub(channel)
            while not self._stopping:
                begun = time.perf_counter()
                await stub.Info(InfoRequest(), timeout=60)
                self.pings.append(time.perf_counter() - begun)
                await asyncio.sleep(_PING_S)

    def between(self, start: float, end: float) -> list[float]:
        """Latencies of writes that were under way in this time."""
        return [
            took
            for begun, took in zip(self.begun, self.took, strict=True)
            if begun < end and begun + took > start
        ]


async def _acknowledged(stub: ControlAsyncStub, request: CreateServiceRequest) -> None:
    """Asked again with the same id while leadership changes: that is part of the latency."""
    while True:
        try:
            await stub.CreateService(request, timeout=60)
            return
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.01)


def row_of(what: str, latencies: Sequence[float], seconds: float) -> Row:
    return Row(
        what,
        OURS,
        "ms p99",
        [1e3 * quantile(latencies, 0.99)],
        {
            "p50": round(1e3 * quantile(latencies, 0.5), 2),
            "worst": round(1e3 * max(latencies), 1),
            "writes": len(latencies),
            "s": round(seconds, 1),
        },
    )


async def fill(
    cluster: Cluster, leader: NodeProcess, workers: SimulatedWorkers, tasks: int, services: int
) -> None:
    run = secrets.token_hex(3)
    for number in range(services):
        spec = sleeping_service(f"s-{run}-{number}", tasks // services)
        # The managers' own agents are real ones.
        spec.task.placement.constraints.append("node.role==worker")
        await cluster.create(leader, spec)

    async def all_run() -> bool:
        return workers.running >= tasks // services * services

    await until(all_run, _RUNNING_S, 0.5)


def newest_snapshot(node: NodeProcess) -> Path:
    return max((node.folder / "state" / "raft" / "snapshots").glob("*.snap"))


async def set_interval(leader: NodeProcess, entries: int) -> None:
    """As `swarmctl update --snapshot-interval` does."""
    spec = (await leader.control.GetCluster(GetClusterRequest(), timeout=10)).cluster.cluster.spec
    spec.snapshot_interval = entries
    request = UpdateClusterRequest(request_id=secrets.token_hex(16), spec=spec)
    await leader.control.UpdateCluster(request, timeout=30)


async def until_saved(leader: NodeProcess, report: Report) -> None:
    """One client writes until the leader has saved a snapshot, sooner than usual: what lies below
    goes from its log, and who joins needs the snapshot."""
    before = newest_snapshot(leader)

    async def is_saving() -> bool:
        return bool(list(before.parent.glob("*.tmp"))) or await is_saved()

    async def is_saved() -> bool:
        return newest_snapshot(leader) != before

    await set_interval(leader, _FIRST_INTERVAL)
    writers = Writers(leader.socket)
    writers.start(1)
    await until(is_saving, _SAVED_S, 0.005)
    started = time.perf_counter()
    await until(is_saved, _SAVED_S, 0.005)
    saved = time.perf_counter()
    await set_interval(leader, _INTERVAL)
    await asyncio.sleep(1)
    await writers.stop()
    latencies = writers.between(started, saved)
    row = row_of("writes, 1 client, the leader saves", latencies, saved - started)
    row.extra["snapshot MiB"] = round(newest_snapshot(leader).stat().st_size / (1 << 20), 1)
    report.add(row)


async def joined(leader: NodeProcess, node_id: str) -> bool:
    with contextlib.suppress(grpc.aio.AioRpcError):
        answer = await leader.control.GetNode(GetNodeRequest(reference=node_id), timeout=5)
        manager = answer.node.manager
        return manager.reachability == REACHABILITY_REACHABLE and not manager.learner
    return False


async def compare(
    cluster: Cluster, leader: NodeProcess, clients: int, seconds: float, report: Report
) -> None:
    name = f"{clients} client{'s' if clients > 1 else ''}"
    newcomer = cluster.spare()
    await cluster.start(newcomer)
    writers = Writers(leader.socket)
    writers.start(clients)
    await asyncio.sleep(1)
    begun = time.perf_counter()
    await asyncio.sleep(seconds)
    for node in (leader, newcomer):
        processes.forget_peak(node.pids()[0])
    resident = [processes.resident_mib(node.pids()[0]) for node in (leader, newcomer)]
    pings_without, writers.pings = writers.pings, []
    asked = time.perf_counter()
    request = JoinRequest(token=cluster.manager_token, remote_addresses=[cluster.join_address])
    newcomer.node_id = (await newcomer.daemon.Join(request, timeout=_JOINED_S)).node_id

    async def has_joined() -> bool:
        return await joined(leader, newcomer.node_id)

    await until(has_joined, _JOINED_S, 0.1)
    done = time.perf_counter()
    pings_with = writers.pings
    await writers.stop()
    without = row_of(f"writes, {name}", writers.between(begun, asked), asked - begun)
    without.extra["loop p99"] = round(1e3 * quantile(pings_without, 0.99), 1)
    joining = row_of(f"writes, {name}, a manager joins", writers.between(asked, done), done - asked)
    joining.extra |= {
        "loop p99": round(1e3 * quantile(pings_with, 0.99), 1),
        "loop worst": round(1e3 * max(pings_with), 1),
        "times without": round(joining.median / without.median, 2),
        "leader MiB": f"{resident[0]:.0f}, peak {processes.peak_mib(leader.pids()[0]):.0f}",
        "joiner MiB": f"{resident[1]:.0f}, peak {processes.peak_mib(newcomer.pids()[0]):.0f}",
        "snapshot": newest_snapshot(newcomer).name[:16].lstrip("0"),
    }
    report.add(without)
    report.add(joining)
    await remove(leader, newcomer)


async def remove(leader: NodeProcess, node: NodeProcess) -> None:
    """No manager any more, and then no node."""
    view = (await leader.control.GetNode(GetNodeRequest(reference=node.node_id), timeout=5)).node
    request = UpdateNodeRequest(
        request_id=secrets.token_hex(16),
        node_id=node.node_id,
        version=view.node.meta.version,
        spec=view.node.spec,
    )
    request.spec.role = NODE_ROLE_WORKER
    await leader.control.UpdateNode(request, timeout=30)

    async def let_go() -> bool:
        listed = await leader.control.GetNode(GetNodeRequest(reference=node.node_id), timeout=5)
        role: NodeRole.ValueType = listed.node.node.role
        return role == NODE_ROLE_WORKER

    await until(let_go, 60, 0.1)
    await node.daemon.Leave(LeaveRequest(force=True), timeout=40)


async def measure(arguments: argparse.Namespace, report: Report) -> None:
    async with (
        Cluster(managers=3) as cluster,
        SimulatedWorkers(arguments.workers, cluster.join_address, cluster.worker_token) as workers,
    ):
        leader = await cluster.leader()
        started = time.perf_counter()
        await fill(cluster, leader, workers, arguments.tasks, arguments.services)
        took = time.perf_counter() - started
        report.add(Row("tasks made and running", OURS, "/s", [workers.running / took]))
        # This process holds a message for each task: see swarm.manager.garbage.
        gc.freeze()
        leader = await cluster.leader()
        await until_saved(leader, report)
        for clients in arguments.clients:
            await compare(cluster, leader, clients, arguments.seconds, report)
        follower = cluster.others(leader)[0]
        times, cpu = await restarts(cluster, follower, arguments.rounds)
        what = f"start with {workers.running:,} tasks"
        mib = round(processes.resident_mib(follower.pids()[0]))
        report.add(Row(what, OURS, "s", times, {"CPU s": round(cpu, 2), "MiB": mib}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshot", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--workers", type=int, default=100, help="simulated ones")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=10.0, help="without a manager that joins")
    parser.add_argument("--rounds", type=int, default=3, help="starts of a follower")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    report = Report("100,000 tasks, and a manager that joins")
    processes.run(measure(arguments, report))
    finish(report, arguments.json)


if __name__ == "__main__":
    main()
