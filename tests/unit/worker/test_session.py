"""Streams to managers that end before they were of any use: nothing of them stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from swarm.api.v1.dispatcher_pb2 import AgentMessage, ManagerMessage
from swarm.api.v1.dispatcher_pb2_grpc import (
    DispatcherServicer,
    add_DispatcherServicer_to_server,
)
from swarm.worker.core.events import Event, SessionClosed
from swarm.worker.session import ManagerStreams


class _Refusing(DispatcherServicer):
    async def Session(  # type: ignore[override]
        self, request_iterator: AsyncIterator[AgentMessage], context: Any
    ) -> AsyncIterator[ManagerMessage]:
        await anext(aiter(request_iterator))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "this manager has no leader")
        yield ManagerMessage()


def _waiting_for_messages() -> list[asyncio.Task[Any]]:
    """gRPC's own tasks that take what is to be sent."""
    return [task for task in asyncio.all_tasks() if "_consume_request_iterator" in repr(task)]


@pytest.mark.parametrize("somebody_listens", [True, False])
async def test_nothing_is_left_of_a_stream_that_its_manager_ended(
    tmp_path: Path, somebody_listens: bool
) -> None:
    address = f"unix:{tmp_path}/manager"
    server = grpc.aio.server()
    add_DispatcherServicer_to_server(_Refusing(), server)
    if somebody_listens:
        server.add_insecure_port(address)
    await server.start()
    closed: asyncio.Queue[Event] = asyncio.Queue()
    streams = ManagerStreams(grpc.aio.insecure_channel, closed.put_nowait)
    try:
        streams.connect(1, address)
        streams.send(1, AgentMessage())
        event = await asyncio.wait_for(closed.get(), 10)
        assert isinstance(event, SessionClosed)
        if waiting := _waiting_for_messages():
            await asyncio.wait(waiting, timeout=2)
        assert _waiting_for_messages() == []
    finally:
        await streams.close(0)
        await server.stop(0)
