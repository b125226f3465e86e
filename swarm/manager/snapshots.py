"""Snapshots of the state on disk: written in chunks beside, synced, renamed.

A file ``INDEX-TERM.snap`` is a magic number and frames: one with what it is a snapshot of, one a
chunk, and a trailer with the number of chunks, their length and checksum. Each frame is sealed
together with its place, so that no chunk can be missing, exchanged or from another snapshot.
Memory is bounded by a chunk. Blocking; each writer or reader is for one thread.
"""

import itertools
import logging
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from swarm.api.v1.raft_pb2 import ConfState, Snapshot
from swarm.disk import (
    REAL_DISK,
    CorruptFileError,
    Disk,
    NoSpaceError,
    fatal,
    fsync_folder,
    is_no_space,
    make_folder,
    remove,
    sync_file,
    write_all,
)
from swarm.manager.damage import way_out
from swarm.security.encryption import Encrypter
from swarm.security.errors import SecurityError, WrongKeyError

MAX_CHUNK_BYTES = 4 << 20
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")
_MAGIC = b"SWARMSNP\x01\0\0\0\0\0\0\0"
_FRAME = struct.Struct("<II")
_TRAILER = struct.Struct("<QQI")
_CONTEXT = struct.Struct("<8sQQBQ")
# Synced in steps, so that the log's fdatasync beside never waits for a whole snapshot.
_SYNC_BYTES = 8 << 20

log = logging.getLogger(__name__)


class ChecksumError(Exception):
    """The data received is not what was sent; it was discarded."""


class _Kind(IntEnum):
    SUBJECT = 1
    CHUNK = 2
    TRAILER = 3


@dataclass(frozen=True)
class SnapshotInfo:
    """What a file is a snapshot of.

    Attributes:
        index: of the last entry that is in it.
        term: of that entry.
        conf_state: the Raft group at that index.
        path: the file.
    """

    index: int
    term: int
    conf_state: ConfState
    path: Path


class Snapshots:
    """The snapshots in a folder."""

    def __init__(self, folder: Path, encrypter: Encrypter, *, disk: Disk = REAL_DISK) -> None:
        make_folder(folder, disk)
        # Names may be in the kernel's cache alone, and the log below a snapshot goes.
        fsync_folder(folder, disk)
        self._folder = folder
        self._encrypter = encrypter
        self._disk = disk
        self._attempts = itertools.count()
        for unfinished in self._named("*.tmp"):
            self._disk.unlink(unfinished)

    def list(self) -> list[SnapshotInfo]:
        """The snapshots, newest first; only their first frame is read.

        Raises:
            WrongKeyError: they are sealed with another key.
        """
        found: list[SnapshotInfo] = []
        for path in self._paths():
            try:
                with self._reader(path) as reader:
                    found.append(reader.info)
            except CorruptFileError as error:
                log.warning("%s", error)
        return found

    def newest(self) -> SnapshotInfo | None:
        """The newest snapshot whose whole content is intact, None when there never was one.

        A damaged one is set aside (``.broken``) if an older one is intact; whether the log
        reaches back to that one is for the log to say.

        Raises:
            CorruptFileError: there are snapshots, and none is intact.
            WrongKeyError: they are sealed with another key.
        """
        broken: list[CorruptFileError] = []
        for path in self._paths():
            try:
                with self._reader(path) as reader:
                    for _ in reader:
                        pass
                    self._set_aside(broken)
                    return reader.info
            except CorruptFileError as error:
                broken.append(error)
        if broken:
            raise broken[0]
        return None

    def save(
        self, index: int, term: int, conf_state: ConfState, chunks: Iterable[bytes]
    ) -> SnapshotInfo:
        """Write a snapshot as :meth:`begin` does, from start to end."""
        with self.begin(index, term, conf_state) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()

    def begin(self, index: int, term: int, conf_state: ConfState) -> "SnapshotWriter":
        """Begin a snapshot, of this manager's state or one received from a leader.

        Raises:
            NoSpaceError: the disk is full.
            FatalDiskError: the disk failed.
        """
        path = self._folder / f"{index:016x}-{term:016x}.snap"
        beside = path.with_suffix(f".{next(self._attempts)}.tmp")
        info = SnapshotInfo(index, term, conf_state, path)
        return SnapshotWriter(info, beside, self._encrypter, self._disk)

    def open_reader(self, index: int) -> "SnapshotReader":
        """The chunks of the snapshot at ``index``; it may be pruned meanwhile.

        Raises:
            FileNotFoundError: there is none at this index.
            CorruptFileError: it is damaged.
        """
        for path in self._paths():
            if path.name.startswith(f"{index:016x}-"):
                return self._reader(path)
        raise FileNotFoundError(f"there is no snapshot at index {index} in {self._folder}")

    def prune(self, keep: int = 2) -> int:
        """Remove all but the newest ``keep``, and what was set aside; returns how many."""
        paths = self._paths()
        unneeded = [*paths[keep:]]
        if len(paths) >= keep:
            unneeded.extend(self._named("*.broken"))
        for path in unneeded:
            self._disk.unlink(path)
        if unneeded:
            fsync_folder(self._folder, self._disk)
        return len(unneeded)

    def _paths(self) -> Sequence[Path]:
        names = (name for name in self._disk.names(self._folder) if _NAME.fullmatch(name))
        return [self._folder / name for name in sorted(names, reverse=True)]

    def _named(self, pattern: str) -> Sequence[Path]:
        return [self._folder / n for n in self._disk.names(self._folder) if fnmatch(n, pattern)]

    def _reader(self, path: Path) -> "SnapshotReader":
        return SnapshotReader(path, self._encrypter, self._disk)

    def _set_aside(self, broken: Sequence[CorruptFileError]) -> None:
        for error in broken:
            log.error("%s An older snapshot is used instead.", error)
            self._disk.rename(error.path, error.path.with_suffix(".broken"))
        if broken:
            fsync_folder(self._folder, self._disk)


