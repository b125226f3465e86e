"""An address a node: each cluster has a block 127.X.Y.0/24 of the loopback network.

No file outside of the cluster's folder says who has which block. The folder's name leads to one
of 64,000 blocks, so that two clusters mostly want different ones; a cluster that is starting
holds a port in its block, and one that runs has its first manager's, so that a block in use is
found out by binding to it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from swarm.local.errors import LocalError
from swarm.node.addresses import JOIN_PORT

SHARED_HOST = "127.0.0.1"
NODES_MAX = 200

_BLOCKS = 254 * 256  # 127.1.0.0/24 and up: 127.0.*.* is used by machines' own names
_TRIES = 64
_CLAIM_HOST = 254
# An address of no cluster's: what is taken on it is taken on all, by somebody who listens on
# 0.0.0.0, as Docker Swarm does.
_PROBE_HOST = "127.0.254.254"
_JOIN_PORTS = (JOIN_PORT, *range(12377, 65000, 10000))


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a node listens: `port` for those that join, the next one for nodes."""

    host: str
    port: int


class Claim:
    """Addresses for a cluster that is starting. Others see that they are taken until `release`;
    from then on the cluster's first manager must be listening."""

    def __init__(
        self, block: str, addresses: list[ListenAddress], held: list[socket.socket]
    ) -> None:
        self.block = block
        self.addresses = addresses
        self._held = held

    @property
    def shared(self) -> bool:
        """Whether the nodes share one address, having different ports."""
        return not self.block

    def free_ports(self) -> None:
        """Let the nodes listen where placeholders were."""
        for held in self._held[1:]:
            held.close()

    def release(self) -> None:
        for held in self._held:
            held.close()


def claim(folder: Path, nodes: int) -> Claim:
    """A block of its own for the cluster in `folder`; where this machine has no such addresses
    (macOS), ports on one address. Raises LocalError."""
    if nodes > NODES_MAX:
        raise LocalError(f"{nodes} nodes: a local cluster takes at most {NODES_MAX}")
    try:
        _hold(_PROBE_HOST, 0).close()
    except OSError:
        return _claim_ports(nodes)
    port = next((port for port in _JOIN_PORTS if _are_free(_PROBE_HOST, port)), JOIN_PORT)
    for block in _candidates(folder):
        try:
            held = _hold(_host(block, _CLAIM_HOST), port)
        except OSError:
            continue
        if _are_free(_host(block, 1), port):
            hosts = [_host(block, number) for number in range(1, nodes + 1)]
            return Claim(block, [ListenAddress(host, port) for host in hosts], [held])
        held.close()
    raise LocalError(f"no block of addresses is free in 127.0.0.0/8 after {_TRIES} tries")


def _candidates(folder: Path) -> Iterator[str]:
    digest = hashlib.sha256(bytes(folder.absolute())).digest()
    first = int.from_bytes(digest[:8], "big") % _BLOCKS
    for number in range(_TRIES):
        high, low = divmod((first + number * 257) % _BLOCKS, 256)
        yield f"127.{high + 1}.{low}.0/24"


def _host(block: str, number: int) -> str:
    return str(ipaddress.ip_network(block)[number])


def _hold(host: str, port: int) -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ended connections don't count
    try:
        held.bind((host, port))
        held.listen(1)
    except OSError:
        held.close()
        raise
    return held


def _are_free(host: str, port: int) -> bool:
    """The port for joining and the next one, for nodes."""
    try:
        _hold(host, port).close()
        _hold(host, port + 1).close()
    except OSError:
        return False
    return True


def _claim_ports(nodes: int) -> Claim:
    """Two neighbouring ports a node, held until the nodes are about to start."""
    anchor = _hold(SHARED_HOST, 0)
    held = [anchor]
    addresses: list[ListenAddress] = []
    port = 20000 + anchor.getsockname()[1] % 20000
    while len(addresses) < nodes and port < 65000:
        pair: list[socket.socket] = []
        try:
            pair = [_hold(SHARED_HOST, port)]
            pair.append(_hold(SHARED_HOST, port + 1))
        except OSError:
            for one in pair:
                one.close()
        else:
            held += pair
            addresses.append(ListenAddress(SHARED_HOST, port))
        port += 2
    return Claim("", addresses, held)
