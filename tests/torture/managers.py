"""The daemons, kept as a service manager keeps them: one that ends is started again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from benchmarks import processes
from benchmarks.cluster import Cluster, NodeProcess, channel_to
from benchmarks.network import Network
from swarm.api.v1.daemon_pb2 import InfoRequest
from swarm.api.v1.daemon_pb2_grpc import DaemonStub
from tests.torture.disks import Disk

_LOOK_EVERY_S = 0.05
_RESTART_AFTER_S = 1.0
_LEADS = re.compile(r"term (\d+): this manager leads")
# What no daemon's log may have.
_INTERNAL = re.compile(r"Traceback|internal error|never retrieved|was never awaited")


@dataclass(frozen=True, slots=True)
class Ending:
    """A daemon that nobody had killed."""

    name: str
    code: int
    disk_full: bool
    last_lines: str

    @property
    def is_allowed(self) -> bool:
        """A daemon may refuse to run on a full disk, if it says so."""
        return self.disk_full and "space" in self.last_lines

    def __str__(self) -> str:
        where = " with its disk full" if self.disk_full else ""
        return f"{self.name} ended by itself{where}, exit code {self.code}: {self.last_lines}"


class Managers:
    """`disks` by the managers' numbers."""

    def __init__(self, cluster: Cluster, network: Network, disks: dict[int, Disk]) -> None:
        self.cluster = cluster
        self.network = network
        self.disks = disks
        self.endings: list[Ending] = []
        self.restarts = 0
        self._held_down: Counter[int] = Counter()
        self._killed: set[int] = set()
        self._ended_at: dict[int, float] = {}

    @property
    def sockets(self) -> list[Path]:
        return [node.socket for node in self.cluster.nodes]

    def __getitem__(self, number: int) -> NodeProcess:
        return self.cluster.nodes[number - 1]

    async def keep(self) -> None:
        """Until it is cancelled."""
        while True:
            for node in self.cluster.nodes:
                self._look_after(node)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _look_after(self, node: NodeProcess) -> None:
        assert node.process is not None
        code = node.process.poll()
        if code is None:
            return
        if node.process.pid not in self._killed and node.number not in self._ended_at:
            self._ended_at[node.number] = time.monotonic()
            full = self.disks[node.number].full
            self.endings.append(Ending(node.name, code, full, processes.last_lines(node.log, 3)))
        ended_at = self._ended_at.get(node.number, 0.0)
        if not self._held_down[node.number] and time.monotonic() - ended_at > _RESTART_AFTER_S:
            self._ended_at.pop(node.number, None)
            self.restarts += 1
            self.cluster.launch(node)

    def kill(self, number: int) -> None:
        """SIGKILL of the daemon alone; it stays down until `let_start`."""
        self._held_down[number] += 1
        process = self[number].process
        assert process is not None
        if process.poll() is None:
            self._killed.add(process.pid)
            process.kill()

    def let_start(self, number: int) -> None:
        self._held_down[number] -= 1

    def pause(self, number: int) -> list[int]:
        """SIGSTOP for daemon and agent; what is returned is for `go_on`."""
        pids = self[number].pids() if self[number].running else []
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        return pids

    def go_on(self, pids: list[int]) -> None:
        for pid in pids:
            _signal(pid, signal.SIGCONT)

    async def leader(self) -> int | None:
        """The number of a manager that says it leads."""
        found = await asyncio.gather(*(_leads(node) for node in self.cluster.nodes))
        return next(
            (n.number for n, leads in zip(self.cluster.nodes, found, strict=True) if leads), None
        )

    def power_cut(self) -> None:
        """All at once, agents too."""
        for node in self.cluster.nodes:
            processes.kill(node.pids())
        for node in self.cluster.nodes:
            assert node.process is not None
            node.process.wait()

    # What their logs say

    def elections(self) -> int:
        """Terms in which somebody led."""
        logs = (node.log.read_text(errors="replace") for node in self.cluster.nodes)
        return len({term for text in logs for term in _LEADS.findall(text)})

    def wrongs(self) -> list[str]:
        """Daemons that ended without a reason, errors that are none of a user's."""
        found = [str(ending) for ending in self.endings if not ending.is_allowed]
        for node in self.cluster.nodes:
            text = node.log.read_text(errors="replace")
            match = _INTERNAL.search(text)
            if match is not None:
                around = text[max(0, match.start() - 200) : match.start() + 3000]
                found.append(f"{node.name}'s log: {around}")
        return found


async def _leads(node: NodeProcess) -> bool:
    if not node.running:
        return False
    channel = channel_to(node.socket)
    try:
        info = await DaemonStub(channel).Info(InfoRequest(), timeout=0.5)
        return bool(info.raft_id) and info.raft_id == info.leader_raft_id
    except grpc.aio.AioRpcError:
        return False
    finally:
        await channel.close()


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
