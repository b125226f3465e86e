"""Logs of tasks: asked of the managers that hold the agents' sessions, and by them of the agents.

Nothing is stored. A subscription lives as long as the call that asked for it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc.aio

from swarm.api.v1.dispatcher_pb2 import ManagerMessage
from swarm.api.v1.logs_pb2 import LogBatch, LogOptions, LogSubscription
from swarm.api.v1.managers_pb2_grpc import ManagersStub
from swarm.api.v1.task_pb2 import Task
from swarm.manager.manager import AgentSession, Manager

# Batches not yet taken by whoever reads; an agent that is faster than its reader waits on
# gRPC's flow control only so far, then loses the oldest subscription's place.
_PENDING_MAX = 1_000


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
    ) -> AsyncIterator[LogBatch]:
        """From all managers at once. A manager or node that can't be reached becomes an `error`."""
        queue: asyncio.Queue[LogBatch | None] = asyncio.Queue(_PENDING_MAX)
        task_ids = [task.id for task in tasks]
        members = [m for m in self._manager.store.members() if not m.removed]
        sources = [
            asyncio.create_task(
                self._pump(
                    self.local(task_ids, options)
                    if member.raft_id == self._manager.core.raft_id
                    else self._remote(member.address, task_ids, options),
                    queue,
                    "" if member.raft_id == self._manager.core.raft_id else member.address,
                )
            )
            for member in members
        ]
        try:
            ended = 0
            while ended < len(sources):
                batch = await queue.get()
                if batch is None:
                    ended += 1
                else:
                    yield batch
        finally:
            for source in sources:
                source.cancel()
            await asyncio.gather(*sources, return_exceptions=True)

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
