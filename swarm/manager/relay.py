"""The stream on which a follower tells the leader what it heard from its agents.

Nothing is kept for a leader that can't be reached: heartbeats age, and statuses are relayed
again until they are committed.
"""

import asyncio
from collections.abc import Callable

import grpc.aio

from swarm.api.v1.managers_pb2 import RelayBatch
from swarm.api.v1.managers_pb2_grpc import ManagersStub

_WAITING_MAX = 64


class RelayStream:
    def __init__(
        self,
        address_of: Callable[[int], str],
        open_channel: Callable[[str], grpc.aio.Channel],
    ) -> None:
        self._address_of = address_of
        self._open_channel = open_channel
        self._leader = 0
        self._waiting: asyncio.Queue[RelayBatch] = asyncio.Queue(_WAITING_MAX)
        self._task: asyncio.Task[None] | None = None

    def send(self, leader: int, batch: RelayBatch) -> None:
        """To this leader; dropped when too much waits already."""
        if leader != self._leader or self._task is None or self._task.done():
            self._connect(leader)
        try:
            self._waiting.put_nowait(batch)
        except asyncio.QueueFull:
            pass

    def reconnect(self) -> None:
        self._leader = 0

    def _connect(self, leader: int) -> None:
        if self._task is not None:
            self._task.cancel()
        self._leader = leader
        self._waiting = asyncio.Queue(_WAITING_MAX)
        self._task = asyncio.create_task(
            self._run(self._address_of(leader), self._waiting), name="relay"
        )

    async def _run(self, address: str, waiting: "asyncio.Queue[RelayBatch]") -> None:
        if not address:
            return
        channel = self._open_channel(address)
        try:
            call = ManagersStub(channel).Relay()
            while True:
                await call.write(await waiting.get())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the next batch connects again
        finally:
            await channel.close()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
