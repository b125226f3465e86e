"""Services, as users ask for them."""

import time

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests, index_of
from swarm.manager.api.views import service_view
from swarm.manager.core.requests import RequestIds
from swarm.manager.core.validate import registry_login, resolve, service
from swarm.manager.core.validate.registry_login import without_login


class ServiceMethods(ControlRequests):
    async def CreateService(
        self, request: pb.CreateServiceRequest, context: Context
    ) -> pb.CreateServiceResponse:
        return await self.forwarding.on_leader(
            context, request, self._create, lambda channel: ControlStub(channel).CreateService
        )

    async def GetService(
        self, request: pb.GetServiceRequest, context: Context
    ) -> pb.GetServiceResponse:
        await self.read(context)
        found = resolve.service(self.manager.store, request.reference)
        return pb.GetServiceResponse(service=service_view(found, self.manager.store))

    async def ListServices(
        self, request: pb.ListServicesRequest, context: Context
    ) -> pb.ListServicesResponse:
        await self.read(context)
        store = self.manager.store
        return pb.ListServicesResponse(services=[service_view(s, store) for s in store.services()])

    async def UpdateService(
        self, request: pb.UpdateServiceRequest, context: Context
    ) -> pb.UpdateServiceResponse:
        return await self.forwarding.on_leader(
            context, request, self._update, lambda channel: ControlStub(channel).UpdateService
        )

    async def RemoveService(
        self, request: pb.RemoveServiceRequest, context: Context
    ) -> pb.RemoveServiceResponse:
        return await self.forwarding.on_leader(
            context, request, self._remove, lambda channel: ControlStub(channel).RemoveService
        )

    async def ServiceHistory(
        self, request: pb.ServiceHistoryRequest, context: Context
    ) -> pb.ServiceHistoryResponse:
        await self.read(context)
        store = self.manager.store
        found = resolve.service(store, request.reference)
        rows = [store.revision_row(found.id, n) for n in store.revisions_of_service(found.id)]
        kept = [row for row in rows if row is not None]
        return pb.ServiceHistoryResponse(service=without_login(found), revisions=kept)

    async def _create(self, request: pb.CreateServiceRequest, who: str) -> pb.CreateServiceResponse:
        request_id = request.request_id

        def build() -> Transaction:
            ids = RequestIds(request_id)
            store, now_ns = self.manager.store, time.time_ns()
            transaction = service.create(store, request.spec, ids, now_ns, who)
            registry_login.give(transaction, request.registry_auth)
            return transaction

        await self.commit(request_id, build)
        return pb.CreateServiceResponse(service=self._view(RequestIds(request_id).new()))

    async def _update(self, request: pb.UpdateServiceRequest, who: str) -> pb.UpdateServiceResponse:
        def build() -> Transaction:
            store, key, version = self.manager.store, request.service_id, request.version
            index, now_ns = index_of(request), time.time_ns()
            if request.rollback:
                to = request.rollback_to
                return service.rollback(store, key, version, now_ns, who, to, index)
            transaction = service.update(store, key, version, request.spec, now_ns, who, index)
            registry_login.give(transaction, request.registry_auth)
            return transaction

        await self.commit(request.request_id, build)
        return pb.UpdateServiceResponse(service=self._view(request.service_id))

    async def _remove(self, request: pb.RemoveServiceRequest, who: str) -> pb.RemoveServiceResponse:
        if self.is_done(request.request_id):
            return pb.RemoveServiceResponse(service_id=request.reference)
        service_id = resolve.service(self.manager.store, request.reference).id

        def build() -> Transaction:
            return service.remove(self.manager.store, service_id, who)

        await self.commit(request.request_id, build)
        return pb.RemoveServiceResponse(service_id=service_id)

    def _view(self, service_id: str) -> pb.ServiceView:
        """As it is now; empty if it was removed in the meantime."""
        found = self.manager.store.service(service_id)
        return pb.ServiceView() if found is None else service_view(found, self.manager.store)
