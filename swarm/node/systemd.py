"""What systemd is told of this daemon: sd_notify(3), a datagram a word, and nothing without it."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager

log = logging.getLogger(__name__)

# A sign of life is owed once in WATCHDOG_USEC: three are sent in that time.
_SIGNS_OF_LIFE = 3
# systemd reads at once; were it ever so busy that its queue is full, swarmd goes on without it.
_PATIENCE_S = 1.0


class Supervisor:
    """Says when this daemon is ready, reads its settings anew, lives, stops.

    The variables by which systemd asks for it are taken out of `environment`: they are for this
    process, not for its children.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environment)
        self._watching: asyncio.Task[None] | None = None
        self._status: str | None = None

    def ready(self, status: str) -> None:
        """`status` is what `systemctl status` shows. From here on the watchdog is fed."""
        self._status = status
        self._say("READY=1", f"STATUS={status}")
        if self.watchdog_s and self._watching is None:
            self._watching = asyncio.create_task(self._feed_watchdog(), name="watchdog")

    @contextmanager
    def reloading(self) -> Generator[None]:
        """While the settings are read anew. Before the daemon is ready that makes it no readier."""
        if self._status is None:
            yield
            return
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready(self._status)

    def stopping(self) -> None:
        self._say("STOPPING=1", "STATUS=stops; tasks go on")

    def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _feed_watchdog(self) -> None:
        """On the loop that all of swarmd's work is done on: one that hangs says nothing here, and
        systemd starts swarmd again."""
        while True:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / _SIGNS_OF_LIFE)

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        # "@" stands for the zero byte of an abstract name.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_PATIENCE_S)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("systemd can't be told (%s): %s", lines[0], error)


def _watchdog_s(environment: MutableMapping[str, str]) -> float:
    """How often systemd wants a sign of life from this process; 0 for never."""
    period_us, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not period_us.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(period_us) / 1e6
