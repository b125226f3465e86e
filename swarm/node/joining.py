"""The joiner's side: pin the root by the token's digest, then get a certificate.

Nothing is sent to a server whose certificate does not go back to the pinned root: the token's
secret least of all.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import grpc
import grpc.aio

from swarm.api.v1.dispatcher_pb2 import ManagerAddress
from swarm.api.v1.join_pb2 import (
    JoinClusterRequest,
    JoinClusterResponse,
    RenewCertificateRequest,
    RootCertificateRequest,
)
from swarm.api.v1.join_pb2_grpc import CertificatesStub, JoinStub
from swarm.api.v1.managers_pb2 import JoinRaftRequest, JoinRaftResponse
from swarm.api.v1.managers_pb2_grpc import ManagersStub
from swarm.node.addresses import JOIN_PORT, Addresses, join_host_port, split
from swarm.node.listeners import CHANNEL_OPTIONS
from swarm.security.certificates import Request, create_request
from swarm.security.errors import Unreachable
from swarm.security.node_keys import NodeBundle
from swarm.security.tls import (
    join_channel,
    manager_channel,
    pin_root,
    presented_certificate,
    unverified_channel,
)
from swarm.security.tokens import parse_token

_CONNECT_TIMEOUT_S = 5.0
_CALL_TIMEOUT_S = 15.0
# Of managers there are several: one that hangs must not hold up the rest.
_TRY_TIMEOUT_S = 5.0
_ANOTHER_MAY_DO_BETTER = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
)


class JoinError(Exception):
    """One line: what went wrong with whom, and what to do."""


async def join_cluster(
    remotes: Sequence[str], request: JoinClusterRequest, keys: Request
) -> tuple[NodeBundle, JoinClusterResponse]:
    """Try the managers in turn. A refusal is final, an unreachable one is not. JoinError,
    SecurityError."""
    parse_token(request.token)
    unreachable: list[str] = []
    for remote in remotes:
        host, port = split(remote, JOIN_PORT)
        target = join_host_port(host, port)
        try:
            return await _join_at(host, port, request, keys)
        except Unreachable as error:
            unreachable.append(str(error))
        except grpc.aio.AioRpcError as error:
            if error.code() not in _ANOTHER_MAY_DO_BETTER:
                raise JoinError(error.details() or str(error.code())) from None
            unreachable.append(why_not(target, error))
    raise JoinError("; ".join(unreachable))


def why_not(target: str, error: grpc.aio.AioRpcError) -> str:
    """gRPC's own words are for its developers."""
    details = error.details() or ""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED or "timed out" in details:
        return f"{target} answers too slowly: try again, or another manager"
    if error.code() is grpc.StatusCode.UNIMPLEMENTED or "connect to all addresses" in details:
        return f"{target} is not a manager's join address: take the one of `swarmctl join-token`"
    return f"{target}: {details}"


async def _join_at(
    host: str, port: int, request: JoinClusterRequest, keys: Request
) -> tuple[NodeBundle, JoinClusterResponse]:
    token = parse_token(request.token)
    target = join_host_port(host, port)
    presented = await asyncio.to_thread(
        presented_certificate, host, port, timeout=_CONNECT_TIMEOUT_S
    )
    async with unverified_channel(target, presented, CHANNEL_OPTIONS) as channel:
        answer = await JoinStub(channel).GetRootCertificate(
            RootCertificateRequest(), timeout=_CALL_TIMEOUT_S
        )
    root = answer.certificate_pem
    pin_root(root, token, presented, now=datetime.now(UTC))
    async with join_channel(target, root, CHANNEL_OPTIONS) as channel:
        response = await JoinStub(channel).JoinCluster(request, timeout=_CALL_TIMEOUT_S)
    return NodeBundle(keys.key_pem, response.certificate_pem, root), response


async def renew_certificate(bundle: NodeBundle, managers: Sequence[str]) -> NodeBundle:
    """A certificate with the node's role of now, from any manager. JoinError."""
    keys = create_request(bundle.key_pem)
    problem = "no manager is known"
    for address in managers:
        try:
            async with manager_channel(address, bundle, CHANNEL_OPTIONS) as channel:
                answer = await CertificatesStub(channel).RenewCertificate(
                    RenewCertificateRequest(csr_pem=keys.csr_pem), timeout=_TRY_TIMEOUT_S
                )
        except grpc.aio.AioRpcError as error:
            problem = f"{address}: {error.details()}"
            continue
        return NodeBundle(keys.key_pem, answer.certificate_pem, answer.root_certificate_pem)
    raise JoinError(f"the certificate can't be renewed: {problem}")


async def join_raft(
    bundle: NodeBundle, managers: Sequence[str], addresses: Addresses
) -> JoinRaftResponse:
    """Ask the leader, whoever it is, for membership under a fresh raft id. JoinError."""
    problem = "no manager is known"
    request = JoinRaftRequest(address=addresses.node_address, join_address=addresses.join_address)
    for address in managers:
        if address == addresses.node_address:
            continue
        try:
            async with manager_channel(address, bundle, CHANNEL_OPTIONS) as channel:
                return await ManagersStub(channel).JoinRaft(request, timeout=_TRY_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            problem = f"{address}: {error.details()}"
    raise JoinError(problem)


def addresses_of(managers: Sequence[ManagerAddress]) -> tuple[str, ...]:
    return tuple(manager.address for manager in managers)
