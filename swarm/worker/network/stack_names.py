"""Services of a stack reach each other by name: this node's DNS server and the proxy behind it.

A container connects to a service's virtual address; the kernel redirects that here, the address
that was meant is asked of it, and the connection goes on to a running task, on any port of it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence

from swarm.api.v1.dispatcher_pb2 import IngressService
from swarm.sockets.listener import Listener, bind
from swarm.sockets.relay import connect, reset
from swarm.stacks import NAMES_NETWORK
from swarm.worker.network.dns_server import DnsServer, upstreams
from swarm.worker.network.names import NameTable, Reach
from swarm.worker.network.proxy import CONNECT_TIMEOUT_S, PATIENCE_S, PATIENCE_STEP_S
from swarm.worker.network.redirect import Redirect, RedirectError
from swarm.worker.network.task_ports import READY, TaskPorts, any_port_greeting

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h
_SOCKADDR_IN = struct.Struct("!2xH4s8x")
_NETWORK = ipaddress.IPv4Network(NAMES_NETWORK)
_ALL = "0.0.0.0"  # noqa: S104 - what was not redirected here is refused


class StackNames:
    """Between `start` and `close`. `update` may be called before."""

    def __init__(self, redirect: Redirect, warn: Callable[[str], None]) -> None:
        self._redirect = redirect
        self._warn = warn
        self._table = NameTable()
        self._dns = DnsServer(self._table, upstreams())
        self._ports: TaskPorts | None = None
        self._listener: Listener | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._addresses: dict[str, str] = {}

    async def start(self) -> None:
        """Raises RedirectError or OSError, and leaves nothing behind."""
        try:
            await self._dns.start(_ALL)
            self._listener = Listener(bind(_ALL, 0), self._accepted)
            await self._redirect.install(self._listener.port, self._dns.port)
        except (RedirectError, OSError):
            await self._stop_listening()
            raise

    @property
    def ports(self) -> tuple[int, ...]:
        """Where what was redirected arrives."""
        return (self._dns.port, self._listener.port) if self._listener is not None else ()

    def serve_with(self, ports: TaskPorts) -> None:
        """`ports` knows the tasks of this node, which are reached without a detour."""
        self._ports = ports

    def update(self, *, complete: bool, services: Sequence[IngressService]) -> None:
        self._table.update(complete=complete, services=services)

    async def task_started(self, task_id: str, address: str) -> None:
        """Its packets are this node's to redirect."""
        if not address or self._addresses.get(task_id) == address:
            return
        self._addresses[task_id] = address
        try:
            await self._redirect.add(address)
        except RedirectError as error:
            self._warn(f"task {task_id} may not find others by name: {error}")

    async def task_removed(self, task_id: str) -> None:
        address = self._addresses.pop(task_id, "")
        if address and address not in self._addresses.values():
            try:
                await self._redirect.remove(address)
            except RedirectError as error:
                self._warn(f"a redirection of task {task_id} stays: {error}")

    async def close(self) -> None:
        try:
            await self._redirect.uninstall()
        except RedirectError as error:
            self._warn(f"the redirection of names stays: {error}")
        await self._stop_listening()

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._dns.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accepted(self, client: socket.socket) -> None:
        task = asyncio.create_task(self._serve(client))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, client: socket.socket) -> None:
        try:
            address, port = _meant(client)
            found = await self._find(address, port)
            if found is None or self._ports is None:
                reset(client)
                return
            reach, sock = found
            await self._ports.relay_for(reach.task_id).join(client, sock)
        except OSError:
            reset(client)
        except asyncio.CancelledError:
            reset(client)
            raise

    async def _find(self, address: str, port: int) -> tuple[Reach, socket.socket] | None:
        """Waits a moment for a task, as where one is just being replaced."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        while True:
            for reach in self._table.reaches(address, loop.time()):
                try:
                    sock = await self._connect(reach, port)
                except OSError:
                    self._table.failed(reach, loop.time())
                    continue
                self._table.worked(reach)
                return reach, sock
            if loop.time() >= deadline:
                return None
            await asyncio.sleep(PATIENCE_STEP_S)

    async def _connect(self, reach: Reach, port: int) -> socket.socket:
        if self._ports is not None and self._ports.is_here(reach.task_id):
            return await self._ports.connect_any(reach.task_id, port, CONNECT_TIMEOUT_S)
        sock = await connect(reach.host, reach.port, CONNECT_TIMEOUT_S)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.sock_sendall(sock, any_port_greeting(reach.key, port))
                greeting = await loop.sock_recv(sock, len(READY))
        except BaseException:
            sock.close()
            raise
        if greeting != READY:
            sock.close()
            raise ConnectionRefusedError("the task's port cannot be reached")
        return sock


def _meant(client: socket.socket) -> tuple[str, int]:
    """The address and port that the client connected to. OSError: none of ours."""
    raw = client.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN.size)
    port, packed = _SOCKADDR_IN.unpack(raw)
    address = ipaddress.IPv4Address(packed)
    if address not in _NETWORK:
        raise ConnectionRefusedError(f"{address} is no service's address")
    return str(address), port
