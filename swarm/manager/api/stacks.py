"""Stacks, as users ask for them."""

import time

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.store_pb2 import TABLE_SERVICE, Transaction
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.core.requests import RequestIds
from swarm.manager.core.validate import stack


class StackMethods(ControlRequests):
    async def DeployStack(
        self, request: pb.DeployStackRequest, context: Context
    ) -> pb.DeployStackResponse:
        if request.plan:
            await self.read(context)
            store, ids = self.manager.store, RequestIds(request.request_id)
            _, changes = stack.deploy(store, request, ids, time.time_ns(), "")
            return pb.DeployStackResponse(changes=changes)
        return await self.forwarding.on_leader(
            context, request, self._deploy, lambda channel: ControlStub(channel).DeployStack
        )

    async def RemoveStack(
        self, request: pb.RemoveStackRequest, context: Context
    ) -> pb.RemoveStackResponse:
        return await self.forwarding.on_leader(
            context, request, self._remove, lambda channel: ControlStub(channel).RemoveStack
        )

    async def _deploy(self, request: pb.DeployStackRequest, who: str) -> pb.DeployStackResponse:
        changes: list[pb.StackChange] = []

        def build() -> Transaction:
            ids = RequestIds(request.request_id)
            store = self.manager.store
            transaction, done = stack.deploy(store, request, ids, time.time_ns(), who)
            changes[:] = done
            return transaction

        await self.commit(request.request_id, build)
        return pb.DeployStackResponse(changes=changes or self._as_they_are(request.name))

    async def _remove(self, request: pb.RemoveStackRequest, who: str) -> pb.RemoveStackResponse:
        changes: list[pb.StackChange] = []

        def build() -> Transaction:
            transaction, done = stack.remove(self.manager.store, request.name, who)
            changes[:] = done
            return transaction

        await self.commit(request.request_id, build)
        return pb.RemoveStackResponse(changes=changes)

    def _as_they_are(self, name: str) -> list[pb.StackChange]:
        """For a request that took effect before, and whose answer was lost."""
        return [
            pb.StackChange(table=TABLE_SERVICE, id=row.id, name=row.name)
            for row in stack.services_of(self.manager.store, name)
        ]
