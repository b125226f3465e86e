"""A manager that has written 1,000,000 log entries is started again: how long until it answers?

A node is made by `swarmctl init`'s own request and stopped. Its manager writes the entries in this
process (`stopped_manager`), the last 10,000 one fsync each, and ends just before a snapshot is
due: most of the log that a start may have to read. Then the real daemon is started on that
folder, again and again, until its socket answers a read that is linearizable. Which files of the
log and the snapshots it opens is recorded with strace in one start more, if there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc.aio

from benchmarks import processes
from benchmarks.cluster import Cluster, NodeProcess, sleeping_service
from benchmarks.report import Report, Row, finish
from benchmarks.stopped_manager import stopped_manager, write_entries
from swarm.api.v1.control_pb2 import ListNodesRequest
from swarm.api.v1.store_pb2 import (
    TABLE_SERVICE,
    TABLE_SERVICE_REVISION,
    Change,
    Deletion,
    LogPayload,
)
from swarm.manager.core.store import RandomIds, View, revision_id
from swarm.manager.core.validate import service
from swarm.manager.wal_segments import list_segments

OURS = "ours"
_TOGETHER = 200
_SINGLE = 10_000
_SERVICES = 1_000
_INTERVAL = 10_000
_SPARED = 100
_ANSWER_S = 60.0


def creations(view: View, count: int) -> Iterator[LogPayload]:
    """Each creates a service, as the API would; the one of a thousand entries ago goes."""
    ids = RandomIds(secrets.randbits)
    run = secrets.token_hex(4)
    spec = sleeping_service(run, 0)
    first = service.create(view, spec, ids, time.time_ns(), "benchmark")
    made: list[str] = []
    for number in range(count):
        payload = LogPayload(proposed_at_ns=time.time_ns(), transactions=[first])
        transaction = payload.transactions[0]
        transaction.request_id = secrets.token_hex(16)
        created = transaction.changes[0].create.service
        row = transaction.changes[1].create.service_revision
        created.id = row.service_id = ids.new()
        created.name = row.spec.annotations.name = f"{run}-{number}"
        row.id = revision_id(created.id, 1)
        made.append(created.id)
        if number >= _SERVICES:
            transaction.changes.extend(_removal(made[number - _SERVICES]))
        yield payload


def _removal(service_id: str) -> list[Change]:
    first = revision_id(service_id, 1)
    return [
        Change(delete=Deletion(table=TABLE_SERVICE, id=service_id)),
        Change(delete=Deletion(table=TABLE_SERVICE_REVISION, id=first)),
    ]


async def fill(node: NodeProcess, entries: int, report: Report) -> int:
    """Returns the index of the last entry."""
    started, cpu = time.perf_counter(), time.process_time()
    async with stopped_manager(node.folder / "state") as manager:
        consensus = manager.core.consensus
        # The next snapshot would be due at a multiple; starts write a few entries of their own.
        last = (entries - 1) // _INTERVAL * _INTERVAL + _INTERVAL - _SPARED
        rest = last - consensus.applied_index
        single = min(_SINGLE, rest)
        payloads = creations(manager.store, rest)
        await write_entries(manager, _first(payloads, rest - single), _TOGETHER)
        await write_entries(manager, payloads, 1)
        last = consensus.applied_index
        took, used = time.perf_counter() - started, time.process_time() - cpu
        row = Row("entries written", OURS, "/s", [rest / took])
        report.add(row)
        row.extra |= {"entries": last, "CPU µs/entry": round(1e6 * used / rest)}
    return last


def _first(payloads: Iterator[LogPayload], count: int) -> Iterator[LogPayload]:
    for _ in range(count):
        yield next(payloads)


def on_disk(node: NodeProcess) -> dict[str, float | int | str]:
    """What is left of the log and the snapshots."""
    raft = node.folder / "state" / "raft"
    files = [path.stat() for path in raft.rglob("*") if path.is_file()]
    segments = list_segments(raft / "wal")
    return {
        "MiB on disk": round(sum(file.st_blocks * 512 for file in files) / (1 << 20), 1),
        "segments": len(segments),
        "first entry kept": segments[0].first_index,
        "snapshots": len(list((raft / "snapshots").glob("*.snap"))),
    }


async def start_and_read(cluster: Cluster, node: NodeProcess, *before: str) -> tuple[float, float]:
    """Seconds from the daemon's start to a linearizable read, and CPU seconds that it took."""
    started = time.perf_counter()
    cluster.launch(node, *before)
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await node.control.ListNodes(ListNodesRequest(), timeout=_ANSWER_S)
            break
        if not node.running:
            raise RuntimeError(f"{node.name}: {processes.last_lines(node.log)}")
        await asyncio.sleep(0.01)
    assert node.process is not None
    return time.perf_counter() - started, processes.cpu_seconds([node.process.pid])


async def stop(node: NodeProcess) -> None:
    assert node.process is not None
    await asyncio.to_thread(processes.end, node.process)


async def restarts(cluster: Cluster, node: NodeProcess, rounds: int) -> tuple[list[float], float]:
    """Seconds of each start, and the mean CPU seconds."""
    took: list[float] = []
    cpu = 0.0
    for _ in range(rounds):
        await stop(node)
        seconds, used = await start_and_read(cluster, node)
        took.append(seconds)
        cpu += used / rounds
    return took, cpu


async def opened_files(cluster: Cluster, node: NodeProcess) -> list[str]:
    """Names of the log's and the snapshots' files that a start opens."""
    await stop(node)
    trace = cluster.folder / "trace"
    await start_and_read(
        cluster, node, "strace", "-f", "-qq", "-e", "trace=openat", "-o", str(trace)
    )
    for pid in node.pids()[1:]:
        os.kill(pid, signal.SIGTERM)
    await stop(node)
    paths = re.findall(r'openat\(.*?"([^"]*\.(?:wal|snap))"', trace.read_text(errors="replace"))
    return sorted({Path(path).name for path in paths})


async def measure(arguments: argparse.Namespace, report: Report) -> None:
    async with Cluster(managers=1) as cluster:
        node = cluster.nodes[0]
        await stop(node)
        last = await fill(node, arguments.entries, report)
        kept = on_disk(node)
        await start_and_read(cluster, node)
        took, cpu = await restarts(cluster, node, arguments.rounds)
        row = Row(
            f"start after {last:,} entries", OURS, "s", took, {"CPU s": round(cpu, 2), **kept}
        )
        report.add(row)
        if shutil.which("strace") is not None:
            names = await opened_files(cluster, node)
            print(f"  opened at a start: {', '.join(names)}", flush=True)
            row.extra["files opened"] = len(names)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    report = Report("A manager's start after many log entries")
    processes.run(measure(arguments, report))
    finish(report, arguments.json)


if __name__ == "__main__":
    main()
