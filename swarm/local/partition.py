"""Packets dropped in silence between two groups of a local cluster's nodes.

A node's clients come from 127.0.0.1, whatever the node's own address is, so an address alone
does not tell who sends. The group id of a node's processes does (`LocalNode.group_id`): what
they send to nodes of the other group is dropped. What is answered on connections that exist
already is dropped by the ports of their clients' ends.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from swarm.local.errors import LocalError
from swarm.local.record import LocalCluster, LocalNode

_ESTABLISHED = "01"
_SOCKET_LINK = re.compile(r"socket:\[(\d+)\]")


def group_id(host: str) -> int:
    """Of the processes of the node with this address: the address as a number. 0 without root."""
    if os.geteuid() != 0:
        return 0
    (number,) = struct.unpack("!I", socket.inet_aton(host))
    return int(number)


def cut(cluster: LocalCluster, names: Sequence[str]) -> None:
    """Separate these nodes, as one group, from all others; an earlier cut is replaced.
    LocalError where this can't be done."""
    inside = [cluster.node(name) for name in names]
    outside = [node for node in cluster.nodes if node not in inside]
    if not outside:
        raise LocalError("name some of the nodes, not all: they are cut off from the others")
    _check(cluster)
    table = _table(cluster)
    senders = [_drop_sent(inside, outside), _drop_sent(outside, inside)]
    _nft("\n".join([*_new_table(table), *(f"add rule ip {table} output {r}" for r in senders)]))
    # No new connection can be made by now, so the ports seen here are all there are.
    replies = [*_drop_answers(inside, outside), *_drop_answers(outside, inside)]
    if replies:
        _nft("\n".join(f"add rule ip {table} output {rule}" for rule in replies))


def heal(cluster: LocalCluster) -> None:
    """All nodes reach each other again; no cut is no error."""
    if cluster.block and is_possible():
        table = _table(cluster)
        _nft(f"add table ip {table}\ndelete table ip {table}")


def is_possible() -> bool:
    return os.geteuid() == 0 and shutil.which("nft") is not None


def _check(cluster: LocalCluster) -> None:
    if os.geteuid() != 0:
        raise LocalError("partition drops packets with nft, which needs root: run it with sudo")
    if shutil.which("nft") is None:
        raise LocalError("partition drops packets with nft: install the package nftables")
    if not cluster.block:
        raise LocalError("partition needs an address a node, and here the nodes share one")
    if not all(node.group_id for node in cluster.nodes):
        raise LocalError(
            "partition tells nodes apart by their processes' group ids, which only root can set: "
            "start the cluster as root"
        )


def _table(cluster: LocalCluster) -> str:
    network = cluster.block.partition("/")[0]
    return "swarm_local_" + network.rpartition(".")[0].replace(".", "_")


def _new_table(table: str) -> list[str]:
    return [
        f"add table ip {table}",
        f"delete table ip {table}",
        f"add table ip {table}",
        f"add chain ip {table} output {{ type filter hook output priority 0; }}",
    ]


def _drop_sent(senders: Sequence[LocalNode], receivers: Sequence[LocalNode]) -> str:
    groups = ", ".join(str(node.group_id) for node in senders)
    return f"meta skgid {{ {groups} }} ip daddr {{ {_hosts(receivers)} }} drop"


def _drop_answers(clients: Sequence[LocalNode], servers: Sequence[LocalNode]) -> list[str]:
    """Both ways, as packets of a connection that its process has closed have no group id."""
    ports = sorted(_client_ports(clients, {node.host for node in servers}))
    if not ports:
        return []
    listed = ", ".join(map(str, ports))
    return [
        f"ip saddr {{ {_hosts(servers)} }} tcp dport {{ {listed} }} drop",
        f"ip daddr {{ {_hosts(servers)} }} tcp sport {{ {listed} }} drop",
    ]


def _hosts(nodes: Sequence[LocalNode]) -> str:
    return ", ".join(node.host for node in nodes)


def _client_ports(clients: Sequence[LocalNode], servers: set[str]) -> set[int]:
    own = _sockets_of({node.group_id for node in clients})
    return {port for port, peer, inode in _connections() if peer in servers and inode in own}


def _sockets_of(groups: set[int]) -> set[str]:
    """Inodes of the sockets that processes of these groups have open."""
    found: set[str] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if entry.stat().st_gid not in groups:
                continue
            for link in (entry / "fd").iterdir():
                with suppress(OSError):
                    match = _SOCKET_LINK.fullmatch(str(link.readlink()))
                    if match:
                        found.add(match.group(1))
    return found


def _connections() -> Iterator[tuple[int, str, str]]:
    """Local port, peer's address and inode of each TCP connection; IPv4 in IPv6 counts too."""
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _ESTABLISHED:
                    port = int(fields[1].rpartition(":")[2], 16)
                    yield port, _address(fields[2]), fields[9]


def _address(text: str) -> str:
    """The IPv4 address in a peer's column: the last four bytes, in the machine's order."""
    word = text.partition(":")[0][-8:]
    return socket.inet_ntoa(struct.pack("=I", int(word, 16)))


def _nft(commands: str) -> None:
    done = subprocess.run(
        ["nft", "-f", "-"], input=commands, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise LocalError(f"nft can't filter packets here: {said}")
