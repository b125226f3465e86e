"""Two sockets made one connection: bytes both ways, with backpressure and half-close."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import cast

WRITE_BUFFER_BYTES = 256 * 1024
# A connection without a byte yet: its request may be on the way.
FRESH_S = 0.5


class _Side(asyncio.Protocol):
    """One of the two; `other` gets what this one reads."""

    __slots__ = ("_early", "other", "relay", "transport")

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.other: _Side = self
        self.transport: asyncio.Transport | None = None
        # What was read before there was anybody to pass it on to.
        self._early = b""

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every event loop's is an instance of it.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if self.other.transport is None:
            self.transport.pause_reading()
        elif self.other.transport.is_closing():
            self.transport.abort()
        else:
            self.other.begin()

    def begin(self) -> None:
        """The other side is there now."""
        early, self._early = self._early, b""
        self.other.write(early)
        self.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.relay.spoke_last = self
        if self.other.transport is None:
            # Not every event loop heeds a pause from its first moment on.
            self._early += data
            self.pause_reading()
        else:
            self.other.write(data)

    def write(self, data: bytes) -> None:
        if self.is_open:
            assert self.transport is not None
            self.transport.write(data)

    def pause_reading(self) -> None:
        if self.is_open:
            assert self.transport is not None
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.is_open:
            assert self.transport is not None
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.other.pause_reading()

    def resume_writing(self) -> None:
        self.other.resume_reading()

    def eof_received(self) -> bool:
        if self.other.is_open:
            assert self.other.transport is not None
            self.other.transport.write_eof()
        self.relay.eofs += 1
        if self.relay.eofs == 2:
            self.relay.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        transport = self.other.transport
        if transport is not None:
            # What was read before the end is still delivered; a broken connection is broken on.
            if exc is None:
                transport.close()
            else:
                transport.abort()
        self.relay.side_lost()


class Relay:
    """A client's connection joined with a backend's. `on_end`: called once, when both are gone."""

    __slots__ = ("_lost", "_on_end", "backend", "client", "eofs", "made_at", "spoke_last")

    def __init__(self, on_end: Callable[[Relay], None]) -> None:
        self.client = _Side(self)
        self.backend = _Side(self)
        self.client.other, self.backend.other = self.backend, self.client
        self.spoke_last: _Side | None = None
        self.eofs = 0
        self.made_at = time.monotonic()
        self._lost = 0
        self._on_end = on_end

    async def join(self, client: socket.socket, backend: socket.socket) -> None:
        """Takes over both connected sockets. Raises OSError when one is gone already."""
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self.backend, backend)
            await loop.connect_accepted_socket(lambda: self.client, client)
        except BaseException:
            backend.close() if self.backend.transport is None else self.abort()
            self._end()
            raise

    @property
    def is_busy(self) -> bool:
        """A request is under way: the client spoke last, or bytes wait to be written.

        Guessed without knowing the protocol: where the server speaks last and the client is
        silent, as on an idle keep-alive connection, nothing is lost by closing.
        """
        if self.spoke_last is None:
            return time.monotonic() - self.made_at < FRESH_S
        return self.spoke_last is self.client or any(
            side.transport is not None and side.transport.get_write_buffer_size() > 0
            for side in (self.client, self.backend)
        )

    def close(self) -> None:
        """After what is buffered has been written."""
        for side in (self.client, self.backend):
            if side.transport is not None:
                side.transport.close()

    def abort(self) -> None:
        for side in (self.client, self.backend):
            if side.transport is not None:
                side.transport.abort()

    def side_lost(self) -> None:
        self._lost += 1
        if self._lost == 2:
            self._end()

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, _nothing
        on_end(self)


def _nothing(_: Relay) -> None:
    pass


async def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """A connected socket; OSError (a TimeoutError among them) otherwise."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def reset(sock: socket.socket) -> None:
    """Closes it so that the other end sees an error, not an empty answer."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()
