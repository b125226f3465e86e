"""The ports of this node's tasks: where other nodes' proxies, and host mode's clients, come in.

For each published target port a task has a listener of its own on a free port, reported as its
endpoint. A proxy that connects there gets one byte (`READY`) once the connection to the task
stands, and only then sends what its client says. So a connection that cannot reach the task is
known to have carried nothing, and goes to another one. Clients of a host-mode port get no such
byte.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swarm.api.v1.task_pb2 import PortEndpoint
from swarm.sockets.listener import Listener, bind
from swarm.sockets.relay import Relay, connect, reset
from swarm.worker.core.effects import ANY_PORT, TaskPort
from swarm.worker.core.run import protocol_number
from swarm.worker.network.port_holder import holder_of
from swarm.worker.runtime.port import Endpoint

READY = b"+"
KEY_BYTES = 16
_PORT = struct.Struct("!H")
CONNECT_TIMEOUT_S = 3.0
DRAIN_CHECK_S = 0.05


def any_port_greeting(key: bytes, port: int) -> bytes:
    """What is said first to a listener for any port of a task."""
    return key + _PORT.pack(port)


class PortError(Exception):
    """A port that the task needs cannot be listened on; the message names it and its holder."""


@dataclass(slots=True)
class _Task:
    listeners: list[Listener] = field(default_factory=list[Listener])
    endpoints: dict[int, Endpoint] = field(default_factory=dict[int, Endpoint])
    connecting: int = 0
    relays: set[Relay] = field(default_factory=set[Relay])
    leaving: bool = False
    # Where any port of it can be reached, and what must be known for that.
    address: str = ""
    key: bytes = b""

    @property
    def is_busy(self) -> bool:
        return self.connecting > 0 or any(relay.is_busy for relay in self.relays)


class TaskPorts:
    """`listen_host` is bound, `advertise_host` is what other nodes are told."""

    def __init__(self, listen_host: str, advertise_host: str, warn: Callable[[str], None]) -> None:
        self._listen_host = listen_host
        self._advertise_host = advertise_host
        self._warn = warn
        self._tasks: dict[str, _Task] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def open(self, task_id: str, ports: Sequence[TaskPort]) -> list[PortEndpoint]:
        """Listens on all of them, or on none: raises PortError."""
        task = self._tasks[task_id] = _Task()
        reported: list[PortEndpoint] = []
        try:
            for port in ports:
                if port.port.protocol != "tcp":
                    self._warn(
                        f"task {task_id}: published {port.port.protocol} ports are not forwarded "
                        f"by this version; port {port.port.target} is reachable on its node only"
                    )
                    continue
                if port.port == ANY_PORT:
                    task.address, task.key = port.endpoint.host, secrets.token_bytes(KEY_BYTES)
                listener = await self._listen(task, port)
                task.listeners.append(listener)
                task.endpoints[port.port.target] = port.endpoint
                if port.host_port is None:
                    reported.append(self._reported(task, port, listener))
        except BaseException:
            self._close_listeners(task)
            del self._tasks[task_id]
            raise
        return reported

    async def connect(self, task_id: str, target_port: int, timeout_s: float) -> socket.socket:
        """To a task of this node. OSError: it cannot be reached, or is leaving the rotation."""
        task = self._tasks[task_id]
        endpoint = task.endpoints.get(target_port)
        if endpoint is None or task.leaving:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the task is not in the rotation")
        task.connecting += 1
        try:
            return await connect(*endpoint, timeout_s)
        finally:
            task.connecting -= 1

    async def connect_any(self, task_id: str, port: int, timeout_s: float) -> socket.socket:
        """As `connect`, to a port that need not be published."""
        task = self._tasks[task_id]
        if not task.address or task.leaving:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the task is not in the rotation")
        task.connecting += 1
        try:
            return await connect(task.address, port, timeout_s)
        finally:
            task.connecting -= 1

    def is_here(self, task_id: str) -> bool:
        return task_id in self._tasks

    def relay_for(self, task_id: str) -> Relay:
        """A relay that counts as one of the task's connections."""
        task = self._tasks.get(task_id)
        if task is None:
            return Relay(lambda _: None)
        relay = Relay(task.relays.discard)
        task.relays.add(relay)
        return relay

    async def close(self, task_id: str, drain_s: float, *, cut: bool) -> None:
        """No new connections; returns when none is busy, or after `drain_s`."""
        task = self._tasks.get(task_id)
        if task is None:
            return
        task.leaving = True
        self._close_listeners(task)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + drain_s
        while task.is_busy and loop.time() < deadline:  # noqa: ASYNC110 - it changes with time
            await asyncio.sleep(DRAIN_CHECK_S)
        if cut:
            self._tasks.pop(task_id, None)
            for relay in list(task.relays):
                if relay.is_busy:
                    relay.abort()
                else:
                    relay.close()

    async def close_all(self) -> None:
        """The agent ends: its connections end with it, whatever the tasks do."""
        for task in self._tasks.values():
            self._close_listeners(task)
            for relay in list(task.relays):
                relay.abort()
        self._tasks.clear()
        for running in list(self._running):
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _listen(self, task: _Task, port: TaskPort) -> Listener:
        def accepted(client: socket.socket) -> None:
            running = asyncio.create_task(self._serve(task, port, client))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

        return Listener(await self._bind(port), accepted)

    async def _bind(self, port: TaskPort) -> socket.socket:
        wanted = port.host_port if port.host_port is not None else port.preferred
        try:
            return bind(self._listen_host, wanted)
        except OSError as error:
            if port.host_port is None and wanted:
                return bind(self._listen_host, 0)
            raise PortError(await self._why(wanted, error)) from None

    async def _why(self, port: int, error: OSError) -> str:
        if error.errno != errno.EADDRINUSE:
            return f"cannot listen on port {port}/tcp of this node: {error.strerror}"
        holder = await asyncio.to_thread(holder_of, port)
        return (
            f"port {port}/tcp is in use on this node by {holder}: "
            "stop that, or publish another port"
        )

    def _reported(self, task: _Task, port: TaskPort, listener: Listener) -> PortEndpoint:
        return PortEndpoint(
            target_port=port.port.target,
            protocol=protocol_number(port.port),
            host=self._advertise_host,
            port=listener.port,
            key=task.key if port.port == ANY_PORT else b"",
        )

    async def _serve(self, task: _Task, port: TaskPort, client: socket.socket) -> None:
        task.connecting += 1
        try:
            host, number = port.endpoint
            if port.port == ANY_PORT:
                number = await self._asked_for(task, client)
            backend = await connect(host, number, CONNECT_TIMEOUT_S)
            if port.host_port is None:
                client.send(READY)
            relay = Relay(task.relays.discard)
            task.relays.add(relay)
            await relay.join(client, backend)
        except OSError:
            reset(client)
        except asyncio.CancelledError:
            reset(client)
            raise
        finally:
            task.connecting -= 1

    async def _asked_for(self, task: _Task, client: socket.socket) -> int:
        """The port that the caller names, who must know the key. OSError where it does not."""
        loop = asyncio.get_running_loop()
        said = b""
        wanted = KEY_BYTES + _PORT.size
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            while len(said) < wanted:
                more = await loop.sock_recv(client, wanted - len(said))
                if not more:
                    raise ConnectionResetError(errno.ECONNRESET, "the caller hung up")
                said += more
        if not hmac.compare_digest(said[:KEY_BYTES], task.key):
            raise PermissionError(errno.EACCES, "the caller does not know the task's key")
        (port,) = _PORT.unpack(said[KEY_BYTES:])
        return int(port)

    def _close_listeners(self, task: _Task) -> None:
        for listener in task.listeners:
            listener.close()
        task.listeners = []
