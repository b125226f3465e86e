"""The ingress proxy: every node listens on every published port and forwards to a running task.

A user-space TCP proxy in the agent's process. A client is connected to the next backend in turn;
one that cannot be reached is passed over before a single byte is sent to it, and while no backend
can be reached the client waits a moment for one (a task that is just being replaced). What limits
it is one core, shared with the agent's other work. Source addresses are not kept, as in Docker's
routing mesh.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence

from swarm.api.v1.dispatcher_pb2 import IngressService
from swarm.api.v1.types_pb2 import PROTOCOL_TCP
from swarm.sockets.listener import Listener, bind
from swarm.sockets.relay import connect, reset
from swarm.worker.network.ingress import Backend, IngressTable, Published
from swarm.worker.network.port_holder import holder_of
from swarm.worker.network.task_ports import READY, TaskPorts

CONNECT_TIMEOUT_S = 1.0
PATIENCE_S = 2.0
PATIENCE_STEP_S = 0.1
RETRY_BIND_S = 2.0


class IngressProxy:
    """`task_ports` knows the tasks of this node, which are reached without a detour."""

    def __init__(
        self, listen_host: str, task_ports: TaskPorts, warn: Callable[[str], None]
    ) -> None:
        self._listen_host = listen_host
        self._task_ports = task_ports
        self._warn = warn
        self._table = IngressTable()
        self._listeners: dict[Published, Listener] = {}
        self._binding: dict[Published, asyncio.Task[None]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    def update(self, *, complete: bool, services: Sequence[IngressService]) -> None:
        self._table.update(complete=complete, services=services)
        wanted = self._table.published
        for published in [p for p in self._listeners if p not in wanted]:
            self._listeners.pop(published).close()
        for published in [p for p in self._binding if p not in wanted]:
            self._binding.pop(published).cancel()
        for published in wanted - self._listeners.keys() - self._binding.keys():
            self._open(published)

    async def close(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        running = [*self._serving, *self._binding.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _open(self, published: Published) -> None:
        if published.protocol != PROTOCOL_TCP:
            self._warn(
                f"port {published} of service {self._table.service_name(published)} is not "
                "forwarded: this version forwards TCP only"
            )
            return
        try:
            self._listen(published)
        except OSError as error:
            self._binding[published] = asyncio.create_task(self._bind_later(published, error))

    def _listen(self, published: Published) -> None:
        def accepted(client: socket.socket) -> None:
            task = asyncio.create_task(self._serve(published, client))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

        self._listeners[published] = Listener(bind(self._listen_host, published.port), accepted)

    async def _bind_later(self, published: Published, error: OSError) -> None:
        """Says once who is in the way, then tries until the port is free."""
        name = self._table.service_name(published)
        if error.errno == errno.EADDRINUSE:
            holder = await asyncio.to_thread(holder_of, published.port)
            reason = f"it is in use by {holder}"
        else:
            reason = str(error.strerror)
        self._warn(
            f"port {published}, published by service {name}, cannot be listened on at "
            f"{self._listen_host}: {reason}; trying again every {RETRY_BIND_S:g} s"
        )
        while True:
            await asyncio.sleep(RETRY_BIND_S)
            try:
                self._listen(published)
            except OSError:
                continue
            del self._binding[published]
            self._warn(f"port {published} is free now: service {name} is reachable here")
            return

    async def _serve(self, published: Published, client: socket.socket) -> None:
        try:
            found = await self._find_backend(published)
            if found is None:
                reset(client)
                return
            backend, sock = found
            await self._task_ports.relay_for(backend.task_id).join(client, sock)
        except OSError:
            reset(client)
        except asyncio.CancelledError:
            reset(client)
            raise

    async def _find_backend(self, published: Published) -> tuple[Backend, socket.socket] | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        while True:
            for backend in self._table.candidates(published, loop.time()):
                try:
                    sock = await self._connect(backend)
                except OSError:
                    self._table.failed(backend, loop.time())
                    continue
                self._table.worked(backend)
                return backend, sock
            if loop.time() >= deadline:
                return None
            await asyncio.sleep(PATIENCE_STEP_S)

    async def _connect(self, backend: Backend) -> socket.socket:
        if self._task_ports.is_here(backend.task_id):
            return await self._task_ports.connect(
                backend.task_id, backend.target_port, CONNECT_TIMEOUT_S
            )
        sock = await connect(backend.host, backend.port, CONNECT_TIMEOUT_S)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                greeting = await asyncio.get_running_loop().sock_recv(sock, len(READY))
        except BaseException:
            sock.close()
            raise
        if greeting != READY:
            sock.close()
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the task cannot be reached")
        return sock
