"""The streams to the workers' agents."""

import asyncio
from collections.abc import AsyncIterator

from swarm.api.v1.dispatcher_pb2 import AgentMessage, ManagerMessage
from swarm.api.v1.dispatcher_pb2_grpc import DispatcherServicer
from swarm.api.v1.image_pb2 import FindImageRequest, FindImageResponse
from swarm.manager.api.authorization import caller_of
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import READ_TIMEOUT_S
from swarm.manager.core.validate import ErrorCode, InvalidRequest, images
from swarm.manager.image_nodes import ImageNodes
from swarm.manager.logs import LogBroker
from swarm.manager.manager import AgentSession, Manager, Unavailable


class DispatcherApi(DispatcherServicer):
    def __init__(self, manager: Manager, logs: LogBroker, image_nodes: ImageNodes) -> None:
        self._manager = manager
        self._logs = logs
        self._image_nodes = image_nodes

    async def Session(  # type: ignore[override]
        self, request_iterator: AsyncIterator[AgentMessage], context: Context
    ) -> AsyncIterator[ManagerMessage]:
        session = self._manager.open_session(caller_of(context).node_id)
        reading = asyncio.create_task(self._read(session, request_iterator))
        try:
            while (message := await session.outgoing.get()) is not None:
                yield message
            raise Unavailable(session.close_reason or "the agent ended the session")
        finally:
            reading.cancel()
            self._logs.session_closed(session)
            self._manager.close_session(session)

    async def FindImage(self, request: FindImageRequest, context: Context) -> FindImageResponse:
        """What is committed by now: a task that names an image may be news to a follower."""
        await self._manager.read(READ_TIMEOUT_S)
        store, wanted = self._manager.store, request.digest or request.reference
        image = store.image(wanted) if request.digest else images.named(store, wanted)
        if image is None:
            raise InvalidRequest(f"image {wanted} not found", ErrorCode.NOT_FOUND)
        peers = self._image_nodes.peers(image, caller_of(context).node_id)
        return FindImageResponse(image=image, peers=peers)

    async def _read(self, session: AgentSession, messages: AsyncIterator[AgentMessage]) -> None:
        try:
            async for message in messages:
                if message.HasField("logs"):
                    self._logs.received(session, message.logs)
                else:
                    self._manager.session_message(session, message)
        finally:
            session.outgoing.put_nowait(None)
