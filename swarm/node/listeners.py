"""The gRPC servers of a node: the unix socket, and on a manager the two ports.

Small keepalives and frame limits are set once, here: a stream that a cut cable left open must
not be believed for minutes.
"""

import errno
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio

from swarm.api.v1.control_pb2_grpc import add_ControlServicer_to_server
from swarm.api.v1.daemon_pb2_grpc import DaemonServicer, add_DaemonServicer_to_server
from swarm.api.v1.dispatcher_pb2_grpc import add_DispatcherServicer_to_server
from swarm.api.v1.join_pb2_grpc import (
    add_CertificatesServicer_to_server,
    add_JoinServicer_to_server,
)
from swarm.api.v1.managers_pb2_grpc import add_ManagersServicer_to_server
from swarm.api.v1.raft_pb2_grpc import add_RaftServicer_to_server
from swarm.manager.api.control import ControlApi
from swarm.manager.api.dispatcher import DispatcherApi
from swarm.manager.api.interceptor import Interceptor
from swarm.manager.api.join import CertificatesApi, JoinApi
from swarm.manager.api.managers import ManagersApi
from swarm.manager.api.raft import RaftApi
from swarm.node.addresses import Addresses, join_host_port
from swarm.worker.network.port_holder import holder_of

log = logging.getLogger(__name__)

_MESSAGE_BYTES_MAX = 32 << 20
_JOIN_MESSAGE_BYTES_MAX = 64 << 10
_JOIN_CALLS_MAX = 32

_SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)
# How channels reconnect is `swarm.security.tls`'s to say.
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Connections are the caller's own: closing one must not leave another half dead.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class ListenError(Exception):
    """One line: which address can't be listened on, and what to do."""


async def serve_socket(
    path: Path,
    credentials: grpc.ServerCredentials,
    interceptor: Interceptor,
    daemon: DaemonServicer,
    control: object,
) -> grpc.aio.Server:
    """Behind the local daemon's socket (`local_socket`), which lets its users in."""
    server = grpc.aio.server(interceptors=(interceptor,), options=_SERVER_OPTIONS)
    add_DaemonServicer_to_server(daemon, server)
    add_ControlServicer_to_server(control, server)  # type: ignore[arg-type]
    _bind(server, f"unix:{path}", credentials, str(path))
    await server.start()
    return server


async def serve_node_port(
    addresses: Addresses,
    credentials: grpc.ServerCredentials,
    interceptor: Interceptor,
    *,
    raft: RaftApi,
    managers: ManagersApi,
    dispatcher: DispatcherApi,
    certificates: CertificatesApi,
    control: ControlApi,
    daemon: DaemonServicer | None = None,
) -> grpc.aio.Server:
    """All that is between nodes, and administrators: mutual TLS."""
    server = grpc.aio.server(interceptors=(interceptor,), options=_SERVER_OPTIONS)
    add_RaftServicer_to_server(raft, server)
    add_ManagersServicer_to_server(managers, server)
    add_DispatcherServicer_to_server(dispatcher, server)
    add_CertificatesServicer_to_server(certificates, server)
    add_ControlServicer_to_server(control, server)  # type: ignore[arg-type]
    if daemon is not None:
        add_DaemonServicer_to_server(daemon, server)
    address = join_host_port(addresses.listen_host, addresses.node_port)
    _bind(server, address, credentials, address)
    await server.start()
    return server


async def serve_join_port(
    addresses: Addresses,
    credentials: grpc.ServerCredentials,
    errors: grpc.aio.ServerInterceptor,
    join: JoinApi,
) -> grpc.aio.Server:
    """TLS with a server certificate only, for those that have none yet."""
    options = (*_SERVER_OPTIONS[1:], ("grpc.max_receive_message_length", _JOIN_MESSAGE_BYTES_MAX))
    server = grpc.aio.server(
        interceptors=(errors,), options=options, maximum_concurrent_rpcs=_JOIN_CALLS_MAX
    )
    add_JoinServicer_to_server(join, server)
    address = join_host_port(addresses.listen_host, addresses.join_port)
    _bind(server, address, credentials, address)
    await server.start()
    return server


def check_free(addresses: Addresses) -> None:
    """ListenError if a manager's two ports can't be listened on now. Blocking, for a moment."""
    for port in (addresses.node_port, addresses.join_port):
        family = socket.AF_INET6 if ":" in addresses.listen_host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As gRPC does: connections of an earlier life that linger are in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((addresses.listen_host, port))
                probe.listen()
            except OSError as error:
                raise _cannot_listen(addresses.listen_host, port, error) from None


def check_own(addresses: Addresses) -> None:
    """ListenError if the listen address is none of this machine: a worker's published ports and
    tasks are listened for on it, too."""
    family = socket.AF_INET6 if ":" in addresses.listen_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((addresses.listen_host, 0))
        except OSError as error:
            raise _cannot_listen(addresses.listen_host, addresses.join_port, error) from None


def _cannot_listen(host: str, port: int, error: OSError) -> ListenError:
    shown = join_host_port(host, port)
    match error.errno:
        case errno.EADDRINUSE:
            why = f"{holder_of(port, host=host)} has it; stop that, or"
        case errno.EADDRNOTAVAIL:
            why = "it is not an address of this machine;"
        case errno.EACCES:
            why = "ports below 1024 are for root;"
        case _:
            why = f"{error.strerror};"
    return ListenError(f"can't listen on {shown}: {why} choose another with --listen-addr")


def _bind(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials, shown: str
) -> None:
    """What can be known beforehand was checked (`check_free`); this is for what came between."""
    bind: Callable[[str, grpc.ServerCredentials], int] = server.add_secure_port
    try:
        bound = bind(address, credentials)
    except RuntimeError as error:
        log.debug("%s: %s", address, error)
        bound = 0
    if not bound:
        raise ListenError(
            f"can't listen on {shown}: another process has it, or it is not an address of this "
            "machine; choose another with --listen-addr"
        )
