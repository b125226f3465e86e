"""The cluster object and its join tokens."""

import time

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.api.views import cluster_view
from swarm.manager.core.validate import cluster
from swarm.manager.manager import Unavailable
from swarm.security.tokens import generate_token


class ClusterMethods(ControlRequests):
    async def GetCluster(
        self, request: pb.GetClusterRequest, context: Context
    ) -> pb.GetClusterResponse:
        await self.read(context)
        return pb.GetClusterResponse(cluster=cluster_view(self._cluster(), self.manager.core))

    async def UpdateCluster(
        self, request: pb.UpdateClusterRequest, context: Context
    ) -> pb.UpdateClusterResponse:
        return await self.forwarding.on_leader(
            context, request, self._update, lambda channel: ControlStub(channel).UpdateCluster
        )

    async def JoinTokens(
        self, request: pb.JoinTokensRequest, context: Context
    ) -> pb.JoinTokensResponse:
        return await self.forwarding.on_leader(
            context, request, self._tokens, lambda channel: ControlStub(channel).JoinTokens
        )

    async def _update(self, request: pb.UpdateClusterRequest, who: str) -> pb.UpdateClusterResponse:
        def build() -> Transaction:
            return cluster.update(
                self.manager.store, request.version, request.spec, time.time_ns(), who
            )

        await self.commit(request.request_id, build)
        return pb.UpdateClusterResponse(cluster=cluster_view(self._cluster(), self.manager.core))

    async def _tokens(self, request: pb.JoinTokensRequest, who: str) -> pb.JoinTokensResponse:
        await self.manager.read(5.0)
        if request.rotate_worker or request.rotate_manager:
            root = self._cluster().root_certificate_pem
            worker = generate_token(root) if request.rotate_worker else ""
            manager = generate_token(root) if request.rotate_manager else ""

            def build() -> Transaction:
                return cluster.rotate_tokens(self.manager.store, worker, manager, who)

            await self.commit(request.request_id, build)
        secrets = self._cluster().secrets
        return pb.JoinTokensResponse(
            worker=secrets.worker_token,
            manager=secrets.manager_token,
            join_addresses=self._join_addresses(),
        )

    def _join_addresses(self) -> list[str]:
        core = self.manager.core
        members = [m for m in core.store.members() if not m.removed and not m.learner]
        members.sort(key=lambda m: (m.raft_id != core.leader, m.join_address))
        return [m.join_address for m in members]

    def _cluster(self) -> Cluster:
        found = self.manager.store.cluster()
        if found is None:
            raise Unavailable("this manager has not caught up with the cluster yet; try again")
        return found
