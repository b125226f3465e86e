"""Administrators' certificates: whoever may use this API may give another person the use of it."""

import time
from datetime import UTC, datetime, timedelta

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.manager.api.interceptor import Context
from swarm.manager.api.join import manager_addresses
from swarm.manager.api.requests import ControlRequests
from swarm.manager.core.validate import InvalidRequest, cluster
from swarm.manager.manager import Unavailable
from swarm.security.certificates import KeyPair, issue_admin_certificate, node_id_of
from swarm.security.errors import SecurityError


class AdminMethods(ControlRequests):
    async def CreateAdminCertificate(
        self, request: pb.CreateAdminCertificateRequest, context: Context
    ) -> pb.CreateAdminCertificateResponse:
        return await self.forwarding.on_leader(
            context,
            request,
            self._create,
            lambda channel: ControlStub(channel).CreateAdminCertificate,
        )

    async def _create(
        self, request: pb.CreateAdminCertificateRequest, who: str
    ) -> pb.CreateAdminCertificateResponse:
        try:
            key_id = node_id_of(request.csr_pem)
        except SecurityError as error:
            raise InvalidRequest(str(error)) from None
        made = cluster.admin_certificate(
            key_id, request.name, request.lifetime_ns, time.time_ns(), who
        )
        # Noted first: none is out there that nobody knows of.
        await self.commit(
            request.request_id, lambda: cluster.note_certificate(self.manager.store, made)
        )
        found = self.manager.store.cluster()
        if found is None:
            raise Unavailable("this manager has not caught up with the cluster yet; try again")
        return pb.CreateAdminCertificateResponse(
            certificate_pem=_issue(found, request.csr_pem),
            root_certificate_pem=found.root_certificate_pem,
            manager_addresses=[a.address for a in manager_addresses(self.manager.store)],
        )


def _issue(found: Cluster, csr_pem: bytes) -> bytes:
    """As it was noted, perhaps by an earlier leader that was asked the same."""
    key_id = node_id_of(csr_pem)
    noted = next(made for made in found.admin_certificates if made.id == key_id)
    try:
        return issue_admin_certificate(
            KeyPair(found.root_certificate_pem, found.secrets.root_key_pem),
            csr_pem,
            name=noted.name,
            cluster_id=found.id,
            now=datetime.fromtimestamp(noted.issued_at_ns / 1e9, UTC),
            lifetime=timedelta(microseconds=(noted.expires_at_ns - noted.issued_at_ns) / 1e3),
        )
    except SecurityError as error:
        raise InvalidRequest(str(error)) from None
