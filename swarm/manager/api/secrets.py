"""Secrets, as users ask for them: never with their data."""

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.api.views import without_data
from swarm.manager.core.requests import RequestIds
from swarm.manager.core.validate import files, resolve


class SecretMethods(ControlRequests):
    async def CreateSecret(
        self, request: pb.CreateSecretRequest, context: Context
    ) -> pb.CreateSecretResponse:
        return await self.forwarding.on_leader(
            context, request, self._create, lambda channel: ControlStub(channel).CreateSecret
        )

    async def GetSecret(
        self, request: pb.GetSecretRequest, context: Context
    ) -> pb.GetSecretResponse:
        await self.read(context)
        found = resolve.secret(self.manager.store, request.reference)
        return pb.GetSecretResponse(secret=without_data(found))

    async def ListSecrets(
        self, request: pb.ListSecretsRequest, context: Context
    ) -> pb.ListSecretsResponse:
        await self.read(context)
        return pb.ListSecretsResponse(
            secrets=[without_data(row) for row in self.manager.store.secrets()]
        )

    async def UpdateSecret(
        self, request: pb.UpdateSecretRequest, context: Context
    ) -> pb.UpdateSecretResponse:
        return await self.forwarding.on_leader(
            context, request, self._update, lambda channel: ControlStub(channel).UpdateSecret
        )

    async def RemoveSecret(
        self, request: pb.RemoveSecretRequest, context: Context
    ) -> pb.RemoveSecretResponse:
        return await self.forwarding.on_leader(
            context, request, self._remove, lambda channel: ControlStub(channel).RemoveSecret
        )

    async def _create(self, request: pb.CreateSecretRequest, who: str) -> pb.CreateSecretResponse:
        request_id = request.request_id

        def build() -> Transaction:
            ids = RequestIds(request_id)
            return files.create_secret(self.manager.store, request.spec, ids, who)

        await self.commit(request_id, build)
        return pb.CreateSecretResponse(secret=self._shown(RequestIds(request_id).new()))

    async def _update(self, request: pb.UpdateSecretRequest, who: str) -> pb.UpdateSecretResponse:
        def build() -> Transaction:
            return files.update_secret(
                self.manager.store, request.secret_id, request.version, request.spec, who
            )

        await self.commit(request.request_id, build)
        return pb.UpdateSecretResponse(secret=self._shown(request.secret_id))

    async def _remove(self, request: pb.RemoveSecretRequest, who: str) -> pb.RemoveSecretResponse:
        if self.is_done(request.request_id):
            return pb.RemoveSecretResponse(secret_id=request.reference)
        secret_id = resolve.secret(self.manager.store, request.reference).id

        def build() -> Transaction:
            return files.remove_secret(self.manager.store, secret_id, who)

        await self.commit(request.request_id, build)
        return pb.RemoveSecretResponse(secret_id=secret_id)

    def _shown(self, secret_id: str) -> Secret:
        """As it is now; empty if it was removed in the meantime."""
        found = self.manager.store.secret(secret_id)
        return Secret() if found is None else without_data(found)