class SnapshotWriter:
    """A snapshot being written; as a context manager it discards what was not committed.

    Attributes:
        checksum: crc32 of all data so far.
        bytes_written: of data so far.
    """

    def __init__(self, info: SnapshotInfo, beside: Path, encrypter: Encrypter, disk: Disk) -> None:
        self._info = info
        self._beside = beside
        self._encrypter = encrypter
        self._disk = disk
        self._chunks = 0
        self._offset = 0
        self._synced = 0
        self.checksum = 0
        self.bytes_written = 0
        self._fd = disk.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        subject = Snapshot(index=info.index, term=info.term, conf_state=info.conf_state)
        self._put(_MAGIC)
        self._put_frame(_Kind.SUBJECT, 0, subject.SerializeToString())

    def write(self, chunk: bytes) -> None:
        """Add a chunk; readers get the same chunks.

        Raises:
            ValueError: it has more than 4 MiB; 256 KiB to 1 MiB are good.
            NoSpaceError: the disk is full; the snapshot is discarded.
            FatalDiskError: the disk failed.
        """
        if len(chunk) > MAX_CHUNK_BYTES:
            raise ValueError(f"a chunk has {MAX_CHUNK_BYTES} bytes at most, not {len(chunk)}")
        self._put_frame(_Kind.CHUNK, self._chunks, chunk)
        self._chunks += 1
        self.bytes_written += len(chunk)
        self.checksum = zlib.crc32(chunk, self.checksum)
        if self._offset - self._synced >= _SYNC_BYTES:
            self._sync()

    def commit(self, checksum: int | None = None) -> SnapshotInfo:
        """Make the snapshot durable and visible.

        Args:
            checksum: what the sender computed over all data, to be compared.

        Raises:
            ChecksumError: it differs; the snapshot is discarded.
            NoSpaceError: the disk is full; the snapshot is discarded.
            FatalDiskError: the disk failed.
        """
        if checksum is not None and checksum != self.checksum:
            self.discard()
            raise ChecksumError(
                f"the snapshot at index {self._info.index} did not arrive as it was sent: "
                "send it again"
            )
        trailer = _TRAILER.pack(self._chunks, self.bytes_written, self.checksum)
        self._put_frame(_Kind.TRAILER, self._chunks, trailer)
        sync_file(self._fd, self._beside, self._disk)
        self._close()
        try:
            self._disk.rename(self._beside, self._info.path)
        except OSError as error:
            raise fatal("renaming", self._beside, error) from error
        fsync_folder(self._info.path.parent, self._disk)
        return self._info

    def discard(self) -> None:
        """Remove what was written; nothing after a commit."""
        if self._fd >= 0:
            self._close()
            remove(self._beside, self._disk)

    def __enter__(self) -> "SnapshotWriter":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()

    def _put_frame(self, kind: _Kind, number: int, plaintext: bytes) -> None:
        context = _context(self._info.index, self._info.term, kind, number)
        sealed = self._encrypter.seal(plaintext, context)
        self._put(_FRAME.pack(kind, len(sealed)) + sealed)

    def _put(self, data: bytes) -> None:
        if self._fd < 0:
            raise ValueError("the snapshot is committed or discarded already")
        try:
            write_all(self._fd, data, self._offset, self._disk)
        except OSError as error:
            self.discard()
            if is_no_space(error):
                raise NoSpaceError(
                    f"no space left for a snapshot in {self._beside.parent}: free some on that "
                    "file system"
                ) from error
            raise fatal("writing", self._beside, error) from error
        self._offset += len(data)

    def _sync(self) -> None:
        try:
            self._disk.fdatasync(self._fd)
        except OSError as error:
            raise fatal("fdatasync of", self._beside, error) from error
        self._synced = self._offset

    def _close(self) -> None:
        self._disk.close(self._fd)
        self._fd = -1


