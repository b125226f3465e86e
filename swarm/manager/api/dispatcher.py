"""The streams to the workers' agents."""

import asyncio
from collections.abc import AsyncIterator

from swarm.api.v1.dispatcher_pb2 import AgentMessage, ManagerMessage
from swarm.api.v1.dispatcher_pb2_grpc import DispatcherServicer
from swarm.manager.api.authorization import caller_of
from swarm.manager.api.interceptor import Context
from swarm.manager.logs import LogBroker
from swarm.manager.manager import AgentSession, Manager, Unavailable


class DispatcherApi(DispatcherServicer):
    def __init__(self, manager: Manager, logs: LogBroker) -> None:
        self._manager = manager
        self._logs = logs

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

    async def _read(self, session: AgentSession, messages: AsyncIterator[AgentMessage]) -> None:
        try:
            async for message in messages:
                if message.HasField("logs"):
                    self._logs.received(session, message.logs)
                else:
                    self._manager.session_message(session, message)
        finally:
            session.outgoing.put_nowait(None)
