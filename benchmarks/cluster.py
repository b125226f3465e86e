"""Our own cluster: real swarmd processes on loopback addresses, in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from benchmarks import processes
from benchmarks.network import Network
from swarm.api.v1 import control_pb2 as control
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.daemon_pb2 import (
    InfoRequest,
    InfoResponse,
    InitRequest,
    JoinRequest,
    LeaveRequest,
)
from swarm.api.v1.daemon_pb2_grpc import DaemonStub
from swarm.api.v1.node_pb2 import NODE_STATE_READY
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.worker.runtime.powercut import kill_node

DEMO = "swarm/demo:latest"
_START_TIMEOUT_S = 30.0

if TYPE_CHECKING:
    from swarm.api.v1.control_pb2_grpc import ControlAsyncStub
    from swarm.api.v1.daemon_pb2_grpc import DaemonAsyncStub


def channel_to(path: Path) -> grpc.aio.Channel:
    """A connection of its own to a daemon's socket, soon retried when it is lost."""
    return grpc.aio.secure_channel(
        f"unix:{path}",
        grpc.local_channel_credentials(grpc.LocalConnectionType.UDS),
        options=(
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        ),
    )


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float, every_s: float) -> None:
    """TimeoutError where it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(every_s)


def sleeping_service(name: str, replicas: int) -> ServiceSpec:
    """`docker service create --restart-delay 0s --stop-grace-period 0s IMAGE sleep 100000`."""
    spec = ServiceSpec()
    spec.annotations.name = name
    spec.task.container.image = DEMO
    spec.task.container.command.extend(("sleep", "100000"))
    spec.task.container.stop_grace_period_ns = 0
    spec.task.restart.delay_ns = 0
    spec.replicated.replicas = replicas
    return spec


@dataclass(slots=True)
class NodeProcess:
    """A swarmd. `node_id` once it is in the cluster."""

    name: str
    # From 1: on a Network, its machine's.
    number: int
    folder: Path
    address: str
    process: subprocess.Popen[bytes] | None = None
    node_id: str = ""
    channel: grpc.aio.Channel | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "sock"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def control(self) -> ControlAsyncStub:
        assert self.channel is not None
        return ControlStub(self.channel)

    @property
    def daemon(self) -> DaemonAsyncStub:
        assert self.channel is not None
        return DaemonStub(self.channel)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def pids(self) -> list[int]:
        """The daemon and its agent."""
        if self.process is None:
            return []
        return [self.process.pid, *processes.children_of(self.process.pid)]


@dataclass(slots=True)
class Cluster:
    """`async with Cluster(managers=3)`: ready inside, nothing left after."""

    managers: int = 1
    workers: int = 0
    runtime: str = "process"
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    # Every node on a machine of its own there; else all on loopback addresses.
    network: Network | None = None
    # How the first manager makes the cluster.
    init: InitRequest = field(default_factory=InitRequest)
    # What the first node, which makes the cluster and leads it first, runs in swarmd's place.
    leader_program: str = "swarm.node.main"
    folder: Path = field(init=False)
    nodes: list[NodeProcess] = field(init=False)
    # What another node joins with.
    join_address: str = field(init=False, default="")
    manager_token: str = field(init=False, default="")
    worker_token: str = field(init=False, default="")
    _block: str = field(init=False)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="swarm-bench-"))
        self._block = "" if self.network is not None else _free_block()
        names = [f"m{n + 1}" for n in range(self.managers)]
        names += [f"w{n + 1}" for n in range(self.workers)]
        self.nodes = []
        for name in names:
            self._add_node(name)

    def _add_node(self, name: str) -> NodeProcess:
        number = len(self.nodes) + 1
        address = f"{self._block}.{number}" if self._block else Network.address(number)
        node = NodeProcess(name, number, self.folder / name, address)
        node.folder.mkdir()
        self.nodes.append(node)
        return node

    def spare(self) -> NodeProcess:
        """One more node, in no cluster and not started; its end is the cluster's."""
        return self._add_node(f"s{len(self.nodes) + 1}")

    async def __aenter__(self) -> Cluster:
        try:
            for node in self.nodes:
                await self.start(node)
            await self._form()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Nodes

    async def start(self, node: NodeProcess) -> None:
        """Start a node's daemon, and wait for its socket to answer."""
        self.launch(node)
        if node.channel is not None:
            await node.channel.close()
        node.channel = channel_to(node.socket)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await node.daemon.Info(InfoRequest(), timeout=1)
                return
            if (
                node.process is None
                or node.process.poll() is not None
                or time.monotonic() > deadline
            ):
                raise RuntimeError(f"{node.name}: {processes.last_lines(node.log)}")
            await asyncio.sleep(0.05)

    def launch(self, node: NodeProcess, *before: str) -> None:
        """Start a node's daemon, under a command of `before` if that is given, and do not wait."""
        node.process = processes.start(
            [
                *before,
                *(self.network.machine(node.number).inside() if self.network is not None else ()),
                *(sys.executable, "-m", self._program(node)),
                *("--state-dir", node.folder / "state", "--socket", node.socket),
                *("--listen-addr", node.address, "--hostname", node.name),
                *("--runtime", self.runtime),
            ],
            node.log,
            self.environment,
        )

    def _program(self, node: NodeProcess) -> str:
        return self.leader_program if node is self.nodes[0] else "swarm.node.main"

    def power_cut(self, node: NodeProcess) -> None:
        """The daemon, its agent and its tasks die at once."""
        assert node.process is not None
        processes.kill(node.pids())
        node.process.wait()
        kill_node(node.folder / "state" / "worker" / "runtime")

    async def info(self, node: NodeProcess) -> InfoResponse:
        return await node.daemon.Info(InfoRequest(), timeout=2)

    async def leader(self) -> NodeProcess:
        """The manager that leads, as the running ones see it."""

        async def leading() -> NodeProcess | None:
            for node in self.nodes[: self.managers]:
                if node.running:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        info = await self.info(node)
                        if info.raft_id and info.raft_id == info.leader_raft_id:
                            return node
            return None

        found: list[NodeProcess] = []

        async def look() -> bool:
            node = await leading()
            found.extend([node] if node is not None else [])
            return bool(found)

        await until(look, 30, 0.02)
        return found[-1]

    def others(self, node: NodeProcess) -> list[NodeProcess]:
        """The other managers."""
        return [n for n in self.nodes[: self.managers] if n is not node]

    async def all_ready(self) -> None:
        """Wait until every node is up, and every manager reachable."""

        async def ready() -> bool:
            leader = await self.leader()
            try:
                listed = await leader.control.ListNodes(control.ListNodesRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                return False
            up = [v for v in listed.nodes if v.node.status.state == NODE_STATE_READY]
            reachable = [
                v
                for v in listed.nodes
                if v.manager.reachability == control.REACHABILITY_REACHABLE
                and not v.manager.learner
            ]
            return len(up) == len(self.nodes) and len(reachable) == self.managers

        await until(ready, 60, 0.05)

    async def _form(self) -> None:
        first = self.nodes[0]
        answer = await first.daemon.Init(self.init, timeout=30)
        first.node_id = answer.node_id
        self.join_address = answer.join_address
        self.manager_token, self.worker_token = answer.manager_token, answer.worker_token
        for node in self.nodes[1:]:
            is_manager = self.nodes.index(node) < self.managers
            request = JoinRequest(
                token=self.manager_token if is_manager else self.worker_token,
                remote_addresses=[self.join_address],
            )
            node.node_id = (await node.daemon.Join(request, timeout=60)).node_id
        await self.all_ready()

    # Services

    async def create(self, node: NodeProcess, spec: ServiceSpec) -> str:
        request = control.CreateServiceRequest(request_id=secrets.token_hex(16), spec=spec)
        answer = await node.control.CreateService(request, timeout=30)
        return answer.service.service.id

    async def running(self, node: NodeProcess, service_id: str) -> list[Task]:
        """Tasks of a service that run, and are to."""
        request = control.ListTasksRequest(service_ids=[service_id])
        listed = await node.control.ListTasks(request, timeout=5)
        tasks = [view.task for view in listed.tasks]
        return [
            task
            for task in tasks
            if task.desired_state == TASK_STATE_RUNNING and task.status.state == TASK_STATE_RUNNING
        ]

    async def wait_running(
        self, node: NodeProcess, service_id: str, count: int, timeout_s: float = 120
    ) -> None:
        async def all_run() -> bool:
            return len(await self.running(node, service_id)) >= count

        await until(all_run, timeout_s, 0.02)

    async def remove(self, node: NodeProcess, service_id: str) -> None:
        """Remove a service, and wait until its tasks are gone."""
        request = control.RemoveServiceRequest(
            request_id=secrets.token_hex(16), reference=service_id
        )
        await node.control.RemoveService(request, timeout=30)

        async def gone() -> bool:
            listing = control.ListTasksRequest(service_ids=[service_id])
            return not (await node.control.ListTasks(listing, timeout=5)).tasks

        await until(gone, 120, 0.1)

    # The end

    async def close(self) -> None:
        """Tasks, daemons and files go."""
        await asyncio.gather(*(self._leave(node) for node in self.nodes), return_exceptions=True)
        for node in self.nodes:
            if node.channel is not None:
                await node.channel.close()
            if node.process is not None:
                await asyncio.to_thread(processes.end, node.process)
            kill_node(node.folder / "state" / "worker" / "runtime")
        _unmount_below(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _leave(self, node: NodeProcess) -> None:
        """A daemon that was killed comes back for this: it knows best what it left behind."""
        if node.process is None:
            return
        if not node.running and self.runtime == "oci":
            await self.start(node)
        if node.running:
            await node.daemon.Leave(LeaveRequest(force=True), timeout=40)


def _free_block() -> str:
    """127.X.Y, with nobody on the ports of its first address."""
    while True:
        block = f"127.{random.randint(200, 250)}.{random.randint(1, 250)}"
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((f"{block}.1", 2377))
            return block


def _unmount_below(folder: Path) -> None:
    """What a node left mounted that was never started again."""
    with contextlib.suppress(OSError):
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in sorted(mounts, reverse=True):
            if point.startswith(f"{folder}{os.sep}"):
                subprocess.run(["umount", "-l", point], check=False, capture_output=True)
