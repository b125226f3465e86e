"""Logs of tasks: asked of the managers that hold the agents' sessions, and by them of the agents.

Nothing is stored. A subscription lives as long as the call that asked for it.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc.aio

from swarm.api.v1.dispatcher_pb2 import ManagerMessage
from swarm.api.v1.logs_pb2 import LogBatch, LogLine, LogOptions, LogSubscription
from swarm.api.v1.managers_pb2_grpc import ManagersStub
from swarm.api.v1.task_pb2 import Task
from swarm.manager.manager import AgentSession, Manager

# Batches not yet taken by whoever reads; an agent that is faster than its reader waits on
# gRPC's flow control only so far, then loses the oldest subscription's place.
_PENDING_MAX = 1_000
# After an agent or a manager went away, all is asked for anew this often, for so long: agents
# find another manager within it.
_ROUND_S = 1.0
_RESTLESS_S = 10.0


@dataclass(slots=True)
class _Subscription:
    id: str
    sessions: dict[str, AgentSession]
    batches: "asyncio.Queue[LogBatch]" = field(default_factory=lambda: asyncio.Queue())
    unfinished: set[str] = field(default_factory=set[str])


class LogBroker:
    def __init__(self, manager: Manager, open_channel: Callable[[str], grpc.aio.Channel]) -> None:
        self._manager = manager
        self._open_channel = open_channel
        self._subscriptions: dict[str, _Subscription] = {}

    # From agents

    def received(self, session: AgentSession, batch: LogBatch) -> None:
        subscription = self._subscriptions.get(batch.subscription_id)
        if subscription is None or session.session_id not in subscription.sessions:
            return
        if subscription.batches.qsize() >= _PENDING_MAX:
            return
        batch.node_id = session.node_id
        for line in batch.lines:
            line.node_id = session.node_id
        if batch.done:
            subscription.unfinished.discard(session.session_id)
        subscription.batches.put_nowait(batch)

    def session_closed(self, session: AgentSession) -> None:
        for subscription in self._subscriptions.values():
            if session.session_id in subscription.unfinished:
                subscription.unfinished.discard(session.session_id)
                subscription.batches.put_nowait(
                    LogBatch(done=True, error=f"node {session.node_id} went away")
                )

    # For managers

    async def local(self, task_ids: Sequence[str], options: LogOptions) -> AsyncIterator[LogBatch]:
        """From the agents whose sessions this manager holds; nothing for tasks of others."""
        by_session: dict[str, tuple[AgentSession, list[str]]] = {}
        for task_id in task_ids:
            task = self._manager.store.task(task_id)
            session = self._manager.session_of(task.node_id) if task is not None else None
            if session is not None:
                by_session.setdefault(session.session_id, (session, []))[1].append(task_id)
        subscription = _Subscription(
            secrets.token_hex(8), {sid: session for sid, (session, _) in by_session.items()}
        )
        subscription.unfinished = set(by_session)
        self._subscriptions[subscription.id] = subscription
        try:
            for session, ids in by_session.values():
                request = LogSubscription(id=subscription.id, task_ids=ids, options=options)
                session.outgoing.put_nowait(ManagerMessage(log_subscription=request))
            while subscription.unfinished or not subscription.batches.empty():
                yield await subscription.batches.get()
        finally:
            del self._subscriptions[subscription.id]
            for session, _ in by_session.values():
                session.outgoing.put_nowait(ManagerMessage(log_unsubscribe=subscription.id))

    async def everywhere(
        self, tasks: Sequence[Task], options: LogOptions
    ) -> AsyncGenerator[LogBatch, None]:
        """From all managers at once. A manager or node that can't be reached becomes an `error`."""
        queue: asyncio.Queue[LogBatch | None] = asyncio.Queue(_PENDING_MAX)
        sources = self._start([task.id for task in tasks], options, queue)
        try:
            ended = 0
            while ended < len(sources):
                batch = await queue.get()
                if batch is None:
                    ended += 1
                else:
                    yield batch
        finally:
            await _stop(sources)

    async def follow(
        self, tasks_now: Callable[[], Sequence[Task]], options: LogOptions
    ) -> AsyncGenerator[LogBatch, None]:
        """Without an end. Where agents move to another manager or tasks are made, all is asked
        for anew, each task from where its lines were."""
        positions: dict[str, int] = {}
        said: set[str] = set()
        restless_until = 0.0
        first = True
        while True:
            asked = {task.id: task for task in tasks_now()}
            queue: asyncio.Queue[LogBatch | None] = asyncio.Queue(_PENDING_MAX)
            sources = self._start_from(asked, positions, options, first, queue)
            began, errors, first = time.monotonic(), set[str](), False
            handed_out = dict(positions)
            try:
                while not self._is_over(asked, tasks_now, began, restless_until):
                    batch = await _next(queue)
                    if batch is None:
                        continue
                    if batch.error:
                        errors.add(batch.error)
                        if batch.error not in said:
                            yield LogBatch(error=batch.error)
                            restless_until = time.monotonic() + _RESTLESS_S
                    lines = [line for line in batch.lines if _is_new(line, handed_out)]
                    positions.update((line.task_id, line.timestamp_ns) for line in lines)
                    if lines:
                        yield LogBatch(lines=lines)
            finally:
                await _stop(sources)
            said = errors

    def _start_from(
        self,
        asked: dict[str, Task],
        positions: dict[str, int],
        options: LogOptions,
        first: bool,
        queue: "asyncio.Queue[LogBatch | None]",
    ) -> "list[asyncio.Task[None]]":
        """Those that have said something go on; those that are new begin at their beginning."""
        whole = LogOptions()
        whole.CopyFrom(options)
        if not first:
            whole.tail = -1
        sources = self._start([i for i in asked if i not in positions], whole, queue)
        known = [task_id for task_id in asked if task_id in positions]
        if known:
            rest = LogOptions()
            rest.CopyFrom(options)
            rest.tail, rest.since_ns = -1, min(positions[task_id] for task_id in known)
            sources += self._start(known, rest, queue)
        return sources

    def _is_over(
        self,
        asked: dict[str, Task],
        tasks_now: Callable[[], Sequence[Task]],
        began: float,
        restless_until: float,
    ) -> bool:
        """Is it time to ask anew: for tasks that are new, or while agents look for managers?"""
        now = time.monotonic()
        if now < restless_until:
            return now - began > _ROUND_S
        return any(task.id not in asked for task in tasks_now())

    def _start(
        self,
        task_ids: Sequence[str],
        options: LogOptions,
        queue: "asyncio.Queue[LogBatch | None]",
    ) -> "list[asyncio.Task[None]]":
        if not task_ids:
            return []
        own = self._manager.core.raft_id
        members = [m for m in self._manager.store.members() if not m.removed]
        return [
            asyncio.create_task(
                self._pump(
                    self.local(task_ids, options)
                    if member.raft_id == own
                    else self._remote(member.address, task_ids, options),
                    queue,
                    member.address,
                )
            )
            for member in members
        ]

    async def _remote(
        self, address: str, task_ids: Sequence[str], options: LogOptions
    ) -> AsyncIterator[LogBatch]:
        channel = self._open_channel(address)
        try:
            request = LogSubscription(task_ids=task_ids, options=options)
            async for batch in ManagersStub(channel).Logs(request):
                yield batch
        finally:
            await channel.close()

    async def _pump(
        self,
        batches: AsyncIterator[LogBatch],
        queue: "asyncio.Queue[LogBatch | None]",
        address: str,
    ) -> None:
        try:
            async with aclosing(batches):  # type: ignore[type-var]
                async for batch in batches:
                    await queue.put(batch)
        except grpc.aio.AioRpcError:
            await queue.put(
                LogBatch(error=f"manager {address} can't be reached: logs may miss lines")
            )
        finally:
            await queue.put(None)


async def _stop(sources: "Sequence[asyncio.Task[None]]") -> None:
    for source in sources:
        source.cancel()
    await asyncio.gather(*sources, return_exceptions=True)


async def _next(queue: "asyncio.Queue[LogBatch | None]") -> LogBatch | None:
    """None where a source ended, or nothing came for a moment."""
    try:
        async with asyncio.timeout(_ROUND_S):
            return await queue.get()
    except TimeoutError:
        return None


def _is_new(line: LogLine, handed_out: dict[str, int]) -> bool:
    """Not among the lines that an earlier round handed out already."""
    return line.timestamp_ns > handed_out.get(line.task_id, 0)
