"""Configs, as users ask for them."""

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.core.requests import RequestIds
from swarm.manager.core.validate import files, resolve


class ConfigMethods(ControlRequests):
    async def CreateConfig(
        self, request: pb.CreateConfigRequest, context: Context
    ) -> pb.CreateConfigResponse:
        return await self.forwarding.on_leader(
            context, request, self._create, lambda channel: ControlStub(channel).CreateConfig
        )

    async def GetConfig(
        self, request: pb.GetConfigRequest, context: Context
    ) -> pb.GetConfigResponse:
        await self.read(context)
        found = resolve.config(self.manager.store, request.reference)
        return pb.GetConfigResponse(config=found)

    async def ListConfigs(
        self, request: pb.ListConfigsRequest, context: Context
    ) -> pb.ListConfigsResponse:
        await self.read(context)
        return pb.ListConfigsResponse(configs=list(self.manager.store.configs()))

    async def UpdateConfig(
        self, request: pb.UpdateConfigRequest, context: Context
    ) -> pb.UpdateConfigResponse:
        return await self.forwarding.on_leader(
            context, request, self._update, lambda channel: ControlStub(channel).UpdateConfig
        )

    async def RemoveConfig(
        self, request: pb.RemoveConfigRequest, context: Context
    ) -> pb.RemoveConfigResponse:
        return await self.forwarding.on_leader(
            context, request, self._remove, lambda channel: ControlStub(channel).RemoveConfig
        )

    async def _create(self, request: pb.CreateConfigRequest, who: str) -> pb.CreateConfigResponse:
        request_id = request.request_id

        def build() -> Transaction:
            ids = RequestIds(request_id)
            return files.create_config(self.manager.store, request.spec, ids, who)

        await self.commit(request_id, build)
        return pb.CreateConfigResponse(config=self._shown(RequestIds(request_id).new()))

    async def _update(self, request: pb.UpdateConfigRequest, who: str) -> pb.UpdateConfigResponse:
        def build() -> Transaction:
            return files.update_config(
                self.manager.store, request.config_id, request.version, request.spec, who
            )

        await self.commit(request.request_id, build)
        return pb.UpdateConfigResponse(config=self._shown(request.config_id))

    async def _remove(self, request: pb.RemoveConfigRequest, who: str) -> pb.RemoveConfigResponse:
        if self.is_done(request.request_id):
            return pb.RemoveConfigResponse(config_id=request.reference)
        config_id = resolve.config(self.manager.store, request.reference).id

        def build() -> Transaction:
            return files.remove_config(self.manager.store, config_id, who)

        await self.commit(request.request_id, build)
        return pb.RemoveConfigResponse(config_id=config_id)

    def _shown(self, config_id: str) -> Config:
        """As it is now; empty if it was removed in the meantime."""
        found = self.manager.store.config(config_id)
        return Config() if found is None else found
