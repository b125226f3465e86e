"""Packets of this node's containers to virtual addresses, redirected to the agent by nftables."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from asyncio.subprocess import DEVNULL, PIPE

from swarm.stacks import NAMES_NETWORK, NAMES_SERVER


class RedirectError(Exception):
    """The kernel or its tool would not; one line."""


class Redirect:
    """A table of this node's own. A node that starts again replaces what it left behind.

    `bridge` is the interface that the containers' packets come in by. Where several nodes of one
    machine share an engine and so its bridge, `add` says which addresses are this node's.
    """

    def __init__(self, cluster_id: str, node_id: str, bridge: str) -> None:
        mark = hashlib.sha256(f"{cluster_id}\0{node_id}".encode()).hexdigest()[:10]
        self.table = f"swarm_names_{mark}"
        self._bridge = bridge

    async def install(self, proxy_port: int, dns_port: int) -> None:
        """Raises RedirectError."""
        rules = f"""
            ip daddr {NAMES_SERVER} meta l4proto {{ tcp, udp }} th dport 53 redirect to :{dns_port}
            ip daddr {NAMES_NETWORK} meta l4proto tcp redirect to :{proxy_port}
        """
        own = "\n".join(f"ip saddr @tasks {rule}" for rule in rules.strip().splitlines())
        rest = "\n".join(f'iifname "{self._bridge}" {rule}' for rule in rules.strip().splitlines())
        await _nft(
            f"""
            table ip {self.table}
            delete table ip {self.table}
            table ip {self.table} {{
                set tasks {{ type ipv4_addr; }}
                chain own {{
                    type nat hook prerouting priority dstnat - 20;
                    {own}
                }}
                chain rest {{
                    type nat hook prerouting priority dstnat - 10;
                    {rest}
                }}
                # Nobody else is served: what was not redirected here is not let in.
                chain guard {{
                    type filter hook input priority filter - 10;
                    ct status dnat accept
                    meta l4proto {{ tcp, udp }} th dport {{ {proxy_port}, {dns_port} }} drop
                }}
            }}
            """
        )

    async def add(self, address: str) -> None:
        """A container of this node has the address. Raises RedirectError."""
        await _nft(f"add element ip {self.table} tasks {{ {address} }}")

    async def remove(self, address: str) -> None:
        """It is gone. Raises RedirectError."""
        await _nft(f"delete element ip {self.table} tasks {{ {address} }}")

    async def uninstall(self) -> None:
        """Repeatable; what an agent left that was killed goes too. Raises RedirectError."""
        await _nft(f"table ip {self.table}\ndelete table ip {self.table}\n")


async def _nft(rules: str) -> None:
    if shutil.which("nft") is None:
        raise RedirectError("nft is not installed: install nftables")
    try:
        process = await asyncio.create_subprocess_exec(
            "nft", "-f", "-", stdin=PIPE, stdout=DEVNULL, stderr=PIPE
        )
        _, err = await process.communicate(rules.encode())
    except OSError as error:
        raise RedirectError(f"nft can't be run: {error.strerror or error}") from None
    if process.returncode != 0:
        said = " ".join(err.decode(errors="replace").split())
        raise RedirectError(f"nft: {said[:200] or process.returncode}")
