"""Which process listens on a port of this machine, as far as /proc tells."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

_LISTEN = "0A"


def holder_of(port: int, proc: Path = Path("/proc"), *, host: str = "") -> str:
    """ "pid 123 (nginx)", or "another program" where that cannot be seen. Blocking.

    With an IPv4 `host`, whoever listens on other addresses only is not meant.
    """
    inodes = _listening_inodes(port, proc, _in_the_way(host))
    if inodes:
        wanted = {f"socket:[{inode}]" for inode in inodes}
        for process in proc.iterdir():
            if process.name.isdigit() and _has_socket(process, wanted):
                return f"pid {process.name} ({_name(process)})"
    return "another program"


def _in_the_way(host: str) -> frozenset[str]:
    """The addresses, as /proc writes them, whose listeners are in this one's way; empty: all."""
    try:
        address = socket.inet_aton(host)
    except OSError:
        return frozenset()
    if address == b"\0\0\0\0":
        return frozenset()
    # Each word in the machine's byte order.
    return frozenset({f"{int.from_bytes(address, sys.byteorder):08X}", "0" * 8, "0" * 32})


def _listening_inodes(port: int, proc: Path, addresses: frozenset[str]) -> set[str]:
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, number = fields[1].rpartition(":")
            meant = not addresses or address in addresses
            if fields[3] == _LISTEN and int(number, 16) == port and meant:
                inodes.add(fields[9])
    return inodes


def _has_socket(process: Path, wanted: set[str]) -> bool:
    try:
        return any(str(fd.readlink()) in wanted for fd in (process / "fd").iterdir())
    except OSError:
        return False


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "unknown"
