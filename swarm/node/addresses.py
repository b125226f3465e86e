"""Which addresses a node listens on, and which it tells others.

Two listeners, on neighbouring ports: the join listener (2377, what a user types), and the one
with mutual TLS for all else (2378).
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

JOIN_PORT = 2377


class AddressError(Exception):
    """One line: which address, what is wrong, what to give instead."""


@dataclass(frozen=True, slots=True)
class Addresses:
    listen_host: str
    advertise_host: str
    join_port: int

    @property
    def node_port(self) -> int:
        return self.join_port + 1

    @property
    def join_address(self) -> str:
        return join_host_port(self.advertise_host, self.join_port)

    @property
    def node_address(self) -> str:
        return join_host_port(self.advertise_host, self.node_port)


def resolve(listen: str, advertise: str) -> Addresses:
    """What HOST[:PORT] or interface names mean on this machine. AddressError."""
    listen_host, listen_port = split(listen, JOIN_PORT)
    listen_host = _address_of(listen_host)
    if advertise:
        host, _ = split(advertise, listen_port)
        advertise_host = _address_of(host)
    elif is_unspecified(listen_host):
        advertise_host = _outgoing_address()
    else:
        advertise_host = listen_host
    if is_unspecified(advertise_host):
        raise AddressError(
            f"advertise address '{advertise}' must be one that other nodes can reach: "
            "give --advertise-addr with this machine's IP address"
        )
    return Addresses(listen_host, advertise_host, listen_port)


def split(text: str, default_port: int) -> tuple[str, int]:
    """HOST, HOST:PORT or [IPv6]:PORT. AddressError."""
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not port:
        return host, default_port
    if not port.isdigit() or not 0 < int(port) < 65535:
        raise AddressError(f"address '{text}': the port must be a number from 1 to 65534")
    return host, int(port)


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _address_of(host: str) -> str:
    """An IP address as it is; a name or interface as the address that it has."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    found = _interface_address(host)
    if found:
        return found
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        raise AddressError(
            f"'{host}' is neither an IP address, an interface nor a name that resolves"
        ) from None


def _interface_address(name: str) -> str:
    """The first IPv4 address of an interface (Linux), or nothing."""
    try:
        import fcntl
        import struct

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            request = struct.pack("256s", name[:15].encode())
            answer = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
        return socket.inet_ntoa(answer[20:24])
    except (ImportError, OSError):
        return ""


def address_towards(remotes: Iterable[str]) -> str:
    """This machine's address on its way to the first of these HOST[:PORT] that has one: where
    machines share a network besides the one that their default route leads to, or have no
    such route, the default is not what the others can reach. "" where none has. No packet is
    sent, but a name is looked up: blocking."""
    for remote in remotes:
        try:
            host, port = split(remote, JOIN_PORT)
            family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(target)
                return str(probe.getsockname()[0])
        except (AddressError, OSError):
            continue
    return ""


def _outgoing_address() -> str:
    """The address this machine would use to reach another one; without a route to elsewhere, that
    of its first network."""
    found = address_towards(["192.0.2.1:9"])
    if found:
        return found
    own = (_interface_address(name) for _, name in socket.if_nameindex())
    return next((host for host in own if host and not host.startswith("127.")), "127.0.0.1")
