"""Real handshakes on loopback: who gets in, who is refused, and what a joiner believes."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio
import pytest

from swarm.api.v1 import join_pb2, join_pb2_grpc
from swarm.security import certificates, tls, tokens
from swarm.security.errors import SecurityError
from swarm.security.node_keys import NodeBundle
from swarm.security.roles import Caller, Role, caller_from_auth_context

NOW = datetime.now(UTC)


class Service(join_pb2_grpc.JoinServicer):
    """Answers with its root certificate, and remembers who asked."""

    def __init__(self, root_pem: bytes) -> None:
        self.root_pem = root_pem
        self.callers: list[Caller | SecurityError] = []

    async def GetRootCertificate(
        self,
        request: join_pb2.RootCertificateRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> join_pb2.RootCertificateResponse:
        try:
            self.callers.append(caller_from_auth_context(context.auth_context()))
        except SecurityError as error:
            self.callers.append(error)
        return join_pb2.RootCertificateResponse(certificate_pem=self.root_pem)


@pytest.fixture(scope="module")
def root() -> certificates.KeyPair:
    return certificates.create_root("c1", now=NOW)


def bundle(root: certificates.KeyPair, node_id: str, role: Role = Role.MANAGER) -> NodeBundle:
    request = certificates.create_request()
    certificate = certificates.issue_node_certificate(
        root, request.csr_pem, node_id=node_id, cluster_id="c1", role=role, now=NOW
    )
    return NodeBundle(request.key_pem, certificate, root.certificate_pem)


@asynccontextmanager
async def serving(
    service: Service, credentials: grpc.ServerCredentials, address: str = "127.0.0.1:0"
) -> AsyncIterator[int]:
    server = grpc.aio.server()
    join_pb2_grpc.add_JoinServicer_to_server(service, server)
    port = server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def ask(channel: grpc.aio.Channel) -> bytes:
    async with channel:
        answer = await join_pb2_grpc.JoinStub(channel).GetRootCertificate(
            join_pb2.RootCertificateRequest(), timeout=10
        )
        return answer.certificate_pem


async def refused(asking: Awaitable[bytes]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asking
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


async def test_nodes_and_administrators_get_in_with_their_names(
    root: certificates.KeyPair,
) -> None:
    server, worker = bundle(root, "m1"), bundle(root, "w1", Role.WORKER)
    request = certificates.create_request()
    admin = certificates.issue_admin_certificate(
        root, request.csr_pem, name="jane", cluster_id="c1", now=NOW
    )
    service = Service(root.certificate_pem)
    async with serving(service, tls.node_server_credentials(lambda: server)) as port:
        target = f"127.0.0.1:{port}"
        await ask(tls.manager_channel(target, bundle(root, "m2")))
        await ask(tls.manager_channel(target, worker))
        pair = certificates.KeyPair(admin, request.key_pem)
        await ask(tls.admin_channel(target, root.certificate_pem, pair))
    assert service.callers == [
        Caller(Role.MANAGER, "m2", "c1", "node m2"),
        Caller(Role.WORKER, "w1", "c1", "node w1"),
        Caller(Role.ADMIN, "", "c1", "admin jane"),
    ]


async def test_who_has_no_certificate_of_the_cluster_is_refused(
    root: certificates.KeyPair,
) -> None:
    server = bundle(root, "m1")
    stranger = bundle(certificates.create_root("c1", now=NOW), "m1")
    posing = NodeBundle(stranger.key_pem, stranger.certificate_pem, root.certificate_pem)
    listener = certificates.create_request()
    listener_certificate = certificates.issue_server_certificate(
        root, listener.csr_pem, hosts=[], cluster_id="c1", now=NOW
    )
    service = Service(root.certificate_pem)
    async with serving(service, tls.node_server_credentials(lambda: server)) as port:
        target = f"127.0.0.1:{port}"
        await refused(ask(tls.manager_channel(target, posing)))
        await refused(ask(tls.join_channel(target, root.certificate_pem)))
        # A server's certificate is none to call with.
        await refused(
            ask(
                tls.manager_channel(
                    target,
                    NodeBundle(listener.key_pem, listener_certificate, root.certificate_pem),
                )
            )
        )
        # And the caller refuses a server of another cluster.
        await refused(ask(tls.manager_channel(target, stranger)))
    assert service.callers == []


async def test_a_worker_can_not_pose_as_a_manager(root: certificates.KeyPair) -> None:
    worker = bundle(root, "w1", Role.WORKER)
    service = Service(root.certificate_pem)
    async with serving(service, tls.node_server_credentials(lambda: worker)) as port:
        await refused(ask(tls.manager_channel(f"127.0.0.1:{port}", bundle(root, "m1"))))
    assert service.callers == []


async def test_a_renewed_certificate_is_shown_to_the_next_client(
    root: certificates.KeyPair,
) -> None:
    current = bundle(root, "m1")
    service = Service(root.certificate_pem)
    async with serving(service, tls.node_server_credentials(lambda: current)) as port:
        open_channel = tls.manager_channel(f"127.0.0.1:{port}", bundle(root, "m2"))
        stub = join_pb2_grpc.JoinStub(open_channel)
        await stub.GetRootCertificate(join_pb2.RootCertificateRequest(), timeout=10)
        current = bundle(root, "m1")
        shown = await _presented(port)
        assert shown.split() == current.certificate_pem.split()
        # The connection of before lives on.
        await stub.GetRootCertificate(join_pb2.RootCertificateRequest(), timeout=10)
        await open_channel.close()


async def _presented(port: int) -> bytes:
    return await asyncio.to_thread(tls.presented_certificate, "127.0.0.1", port, timeout=10)


async def test_a_listener_keeps_its_certificate_until_there_is_another(
    root: certificates.KeyPair,
) -> None:
    """Seen by a client that resumes its session: gRPC forgets sessions with the certificate that
    they began with. Given a new one at each handshake, it died of two clients at once."""
    current = bundle(root, "m1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where sessions come with the handshake
    context.set_alpn_protocols(["h2"])

    def connect(
        port: int, session: ssl.SSLSession | None = None
    ) -> tuple[ssl.SSLSession | None, bool | None]:
        """The session, and whether it is the one that was given."""
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
            context.wrap_socket(connection, session=session) as secured,
        ):
            return secured.session, secured.session_reused

    async with serving(
        Service(root.certificate_pem), tls.join_server_credentials(lambda: current)
    ) as port:
        session, resumed = await asyncio.to_thread(connect, port)
        assert not resumed
        for _ in range(3):
            _, resumed = await asyncio.to_thread(connect, port, session)
            assert resumed
        current = bundle(root, "m1")
        _, resumed = await asyncio.to_thread(connect, port, session)
        assert not resumed


async def test_a_joiner_pins_the_root_by_its_token(root: certificates.KeyPair) -> None:
    server = bundle(root, "m1")
    token = tokens.parse_token(tokens.generate_token(root.certificate_pem))
    service = Service(root.certificate_pem)
    async with serving(service, tls.join_server_credentials(lambda: server)) as port:
        target = f"127.0.0.1:{port}"
        shown = await _presented(port)
        fetched = await ask(tls.unverified_channel(target, shown))
        tls.pin_root(fetched, token, shown, now=NOW)
        assert await ask(tls.join_channel(target, fetched)) == root.certificate_pem
    assert all(isinstance(caller, SecurityError) for caller in service.callers)


async def test_somebody_in_the_middle_is_found_out(root: certificates.KeyPair) -> None:
    """They relay the true root, but can show no certificate of it; or serve their own root."""
    theirs = certificates.create_root("c1", now=NOW)
    middle = bundle(theirs, "m1")
    worker = bundle(root, "w1", Role.WORKER)
    token = tokens.parse_token(tokens.generate_token(root.certificate_pem))
    with pytest.raises(SecurityError, match="does not match the join token"):
        tls.pin_root(theirs.certificate_pem, token, middle.certificate_pem, now=NOW)
    for shown in (middle.certificate_pem, worker.certificate_pem):
        with pytest.raises(SecurityError, match="not of this cluster"):
            tls.pin_root(root.certificate_pem, token, shown, now=NOW)
    service = Service(root.certificate_pem)
    async with serving(service, tls.join_server_credentials(lambda: middle)) as port:
        await refused(ask(tls.join_channel(f"127.0.0.1:{port}", root.certificate_pem)))
        # The unverified channel trusts the certificate shown and no other.
        other = worker.certificate_pem
        await refused(ask(tls.unverified_channel(f"127.0.0.1:{port}", other)))


async def test_the_unix_socket_is_local(tmp_path: Path, root: certificates.KeyPair) -> None:
    service = Service(root.certificate_pem)
    address = f"unix:{tmp_path}/swarmd.sock"
    async with serving(service, tls.local_server_credentials(), address):
        assert await ask(grpc.aio.insecure_channel(address)) == root.certificate_pem
        local = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        assert await ask(grpc.aio.secure_channel(address, local)) == root.certificate_pem
    assert [caller.role for caller in service.callers if isinstance(caller, Caller)] == [
        Role.LOCAL,
        Role.LOCAL,
    ]


@pytest.fixture
def listening() -> Callable[[], int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return lambda: port


def test_nobody_listening_is_said_clearly(listening: Callable[[], int]) -> None:
    port = listening()
    with pytest.raises(SecurityError, match=f"127.0.0.1:{port} can't be reached .*refused"):
        tls.presented_certificate("127.0.0.1", port, timeout=5)


def test_a_listener_that_stays_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SecurityError, match="can't be reached"):
            tls.presented_certificate("127.0.0.1", port, timeout=0.2)