class SnapshotReader:
    """The chunks of a snapshot, as they were written; a context manager.

    Attributes:
        info: what it is a snapshot of.
    """

    def __init__(self, path: Path, encrypter: Encrypter, disk: Disk = REAL_DISK) -> None:
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise ValueError(f"{path} is not named as a snapshot")
        self._path = path
        self._encrypter = encrypter
        self._index, self._term = int(name[1], 16), int(name[2], 16)
        self._file: BinaryIO = disk.reader(path)
        try:
            self.info = self._read_subject()
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks that are left.

        Raises:
            CorruptFileError: it is damaged from here on; nothing that was yielded is wrong.
        """
        chunks = length = checksum = 0
        while True:
            kind, plaintext = self._read_frame((_Kind.CHUNK, _Kind.TRAILER), chunks)
            if kind is _Kind.TRAILER:
                break
            chunks += 1
            length += len(plaintext)
            checksum = zlib.crc32(plaintext, checksum)
            yield plaintext
        if plaintext != _TRAILER.pack(chunks, length, checksum):
            raise self._damaged("its trailer does not fit its content")
        if self._file.read(1):
            raise self._damaged("there is something after its end")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "SnapshotReader":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read_subject(self) -> SnapshotInfo:
        if self._read(len(_MAGIC)) != _MAGIC:
            raise self._damaged("it does not begin as a snapshot of this version")
        _, plaintext = self._read_frame((_Kind.SUBJECT,), 0)
        subject = Snapshot.FromString(plaintext)
        return SnapshotInfo(subject.index, subject.term, subject.conf_state, self._path)

    def _read_frame(self, expected: tuple[_Kind, ...], number: int) -> tuple[_Kind, bytes]:
        place = self._file.tell()
        header = self._read(_FRAME.size)
        if len(header) < _FRAME.size:
            raise self._damaged("it is cut short", place)
        kind, length = _FRAME.unpack(header)
        if kind not in expected or length > MAX_CHUNK_BYTES + Encrypter.overhead:
            raise self._damaged("a chunk's header is wrong", place)
        sealed = self._read(length)
        if len(sealed) < length:
            raise self._damaged("it is cut short", place)
        try:
            plaintext = self._encrypter.open(
                sealed, _context(self._index, self._term, kind, number)
            )
        except WrongKeyError:
            raise
        except SecurityError as error:
            raise self._damaged(str(error), place) from error
        return _Kind(kind), plaintext

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise fatal("reading", self._path, error) from error

    def _damaged(self, problem: str, offset: int | None = None) -> CorruptFileError:
        place = self._file.tell() if offset is None else offset
        return CorruptFileError(self._path, place, problem, way_out(self._path.parent.parent))


def _context(index: int, term: int, kind: int, number: int) -> bytes:
    return _CONTEXT.pack(b"swarmsnp", index, term, kind, number)
