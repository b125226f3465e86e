"""A bridge for this node, and a network namespace with an address on it for each task."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import ipaddress
import json
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from swarm.worker.runtime.port import Identity, RuntimeFailed

POOL = ipaddress.IPv4Network("10.213.0.0/16")
PREFIX_LENGTH = 22  # about a thousand tasks a node, sixty-four nodes on a machine
SUBNET_LOCK = Path("/run/swarm-subnets.lock")
NETNS_DIRECTORY = Path("/run/netns")


class NodeNetwork:
    """The bridge comes with the first task and goes with the last; its subnet is chosen free.

    Two clusters, or two nodes on one machine, have different bridges and subnets.
    """

    def __init__(self, identity: Identity, *, nat: bool) -> None:
        name = f"{identity.cluster_id}\0{identity.node_id}".encode()
        self._mark = hashlib.sha256(name).hexdigest()[:10]
        self.bridge = f"sw{self._mark}"
        self._nat = nat
        self._subnet: ipaddress.IPv4Network | None = None
        self._used: dict[str, str] = {}
        self._lock = asyncio.Lock()

    def restore(self, addresses: dict[str, str]) -> None:
        """The addresses that tasks of an earlier agent have."""
        self._used = dict(addresses)

    @property
    def gateway(self) -> str:
        """The node's own address on the bridge, once a task is attached."""
        assert self._subnet is not None, "the bridge comes with the first task"
        return str(self._subnet[1])

    def netns_name(self, task_id: str) -> str:
        return f"sw{self._mark}-{task_id}"

    def netns_path(self, task_id: str) -> str:
        return str(NETNS_DIRECTORY / self.netns_name(task_id))

    async def attach(self, task_id: str) -> str:
        """Makes the task's namespace; its address. Raises RuntimeFailed."""
        async with self._lock:
            subnet = await self._ensure_bridge()
            address = self._free_address(subnet)
            self._used[task_id] = address
        name = self.netns_name(task_id)
        veth = _link_name(name)
        try:
            await _ip(
                [
                    f"netns add {name}",
                    f"link add {veth} type veth peer name eth0 netns {name}",
                    f"link set {veth} master {self.bridge} up",
                ]
            )
            await _ip(
                [
                    "link set lo up",
                    f"addr add {address}/{subnet.prefixlen} dev eth0",
                    "link set eth0 up",
                    f"route add default via {subnet[1]}",
                ],
                "-n",
                name,
            )
        except RuntimeFailed:
            await self.detach(task_id)
            raise
        return address

    async def detach(self, task_id: str) -> None:
        """The namespace and its link go; the bridge too, after the last task."""
        name = self.netns_name(task_id)
        if (NETNS_DIRECTORY / name).exists():
            # The link by itself, as the kernel takes it away with the namespace only later.
            commands = [f"link del {_link_name(name)}", f"netns del {name}"]
            with suppress(RuntimeFailed):
                await _ip(commands, "-force")
        async with self._lock:
            self._used.pop(task_id, None)
            if not self._used:
                await self._remove_bridge()

    def _free_address(self, subnet: ipaddress.IPv4Network) -> str:
        taken = set(self._used.values())
        for number in range(2, subnet.num_addresses - 1):
            address = str(subnet[number])
            if address not in taken:
                return address
        raise RuntimeFailed(f"this node's container subnet {subnet} is full")

    async def _ensure_bridge(self) -> ipaddress.IPv4Network:
        if self._subnet is not None:
            return self._subnet
        async with _subnet_lock():
            used, own = await self._subnets()
            if own is None:
                own = self._choose(used)
                await _ip(
                    [
                        f"link add {self.bridge} type bridge",
                        f"addr add {own[1]}/{own.prefixlen} dev {self.bridge}",
                        f"link set {self.bridge} up",
                    ]
                )
        if self._nat and shutil.which("nft") is not None:
            await self._add_nat(own)
        self._subnet = own
        return own

    async def _subnets(self) -> tuple[list[ipaddress.IPv4Network], ipaddress.IPv4Network | None]:
        """The subnets of this machine's links, and our bridge's, if it is there."""
        used: list[ipaddress.IPv4Network] = []
        own: ipaddress.IPv4Network | None = None
        for link in json.loads(await _run("ip", "-j", "-4", "addr")):
            for address in link.get("addr_info", ()):
                subnet = ipaddress.IPv4Interface(
                    f"{address['local']}/{address['prefixlen']}"
                ).network
                used.append(subnet)
                if link["ifname"] == self.bridge:
                    own = subnet
        used += [
            ipaddress.IPv4Network(route["dst"], strict=False)
            for route in json.loads(await _run("ip", "-j", "-4", "route"))
            if route["dst"] != "default"
        ]
        return used, own

    def _choose(self, used: list[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
        subnets = list(POOL.subnets(new_prefix=PREFIX_LENGTH))
        first = int(self._mark, 16) % len(subnets)  # so that a node mostly keeps its own
        for subnet in subnets[first:] + subnets[:first]:
            if not any(subnet.overlaps(other) for other in used):
                return subnet
        raise RuntimeFailed(f"no subnet for containers is free in {POOL}")

    async def _add_nat(self, subnet: ipaddress.IPv4Network) -> None:
        """Containers reach beyond this machine under its address."""
        await asyncio.to_thread(_forward_packets)
        table = f"swarm_{self._mark}"
        rules = f"""
            table ip {table}
            delete table ip {table}
            table ip {table} {{
                chain postrouting {{
                    type nat hook postrouting priority srcnat;
                    ip saddr {subnet} oifname != "{self.bridge}" masquerade
                }}
            }}
            """
        await _run("nft", "-f", "-", stdin=rules)

    async def _remove_bridge(self) -> None:
        with suppress(RuntimeFailed):
            await _ip([f"link del {self.bridge}"])
        if self._nat and shutil.which("nft") is not None:
            with suppress(RuntimeFailed):
                await _run("nft", "delete", "table", "ip", f"swarm_{self._mark}")
        self._subnet = None


def _link_name(netns_name: str) -> str:
    """The node's end of a task's link; the kernel takes fifteen characters."""
    return f"sv{hashlib.sha256(netns_name.encode()).hexdigest()[:12]}"


def _forward_packets() -> None:
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    if forward.read_text().strip() != "1":
        forward.write_text("1")


@asynccontextmanager
async def _subnet_lock() -> AsyncGenerator[None, None]:
    """Held by one agent on this machine from looking for a free subnet to taking it."""
    descriptor = os.open(SUBNET_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def _ip(commands: list[str], *options: str) -> None:
    await _run("ip", *options, "-batch", "-", stdin="\n".join(commands) + "\n")


async def _run(*command: str, stdin: str = "") -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE if stdin else DEVNULL, stdout=PIPE, stderr=PIPE
        )
    except FileNotFoundError:
        raise RuntimeFailed(f"{command[0]} is not installed: install iproute2") from None
    out, err = await process.communicate(stdin.encode() if stdin else None)
    if process.returncode != 0:
        said = " ".join(err.decode(errors="replace").split())
        raise RuntimeFailed(f"{command[0]} {command[1]}: {said or process.returncode}")
    return out.decode()
