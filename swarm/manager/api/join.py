"""How machines become nodes: the join listener, and certificates for those that are.

The join listener is open to whoever reaches the port, so it is limited in size and rate, and
gives away nothing but the root certificate until a token's secret is shown.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.dispatcher_pb2 import ManagerAddress
from swarm.api.v1.join_pb2 import (
    JoinClusterRequest,
    JoinClusterResponse,
    RenewCertificateRequest,
    RenewCertificateResponse,
    RootCertificateRequest,
    RootCertificateResponse,
)
from swarm.api.v1.join_pb2_grpc import CertificatesServicer, JoinServicer, JoinStub
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER, Node, NodeRole
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.api.authorization import caller_of
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.core.store import View
from swarm.manager.core.validate import ErrorCode, InvalidRequest, node
from swarm.manager.manager import Manager, Unavailable
from swarm.security.certificates import KeyPair, issue_node_certificate, node_id_of
from swarm.security.errors import AccessDenied
from swarm.security.roles import Role
from swarm.security.tokens import tokens_equal

log = logging.getLogger(__name__)

# Joins a second on one manager, and how many may come at once.
_RATE = 20.0
_BURST = 40.0
_PASSED_ON = "swarm-passed-on"
# How long a join waits for a leader.
_PATIENCE_S = 5.0

OpenChannel = Callable[[str], grpc.aio.Channel]


class RateLimit:
    """A token bucket over all callers: an open port must not cost the manager its loop."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, time.monotonic()

    def take(self) -> None:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            raise Unavailable("too many join requests at once; try again in a moment")
        self._left -= 1


class JoinApi(ControlRequests, JoinServicer):
    """`open_join_channel` reaches another manager's join listener, with its root known."""

    open_join_channel: OpenChannel
    limit: RateLimit = RateLimit(_RATE, _BURST)

    async def GetRootCertificate(  # type: ignore[override]
        self, request: RootCertificateRequest, context: Context
    ) -> RootCertificateResponse:
        self.limit.take()
        return RootCertificateResponse(certificate_pem=self._cluster().root_certificate_pem)

    async def JoinCluster(  # type: ignore[override]
        self, request: JoinClusterRequest, context: Context
    ) -> JoinClusterResponse:
        self.limit.take()
        passed_on = _PASSED_ON in dict(context.invocation_metadata() or ())
        deadline = time.monotonic() + (0 if passed_on else _PATIENCE_S)
        while True:
            try:
                if self.manager.core.leads_and_knows:
                    return await self._join(request)
                return await self._pass_on(request, passed_on)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            # An election takes a moment, and is no reason to send somebody away.
            await self.manager.role_change(0.1)

    async def _pass_on(self, request: JoinClusterRequest, passed_on: bool) -> JoinClusterResponse:
        member = self.manager.store.member(self.manager.core.leader)
        if passed_on or member is None or self.manager.leading:
            raise Unavailable(self.manager.no_leader_message())
        async with self.open_join_channel(member.join_address) as channel:
            stub = JoinStub(channel)
            try:
                return await stub.JoinCluster(
                    request, timeout=_PATIENCE_S, metadata=((_PASSED_ON, "1"),)
                )
            except grpc.aio.AioRpcError as error:
                if error.code() in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                ):
                    raise Unavailable(error.details() or "") from None
                raise

    async def _join(self, request: JoinClusterRequest) -> JoinClusterResponse:
        cluster = self._cluster()
        role = _role_of_token(request.token, cluster)
        if role == NODE_ROLE_MANAGER and request.cannot_manage:
            raise InvalidRequest(request.cannot_manage, ErrorCode.FAILED_PRECONDITION)
        node_id = node_id_of(request.csr_pem)
        known = self.manager.store.node(node_id)
        if known is None:
            await self.commit("", lambda: self._node(request, node_id, role))
        elif known.role != role:
            raise _known_otherwise(known)
        certificate = issue(cluster, request.csr_pem, node_id, role)
        log.info("node %s (%s) joined", node_id, request.description.hostname)
        return JoinClusterResponse(
            node_id=node_id,
            cluster_id=cluster.id,
            role=role,
            certificate_pem=certificate,
            root_certificate_pem=cluster.root_certificate_pem,
            managers=manager_addresses(self.manager.store),
        )

    def _node(
        self, request: JoinClusterRequest, node_id: str, role: NodeRole.ValueType
    ) -> Transaction:
        return node.join(
            self.manager.store,
            node_id,
            role,
            request.description,
            request.availability,
            request.address,
            time.time_ns(),
        )

    def _cluster(self) -> Cluster:
        cluster = self.manager.store.cluster()
        if cluster is None:
            raise Unavailable("this manager has not caught up with the cluster yet; try again")
        return cluster


class CertificatesApi(CertificatesServicer):
    """Any manager signs: the root's key is in the store. The role is the one stored there."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def RenewCertificate(  # type: ignore[override]
        self, request: RenewCertificateRequest, context: Context
    ) -> RenewCertificateResponse:
        await self._manager.read(5.0)
        store = self._manager.store
        found: Node | None = store.node(caller_of(context).node_id)
        cluster = store.cluster()
        if found is None or cluster is None:
            raise InvalidRequest("this node was removed from the swarm", ErrorCode.NOT_FOUND)
        return RenewCertificateResponse(
            role=found.role,
            certificate_pem=issue(cluster, request.csr_pem, found.id, found.role),
            root_certificate_pem=cluster.root_certificate_pem,
        )


def issue(cluster: Cluster, csr_pem: bytes, node_id: str, role: NodeRole.ValueType) -> bytes:
    """A node certificate with the cluster's lifetime. SecurityError for a bad request."""
    return issue_node_certificate(
        KeyPair(cluster.root_certificate_pem, cluster.secrets.root_key_pem),
        csr_pem,
        node_id=node_id,
        cluster_id=cluster.id,
        role=Role.MANAGER if role == NODE_ROLE_MANAGER else Role.WORKER,
        now=datetime.now(UTC),
        lifetime=timedelta(microseconds=cluster.spec.certificate_expiry_ns / 1e3),
    )


def manager_addresses(view: View) -> list[ManagerAddress]:
    return [
        ManagerAddress(node_id=m.node_id, address=m.address)
        for m in view.members()
        if not m.removed and not m.learner
    ]


def _known_otherwise(node: Node) -> InvalidRequest:
    """Its join was cut off, and the token is of another role this time."""
    name = "manager" if node.role == NODE_ROLE_MANAGER else "worker"
    return InvalidRequest(
        f"this machine is in the swarm already, as {name} {node.id}: use a {name}'s token, "
        f"or remove it there first (swarmctl node rm {node.id})",
        ErrorCode.FAILED_PRECONDITION,
    )


def _role_of_token(token: str, cluster: Cluster) -> NodeRole.ValueType:
    if tokens_equal(token, cluster.secrets.manager_token):
        return NODE_ROLE_MANAGER
    if tokens_equal(token, cluster.secrets.worker_token):
        return NODE_ROLE_WORKER
    raise AccessDenied(
        "the join token is not valid: it may have been rotated; "
        "`swarmctl join-token worker` on a manager prints the current one"
    )
