"""Nodes, as users ask for them."""

import time

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import READ_TIMEOUT_S, ControlRequests, index_of
from swarm.manager.api.views import node_view
from swarm.manager.core.validate import node, resolve


class NodeMethods(ControlRequests):
    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.GetNodeResponse:
        await self.read(context)
        found = self._resolve(request.reference)
        return pb.GetNodeResponse(node=node_view(found, self.manager.core))

    async def ListNodes(
        self, request: pb.ListNodesRequest, context: Context
    ) -> pb.ListNodesResponse:
        """Reachability of managers is what the leader knows, so it answers."""
        return await self.forwarding.on_leader(
            context,
            request,
            self._list,
            lambda channel: ControlStub(channel).ListNodes,
            READ_TIMEOUT_S,
        )

    async def UpdateNode(
        self, request: pb.UpdateNodeRequest, context: Context
    ) -> pb.UpdateNodeResponse:
        return await self.forwarding.on_leader(
            context, request, self._update, lambda channel: ControlStub(channel).UpdateNode
        )

    async def RemoveNode(
        self, request: pb.RemoveNodeRequest, context: Context
    ) -> pb.RemoveNodeResponse:
        return await self.forwarding.on_leader(
            context, request, self._remove, lambda channel: ControlStub(channel).RemoveNode
        )

    async def _list(self, request: pb.ListNodesRequest, who: str) -> pb.ListNodesResponse:
        core = self.manager.core
        await self.manager.read(5.0)
        return pb.ListNodesResponse(nodes=[node_view(n, core) for n in core.store.nodes()])

    async def _update(self, request: pb.UpdateNodeRequest, who: str) -> pb.UpdateNodeResponse:
        core = self.manager.core

        def build() -> Transaction:
            reachable = core.reachable_members() or frozenset[int]()
            return node.update(
                core.store,
                request.node_id,
                request.version,
                request.spec,
                reachable,
                time.time_ns(),
                who,
                index_of(request),
            )

        await self.commit(request.request_id, build)
        found = core.store.node(request.node_id)
        view = pb.NodeView() if found is None else node_view(found, core)
        return pb.UpdateNodeResponse(node=view)

    async def _remove(self, request: pb.RemoveNodeRequest, who: str) -> pb.RemoveNodeResponse:
        if self.is_done(request.request_id):
            return pb.RemoveNodeResponse(node_id=request.reference)
        store = self.manager.store
        node_id = resolve.node(store, request.reference).id

        def build() -> Transaction:
            return node.remove(store, node_id, request.force, who)

        await self.commit(request.request_id, build)
        return pb.RemoveNodeResponse(node_id=node_id)

    def _resolve(self, reference: str) -> Node:
        if reference == "self":
            member = self.manager.store.member(self.manager.core.raft_id)
            reference = member.node_id if member is not None else reference
        return resolve.node(self.manager.store, reference)
