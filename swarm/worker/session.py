"""The streams to managers: a gRPC Session call each, opened, written and read as the core says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import grpc.aio

from swarm.api.v1.dispatcher_pb2 import AgentMessage
from swarm.api.v1.dispatcher_pb2_grpc import DispatcherStub
from swarm.worker.core.events import Event, Received, SessionClosed

# Batches of log lines that may wait on a stream; heartbeats and statuses never wait for these.
LOG_BATCHES_WAITING = 4
_REFUSALS = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)

OpenChannel = Callable[[str], grpc.aio.Channel]


class _Stream:
    def __init__(self) -> None:
        self.outgoing: asyncio.Queue[tuple[AgentMessage, bool] | None] = asyncio.Queue()
        self.log_room = asyncio.Semaphore(LOG_BATCHES_WAITING)
        self.task: asyncio.Task[None] | None = None

    async def messages(self) -> AsyncIterator[AgentMessage]:
        while (entry := await self.outgoing.get()) is not None:
            message, is_log = entry
            yield message
            if is_log:
                self.log_room.release()


class ManagerStreams:
    """`deliver` gets Received and SessionClosed."""

    def __init__(self, open_channel: OpenChannel, deliver: Callable[[Event], None]) -> None:
        self._open_channel = open_channel
        self._deliver = deliver
        self._streams: dict[int, _Stream] = {}
        self._running: set[asyncio.Task[None]] = set()

    def connect(self, session: int, address: str) -> None:
        stream = self._streams[session] = _Stream()
        stream.task = asyncio.create_task(self._run(session, address, stream))
        self._running.add(stream.task)
        stream.task.add_done_callback(self._running.discard)

    def send(self, session: int, message: AgentMessage) -> None:
        stream = self._streams.get(session)
        if stream is not None:
            stream.outgoing.put_nowait((message, False))

    async def send_log(self, session: int, message: AgentMessage) -> None:
        """Waits while the manager takes no more. Raises ConnectionError after the session."""
        stream = self._streams.get(session)
        if stream is not None:
            await stream.log_room.acquire()
        if stream is None or self._streams.get(session) is not stream:
            raise ConnectionError("the session is over")
        stream.outgoing.put_nowait((message, True))

    def disconnect(self, session: int) -> None:
        stream = self._streams.pop(session, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()

    async def close(self, patience_s: float) -> None:
        """Ends every stream after what waits to be sent is on its way, within `patience_s`."""
        for stream in self._streams.values():
            stream.outgoing.put_nowait(None)
        if self._running:
            await asyncio.wait(self._running, timeout=patience_s)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._streams.clear()

    async def _run(self, session: int, address: str, stream: _Stream) -> None:
        reason, refused = "the manager ended the session", False
        try:
            async with self._open_channel(address) as channel:
                async for message in DispatcherStub(channel).Session(stream.messages()):
                    if self._streams.get(session) is stream:
                        self._deliver(Received(session, message))
        except grpc.aio.AioRpcError as error:
            reason, refused = f"{error.details()}", error.code() in _REFUSALS
        except Exception as error:
            reason = str(error)
        finally:
            # Where the manager ended the call, gRPC waits for another message without end
            # (grpc/grpc#29518).
            stream.outgoing.put_nowait(None)
        if self._streams.pop(session, None) is stream:
            for _ in range(LOG_BATCHES_WAITING):
                stream.log_room.release()
            self._deliver(SessionClosed(session, f"{address}: {reason}", refused))
