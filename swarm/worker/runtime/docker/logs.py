"""The engine's log stream, cut into lines with their times (Engine API, "Stream format")."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Literal

from swarm.worker.runtime.port import LogLine

HEADER = struct.Struct(">BxxxL")
STREAMS: dict[int, Literal["stdout", "stderr"]] = {1: "stdout", 2: "stderr"}


class LogParser:
    """Takes in the bytes of a log asked for with timestamps; with `tty` it has no frames."""

    def __init__(self, tty: bool) -> None:
        self._tty = tty
        self._kept = b""

    def feed(self, data: bytes) -> list[LogLine]:
        self._kept += data
        return self._raw_lines() if self._tty else self._framed_lines()

    def rest(self) -> list[LogLine]:
        """The last line of a terminal, if it had no end."""
        text, self._kept = self._kept, b""
        return _line("stdout", text) if self._tty and text else []

    def _framed_lines(self) -> list[LogLine]:
        lines: list[LogLine] = []
        position = 0
        while len(self._kept) - position >= HEADER.size:
            stream, size = HEADER.unpack_from(self._kept, position)
            end = position + HEADER.size + size
            if end > len(self._kept):
                break
            payload = self._kept[position + HEADER.size : end]
            lines += _line(STREAMS.get(stream, "stdout"), payload)
            position = end
        self._kept = self._kept[position:]
        return lines

    def _raw_lines(self) -> list[LogLine]:
        pieces = self._kept.split(b"\n")
        self._kept = pieces.pop()
        return [line for piece in pieces for line in _line("stdout", piece + b"\n")]


def _line(stream: Literal["stdout", "stderr"], text: bytes) -> list[LogLine]:
    stamp, _, data = text.partition(b" ")
    try:
        return [LogLine(stream, unix_ns(stamp.decode()), data)]
    except ValueError:
        return []


def unix_ns(stamp: str) -> int:
    """RFC 3339 with up to nine decimals, in UTC; 0 for Go's zero time."""
    if stamp.startswith("0001-"):
        return 0
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(seconds + "+00:00").timestamp())
    return whole * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")
