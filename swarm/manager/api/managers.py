"""What managers ask of each other beside Raft's own messages."""

from collections.abc import AsyncIterator

from swarm.api.v1.logs_pb2 import LogBatch, LogSubscription
from swarm.api.v1.managers_pb2 import (
    JoinRaftRequest,
    JoinRaftResponse,
    RelayBatch,
    RelaySummary,
)
from swarm.api.v1.managers_pb2_grpc import ManagersServicer
from swarm.manager.api.authorization import caller_of
from swarm.manager.api.interceptor import Context
from swarm.manager.logs import LogBroker
from swarm.manager.manager import Manager, Unavailable


class ManagersApi(ManagersServicer):
    def __init__(self, manager: Manager, logs: LogBroker) -> None:
        self._manager = manager
        self._logs = logs

    async def JoinRaft(self, request: JoinRaftRequest, context: Context) -> JoinRaftResponse:  # type: ignore[override]
        """Only the leader answers; the caller asks the managers it knows in turn."""
        if not self._manager.core.leads_and_knows:
            raise Unavailable(self._manager.no_leader_message())
        node_id = caller_of(context).node_id
        raft_id = await self._manager.join_raft(node_id, request.address, request.join_address)
        return JoinRaftResponse(raft_id=raft_id, members=self._manager.store.members())

    async def Relay(  # type: ignore[override]
        self, request_iterator: AsyncIterator[RelayBatch], context: Context
    ) -> RelaySummary:
        async for batch in request_iterator:
            self._manager.relayed(batch)
        return RelaySummary()

    async def Logs(self, request: LogSubscription, context: Context) -> AsyncIterator[LogBatch]:  # type: ignore[override]
        async for batch in self._logs.local(request.task_ids, request.options):
            yield batch
