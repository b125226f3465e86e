"""The files of the log: their names, and making them in advance.

A segment is named ``SEQUENCE-FIRSTINDEX.wal`` (as etcd's), so that a start knows without opening
them which ones hold entries above its snapshot.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm.disk import (
    REAL_DISK,
    Disk,
    FatalDiskError,
    NoSpaceError,
    fatal,
    is_no_space,
    remove,
    sync_file,
)

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
_NEXT = "next.tmp"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment's file.

    Attributes:
        sequence: counts segments, without gaps.
        first_index: the index of the entry that came next when it was begun.
        path: the file.
    """

    sequence: int
    first_index: int
    path: Path


def name_of(sequence: int, first_index: int) -> str:
    """The file name of a segment."""
    return f"{sequence:016x}-{first_index:016x}.wal"


def list_segments(folder: Path, disk: Disk = REAL_DISK) -> list[Segment]:
    """The segments in order."""
    found = ((_NAME.fullmatch(name), folder / name) for name in disk.names(folder))
    return sorted(
        (Segment(int(name[1], 16), int(name[2], 16), path) for name, path in found if name),
        key=lambda segment: segment.sequence,
    )


def position_for(segments: Sequence[Segment], index: int) -> int | None:
    """The position of the first segment to read for all entries after ``index``.

    It is the last one that was begun when the log reached to ``index`` at most: whatever is
    above ``index`` now was written later, even where the log was overwritten in between.
    """
    for position in range(len(segments) - 1, -1, -1):
        if segments[position].first_index <= index + 1:
            return position
    return None


class NextSegment:
    """A file that is preallocated while there is still a segment to write into."""

    def __init__(self, folder: Path, disk: Disk, size_bytes: int) -> None:
        self._path = folder / _NEXT
        self._disk = disk
        self._size_bytes = size_bytes
        self._fd = -1

    @property
    def ready(self) -> bool:
        """Whether the file is there."""
        return self._fd >= 0

    @property
    def size_bytes(self) -> int:
        """The size of a segment."""
        return self._size_bytes

    def prepare(self, size_bytes: int = 0) -> None:
        """Allocate the file, with ``size_bytes`` if that is more than usual.

        Raises:
            NoSpaceError: the disk is full.
            FatalDiskError: the disk failed.
        """
        size_bytes = max(size_bytes, self._size_bytes)
        if self.ready and self._disk.size(self._fd) >= size_bytes:
            return
        self.discard()
        fd = self._disk.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self._disk.allocate(fd, 0, size_bytes)
            sync_file(fd, self._path, self._disk)
        except FatalDiskError:
            self._disk.close(fd)
            raise
        except OSError as error:
            self._disk.close(fd)
            self._disk.unlink(self._path)
            if is_no_space(error):
                raise NoSpaceError(
                    f"no space left for the next log segment of {size_bytes >> 20} MiB in "
                    f"{self._path.parent}: free some on that file system"
                ) from error
            raise fatal("allocating", self._path, error) from error
        self._fd = fd

    def take(self) -> tuple[int, Path]:
        """Hand over the open file and its path."""
        fd, self._fd = self._fd, -1
        return fd, self._path

    def discard(self) -> None:
        """Remove the file, also one of an earlier process."""
        if self.ready:
            self._disk.close(self._fd)
            self._fd = -1
        remove(self._path, self._disk)
