"""Workers without a machine: nodes that joined as any other, whose agents hold a real session each
and say of every task that it runs. Nothing is started."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio

from swarm.api.v1.dispatcher_pb2 import (
    AgentMessage,
    Assignments,
    SessionHeartbeat,
    SessionHello,
    StatusReport,
    TaskStatusUpdate,
)
from swarm.api.v1.dispatcher_pb2_grpc import DispatcherStub
from swarm.api.v1.join_pb2 import JoinClusterRequest, JoinClusterResponse
from swarm.api.v1.node_pb2 import NodeDescription
from swarm.api.v1.task_pb2 import (
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    ContainerStatus,
    Task,
    TaskState,
    TaskStatus,
)
from swarm.node.joining import JoinError, join_cluster
from swarm.node.listeners import CHANNEL_OPTIONS
from swarm.security.certificates import Request, create_request
from swarm.security.node_keys import NodeBundle
from swarm.security.tls import manager_channel

_HEARTBEAT_S = 1.0
_RECONNECT_S = 0.2
_JOINING_AT_ONCE = 4
_JOIN_PATIENCE_S = 60.0


@dataclass(slots=True)
class _Worker:
    hostname: str
    bundle: NodeBundle
    # Tried in turn, the first of them first.
    managers: Sequence[str]
    # Ids of tasks whose RUNNING is committed.
    running: set[str] = field(default_factory=set[str])
    _outgoing: asyncio.Queue[AgentMessage] = field(default_factory=asyncio.Queue[AgentMessage])
    _incarnation: int = 0
    _revision: int = 0
    # A call may answer to its cancellation with an error of its own.
    _stopping: bool = False

    def stop(self) -> None:
        self._stopping = True

    async def run(self) -> None:
        for address in itertools.cycle(self.managers):
            if self._stopping:
                return
            try:
                async with manager_channel(address, self.bundle, CHANNEL_OPTIONS) as channel:
                    await self._session(channel)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(_RECONNECT_S)

    async def _session(self, channel: grpc.aio.Channel) -> None:
        self._outgoing = asyncio.Queue()
        async for message in DispatcherStub(channel).Session(self._messages()):
            if message.HasField("assignments"):
                self._assigned(message.assignments)
            elif message.HasField("acknowledged"):
                self._acknowledged(message.acknowledged.updates)

    async def _messages(self) -> AsyncIterator[AgentMessage]:
        yield AgentMessage(
            hello=SessionHello(
                description=_described(self.hostname),
                address="127.0.0.1",
                incarnation=self._incarnation,
                revision=self._revision,
            )
        )
        while True:
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    message = await self._outgoing.get()
            except TimeoutError:
                message = AgentMessage(heartbeat=SessionHeartbeat())
            yield message

    def _assigned(self, assignments: Assignments) -> None:
        self._incarnation, self._revision = assignments.incarnation, assignments.revision
        self.running.difference_update(assignments.removed_task_ids)
        updates: list[TaskStatusUpdate] = []
        for task in assignments.tasks:
            state = _next_state(task)
            if state is not None:
                updates.append(TaskStatusUpdate(task_id=task.id, status=_status(state)))
            elif task.status.state == TASK_STATE_RUNNING:
                self.running.add(task.id)
        if updates:
            self._outgoing.put_nowait(AgentMessage(statuses=StatusReport(updates=updates)))

    def _acknowledged(self, updates: Sequence[TaskStatusUpdate]) -> None:
        for update in updates:
            if update.status.state == TASK_STATE_RUNNING:
                self.running.add(update.task_id)
            else:
                self.running.discard(update.task_id)


def _next_state(task: Task) -> TaskState.ValueType | None:
    if task.desired_state > TASK_STATE_RUNNING:
        return TASK_STATE_SHUTDOWN if task.status.state <= TASK_STATE_RUNNING else None
    return TASK_STATE_RUNNING if task.status.state < TASK_STATE_RUNNING else None


def _status(state: TaskState.ValueType) -> TaskStatus:
    container = ContainerStatus(container_id=secrets.token_hex(32), pid=1)
    return TaskStatus(
        state=state, timestamp_ns=time.time_ns(), message="started", container=container
    )


def _described(hostname: str) -> NodeDescription:
    description = NodeDescription(hostname=hostname)
    description.platform.os, description.platform.architecture = "linux", "x86_64"
    description.resources.nano_cpus = 64 * 10**9
    description.resources.memory_bytes = 256 << 30
    description.engine.runtime = "simulated"
    return description


class SimulatedWorkers:
    """`async with SimulatedWorkers(...)`: they are there inside, and gone without a word after."""

    def __init__(self, count: int, join_address: str, token: str) -> None:
        self._count = count
        self._join_address = join_address
        self._token = token
        self._workers: list[_Worker] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        """Tasks that run, as far as the managers have acknowledged it."""
        return sum(len(worker.running) for worker in self._workers)

    async def __aenter__(self) -> SimulatedWorkers:
        gate = asyncio.Semaphore(_JOINING_AT_ONCE)
        self._workers = await asyncio.gather(*(self._join(n, gate) for n in range(self._count)))
        self._tasks = [asyncio.create_task(worker.run()) for worker in self._workers]
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, number: int, gate: asyncio.Semaphore) -> _Worker:
        hostname = f"simulated-{number}"
        keys = create_request()
        request = JoinClusterRequest(
            token=self._token,
            csr_pem=keys.csr_pem,
            description=_described(hostname),
            address="127.0.0.1",
        )
        async with gate:
            bundle, answer = await self._ask(request, keys)
        managers = [manager.address for manager in answer.managers]
        turn = number % len(managers)
        return _Worker(hostname, bundle, [*managers[turn:], *managers[:turn]])

    async def _ask(
        self, request: JoinClusterRequest, keys: Request
    ) -> tuple[NodeBundle, JoinClusterResponse]:
        """Asked again, it is the same node: managers let in so many a second."""
        deadline = time.monotonic() + _JOIN_PATIENCE_S
        while True:
            try:
                return await join_cluster([self._join_address], request, keys)
            except JoinError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_RECONNECT_S)
