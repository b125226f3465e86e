"""TLS for gRPC: who shows which certificate, and what the other side checks.

Between nodes both sides show a certificate of the cluster's authority, and a client also checks
that it talks to a *manager*: the name ``swarm-manager`` is in managers' certificates only, and
stands in for the host name. A machine that joins has no certificate and no root yet; it gets the
root over a link that trusts just the certificate presented there, and believes it only if the
join token's digest says so.
"""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import grpc
import grpc.aio

from swarm.security import certificates, tokens
from swarm.security.certificates import KeyPair
from swarm.security.errors import SecurityError, Unreachable
from swarm.security.node_keys import NodeBundle
from swarm.security.roles import Role
from swarm.security.tokens import JoinToken

ChannelOptions = Sequence[tuple[str, str | int]]

# Reconnecting: quick enough for a failover, slow enough for a dead peer (DESIGN, who is alive).
# What gRPC calls the smallest backoff is how long one attempt may take, handshakes included: on a
# machine whose processors are all busy, that is far more than the pause between two attempts.
_RECONNECT: ChannelOptions = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

# How long handshakes that have begun may take to get hold of the listener's certificate.
_BEGINNING_S = 0.1


# --- servers ------------------------------------------------------------------------------


def node_server_credentials(current: Callable[[], NodeBundle]) -> grpc.ServerCredentials:
    """For the listener between nodes: callers without a certificate of this cluster are refused.

    ``current`` is asked at each handshake, in a thread of gRPC: a renewed certificate is shown
    to the next client, while open connections live on.
    """
    return _dynamic_credentials(current, require_client_authentication=True)


def join_server_credentials(current: Callable[[], NodeBundle]) -> grpc.ServerCredentials:
    """For the join listener: the server shows its certificate and asks for none."""
    return _dynamic_credentials(current, require_client_authentication=False)


def local_server_credentials() -> grpc.ServerCredentials:
    """For the unix socket, whose file mode says who may come; callers get ``Role.LOCAL``."""
    return grpc.local_server_credentials(grpc.LocalConnectionType.UDS)


def _dynamic_credentials(
    current: Callable[[], NodeBundle], *, require_client_authentication: bool
) -> grpc.ServerCredentials:
    certificate = ShownCertificate(current)
    return grpc.dynamic_ssl_server_credentials(
        certificate.first(),
        certificate.renewed,  # pyright: ignore[reportArgumentType] - None is for no change
        require_client_authentication,
    )


class ShownCertificate:
    """What a listener shows: the certificate of now, told to gRPC only when it is another one.

    gRPC frees the one before without looking whether a handshake in another thread is about to
    use it (https://github.com/grpc/grpc/issues/36693): a new one for every handshake ends the
    process as soon as two clients come at once.
    """

    def __init__(self, current: Callable[[], NodeBundle]) -> None:
        self._current = current
        self._shown = current()

    def first(self) -> grpc.ServerCertificateConfiguration:
        return _configuration(self._shown)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """None for the same as before. Called by gRPC with a lock of the listener's held."""
        bundle = self._current()
        if bundle == self._shown:
            return None
        # No handshake begins meanwhile, and those that had begun have what they need by then.
        time.sleep(_BEGINNING_S)
        self._shown = bundle
        return _configuration(bundle)


def _configuration(bundle: NodeBundle) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(bundle.key_pem, bundle.certificate_pem)], bundle.root_pem
    )


# --- clients ------------------------------------------------------------------------------


def manager_channel(
    target: str, bundle: NodeBundle, options: ChannelOptions = ()
) -> grpc.aio.Channel:
    """A channel from this node to a manager.

    It keeps the certificate that it was made with: after a renewal make a new one, move the calls
    there and close this one (grpc has no client side of dynamic credentials).
    """
    return _channel(target, bundle.root_pem, bundle.key_pem, bundle.certificate_pem, options)


def node_channel(
    target: str, node_id: str, bundle: NodeBundle, options: ChannelOptions = ()
) -> grpc.aio.Channel:
    """A channel from this node to that very node, manager or worker. See `manager_channel`."""
    return _channel(
        target, bundle.root_pem, bundle.key_pem, bundle.certificate_pem, options, name=node_id
    )


def admin_channel(
    target: str, root_pem: bytes, pair: KeyPair, options: ChannelOptions = ()
) -> grpc.aio.Channel:
    """A channel from an administrator's machine to a manager."""
    return _channel(target, root_pem, pair.key_pem, pair.certificate_pem, options)


def join_channel(target: str, root_pem: bytes, options: ChannelOptions = ()) -> grpc.aio.Channel:
    """A channel to the join listener of a manager, once the root is pinned."""
    return _channel(target, root_pem, None, None, options)


def unverified_channel(
    target: str, certificate_pem: bytes, options: ChannelOptions = ()
) -> grpc.aio.Channel:
    """A channel to whoever presented this certificate: to ask for the root, nothing else.

    See :func:`pin_root` for what makes the answer trustworthy.
    """
    return _channel(target, certificate_pem, None, None, options)


def _channel(
    target: str,
    root_pem: bytes,
    key_pem: bytes | None,
    certificate_pem: bytes | None,
    options: ChannelOptions,
    name: str = Role.MANAGER.value,
) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(root_pem, key_pem, certificate_pem)
    expected = ("grpc.ssl_target_name_override", name)
    return grpc.aio.secure_channel(target, credentials, options=[expected, *_RECONNECT, *options])


# --- joining ------------------------------------------------------------------------------


def presented_certificate(host: str, port: int, *, timeout: float) -> bytes:
    """The certificate that whoever listens there presents, as PEM. It proves nothing yet.

    Args:
        host: name or address.
        port: of the join listener.
        timeout: seconds for connecting, and for each step of the handshake.

    Raises:
        Unreachable: nobody listens there, or it does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=timeout) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        raise Unreachable(
            f"{host}:{port} does not answer as a swarm manager ({error.reason or error}): "
            "check the address and port"
        ) from error
    except OSError as error:
        raise Unreachable(
            f"{host}:{port} can't be reached ({error.strerror or error}): check the address, "
            "that swarmd runs there as a manager, and firewalls in between"
        ) from error
    if not der:
        raise SecurityError(f"{host}:{port} presents no certificate: check the address and port")
    return ssl.DER_cert_to_PEM_cert(der).encode()


def pin_root(root_pem: bytes, token: JoinToken, certificate_pem: bytes, *, now: datetime) -> None:
    """Decide whether to believe a root certificate that came over an unverified link.

    Args:
        root_pem: as the server gave it, byte for byte.
        token: the join token, taken apart.
        certificate_pem: what the server presented.
        now: the moment, for the certificate's validity.

    Raises:
        SecurityError: the token does not pin this root, or the server is no manager of it.
    """
    tokens.check_root(root_pem, token)
    certificates.verify_chain(certificate_pem, root_pem, now=now, name=Role.MANAGER.value)
