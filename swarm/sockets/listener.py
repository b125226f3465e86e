"""A listening socket that hands out what it accepts, and loses nobody when it closes."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

ACCEPTS_PER_TURN = 64
BACKLOG = 1024
# Out of file descriptors or memory: those who wait are accepted later.
PAUSE_S = 0.1
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError: EADDRINUSE where somebody else has the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class Listener:
    """TCP or unix. `accepted` gets each connection's socket, not blocking."""

    def __init__(self, sock: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
        self._sock = sock
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    def close(self) -> None:
        """Connections that the kernel has taken are handed out first: they would be reset."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        while self._accept_one():
            pass
        self._sock.close()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._readable)

    def _readable(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if not self._accept_one():
                return

    def _accept_one(self) -> bool:
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._loop.remove_reader(self._sock)
                self._pause = self._loop.call_later(PAUSE_S, self._listen)
            return False
        sock.setblocking(False)
        self._accepted(sock)
        return True
