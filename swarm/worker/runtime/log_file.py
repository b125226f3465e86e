"""Reads the log that a monitor writes: tail, since, follow, across rotation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from swarm.worker.runtime.port import LogLine

CHUNK_BYTES = 256 * 1024
POLL_S = 0.1
GENERATIONS_MAX = 1000


def parse(record: bytes) -> LogLine | None:
    """One record of the log, None for a torn one."""
    parts = record.split(b" ", 3)
    if len(parts) != 4 or not parts[0].isdigit():
        return None
    time_ns, stream, flag, text = parts
    if stream not in (b"o", b"e") or flag not in (b"F", b"P"):
        return None
    data = text + b"\n" if flag == b"F" else text
    return LogLine("stdout" if stream == b"o" else "stderr", int(time_ns), data)


async def read_log(
    path: Path,
    *,
    ended: Callable[[], bool],
    follow: bool,
    tail: int | None,
    since_ns: int,
    until_ns: int,
    streams: Sequence[str],
) -> AsyncIterator[LogLine]:
    """The records of the log at `path`; with `follow`, until `ended()` and all is read."""
    reader = LogReader(path)
    try:
        await asyncio.to_thread(reader.seek, tail)
        while True:
            over = not follow or ended()  # asked before reading: nothing is written after the end
            lines = await asyncio.to_thread(reader.read)
            for line in lines:
                if until_ns and line.timestamp_ns > until_ns:
                    return
                if line.timestamp_ns >= since_ns and line.stream in streams:
                    yield line
            if lines:
                continue
            if over:
                return
            await asyncio.sleep(POLL_S)
    finally:
        reader.close()


class LogReader:
    """Reads the log and its older generations (`log.2`, `log.1`, `log`) in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def seek(self, tail: int | None) -> None:
        """Stands at the last `tail` lines, or at the beginning."""
        files = self._generations()
        if tail is None:
            self._file = files[0].open("rb") if files else None
            return
        wanted = tail
        for file in reversed(files):
            opened = _open(file)
            if opened is None:
                break
            if self._file is not None:
                self._file.close()
            self._file = opened
            offset, found = _offset_of_last(opened, wanted)
            opened.seek(offset)
            wanted -= found
            if wanted <= 0:
                break

    def read(self) -> list[LogLine]:
        """The next lines; none at the end as it is now."""
        while True:
            if self._file is None:
                self._file = _open(self._path)
                if self._file is None:
                    return []
            lines = self._read_chunk(self._file)
            if lines:
                return lines
            newer = self._newer(self._file)
            if newer is None:
                return []
            # What was written between our last read and the rotation.
            lines = self._read_chunk(self._file)
            if lines:
                newer.close()
                return lines
            self._file.close()
            self._file, self._rest = newer, b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_chunk(self, file: BinaryIO) -> list[LogLine]:
        lines: list[LogLine] = []
        while not lines:
            data = file.read(CHUNK_BYTES)
            if not data:
                break
            records = (self._rest + data).split(b"\n")
            self._rest = records.pop()
            lines = [line for line in map(parse, records) if line is not None]
        return lines

    def _newer(self, file: BinaryIO) -> BinaryIO | None:
        """The generation after `file`, None where that is the newest."""
        inode = os.fstat(file.fileno()).st_ino
        generations = self._generations()
        inodes = [_inode(generation) for generation in generations]
        if not inodes or inodes[-1] == inode:
            return None
        position = inodes.index(inode) + 1 if inode in inodes else 0
        return _open(generations[position])

    def _generations(self) -> list[Path]:
        """The files that there are, oldest first."""
        files = [self._path] if self._path.exists() else []
        for number in range(1, GENERATIONS_MAX):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if not older.exists():
                break
            files.append(older)
        return files[::-1]


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return -1


def _offset_of_last(file: BinaryIO, wanted: int) -> tuple[int, int]:
    """Where the last `wanted` whole lines begin, and how many there are from there on."""
    end = file.seek(0, os.SEEK_END)
    if wanted <= 0:
        return end, 0
    found = 0
    position = end
    later = b""  # the beginning of a record that goes on in the block after this one
    while position > 0:
        size = min(CHUNK_BYTES, position)
        position -= size
        file.seek(position)
        block = file.read(size) + later
        cursor = len(block)
        while True:
            newline = block.rfind(b"\n", 0, max(cursor - 1, 0))
            if newline < 0 and position > 0:
                break
            start = newline + 1
            unfinished = position + cursor == end
            if unfinished or _is_line_end(block[start:cursor]):
                if found == wanted:
                    return position + cursor, found
                found += 1
            cursor = start
            if cursor == 0:
                break
        later = block[:cursor]
    return 0, found


def _is_line_end(record: bytes) -> bool:
    return record.split(b" ", 3)[2:3] == [b"F"]
