"""The files of one manager, byte by byte: what was synced is durable, of what was only written a
power cut keeps some sectors, and of what was only named the first few names.

It stands behind the real log and snapshots (`swarm.disk.Disk`). The kernel's cache is what a
process reads; `_File.durable` is what is there after the power was cut.
"""

from __future__ import annotations

import errno
import io
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from swarm.disk import Disk

SECTOR = 512


class PowerCut(BaseException):
    """In the middle of whatever was being done: nothing that runs may catch it."""


@dataclass(slots=True)
class _File:
    cached: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    # (start, end) of what was written and not synced.
    dirty: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def sync(self) -> None:
        for start, end in self.dirty:
            self._keep(start, end)
        self.dirty.clear()

    def lose(self, rng: random.Random, kept: float) -> None:
        """Of what was not synced, each sector is written or not."""
        for start, end in self.dirty:
            while start < end:
                stop = min(end, (start // SECTOR + 1) * SECTOR)
                if rng.random() < kept:
                    self._keep(start, stop)
                start = stop
        self.dirty.clear()
        self.cached = bytearray(self.durable)

    def _keep(self, start: int, end: int) -> None:
        missing = end - len(self.durable)
        if missing > 0:
            self.durable += bytes(missing)
        self.durable[start:end] = self.cached[start:end]


# A change of a folder: a name that goes (or none), a name that comes (or none), and its file.
_Naming = tuple[str, str, _File]


@dataclass(slots=True)
class _Folder:
    names: dict[str, _File] = field(default_factory=dict[str, _File])
    durable: dict[str, _File] = field(default_factory=dict[str, _File])
    pending: list[_Naming] = field(default_factory=list[_Naming])

    def change(self, gone: str, come: str, file: _File) -> None:
        naming = (gone, come, file)
        _rename(self.names, naming)
        self.pending.append(naming)

    def sync(self) -> None:
        for naming in self.pending:
            _rename(self.durable, naming)
        self.pending.clear()

    def lose(self, rng: random.Random) -> None:
        """A journal keeps the order of what it keeps."""
        del self.pending[rng.randint(0, len(self.pending)) :]
        self.sync()
        self.names = dict(self.durable)


def _rename(names: dict[str, _File], naming: _Naming) -> None:
    gone, come, file = naming
    names.pop(gone, None)
    if come:
        names[come] = file


class FileSystem:
    """`full`: there is no space for more. Each of the faults strikes once:

    `sync_fails`: the next sync fails with EIO, and what it was to write is gone, as on Linux; those
    after it succeed. `write_fails`: the next write stops half-way because the disk is full.
    """

    def __init__(self, rng: random.Random) -> None:
        self.full = False
        self.sync_fails = False
        self.write_fails = False
        self._rng = rng
        self._folders: dict[str, _Folder] = {}
        self._open: dict[int, _File | _Folder] = {}
        self._next_fd = 3
        # Calls until the power is cut.
        self._calls_left: int | None = None

    def port(self) -> Disk:
        return Disk(
            fdatasync=self._fsync,
            fsync=self._fsync,
            allocate=self._allocate,
            pwrite=self._pwrite,
            cut=self._cut,
            open=self._open_file,
            close=self._close,
            size=lambda fd: len(self._file(fd).cached),
            reader=self._reader,
            names=lambda folder: sorted(self._folders[str(folder)].names),
            rename=self._rename,
            unlink=self._unlink,
            is_folder=lambda folder: str(folder) in self._folders or folder == folder.parent,
            make_folder=lambda folder, _: self._make_folder(folder),
        )

    # What strikes it

    def cut_power_after(self, calls: int) -> None:
        """The calls that change something; the next one raises PowerCut."""
        self._calls_left = calls

    def power_is_back(self) -> None:
        """What was not synced is lost, or some of it. All open files are closed."""
        self._calls_left = None
        self._open.clear()
        kept = self._rng.choice((0.0, 0.5, 0.9, 1.0))
        for folder in self._folders.values():
            for file in {id(f): f for f in folder.names.values()}.values():
                file.lose(self._rng, kept)
            folder.lose(self._rng)

    def process_ended(self) -> None:
        """The machine goes on: all that was written is in the kernel's hands."""
        self._calls_left = None
        self._open.clear()

    def erase(self) -> None:
        """Nothing is left."""
        self.process_ended()
        self._folders.clear()

    def contents(self, folder: Path) -> dict[str, bytearray]:
        """For faults that damage what is there: names, and bytes that are cached and durable."""
        found = self._folders.get(str(folder))
        if found is None:
            return {}
        return {name: file.durable for name, file in sorted(found.names.items())}

    def damage(self, path: Path, offset: int) -> None:
        file = self._folders[str(path.parent)].names[path.name]
        for content in (file.cached, file.durable):
            content[offset] ^= 1 << self._rng.randrange(8)

    # The calls

    def _fsync(self, fd: int) -> None:
        self._count()
        opened = self._open[fd]
        if self.sync_fails:
            self.sync_fails = False
            if isinstance(opened, _File):
                opened.dirty.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        opened.sync()

    def _allocate(self, fd: int, offset: int, size: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._count()
        file = self._file(fd)
        for content in (file.cached, file.durable):
            content += bytes(max(0, offset + size - len(content)))

    def _pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self._count()
        file = self._file(fd)
        grows = offset + len(data) > len(file.cached)
        if (self.full and grows) or self.write_fails:
            self.write_fails = False
            self._put(file, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._put(file, data, offset)
        return len(data)

    def _put(self, file: _File, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(file.cached):
            file.cached += bytes(end - len(file.cached))
        file.cached[offset:end] = data
        file.dirty.append((offset, end))

    def _cut(self, fd: int, size: int) -> None:
        """Of the cached content; whether a power cut leaves it so long, nobody may rely on."""
        self._count()
        file = self._file(fd)
        del file.cached[size:]
        file.dirty = [(start, min(end, size)) for start, end in file.dirty if start < size]

    def _open_file(self, path: Path, flags: int, mode: int) -> int:
        del mode
        fd, self._next_fd = self._next_fd, self._next_fd + 1
        if flags & os.O_DIRECTORY:
            self._open[fd] = self._folder(path)
            return fd
        folder = self._folder(path.parent)
        file = folder.names.get(path.name)
        if file is not None and flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "it exists", str(path))
        if file is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "it does not exist", str(path))
            file = _File()
            folder.change("", path.name, file)
        elif flags & os.O_TRUNC:
            file.cached.clear()
            file.durable.clear()
            file.dirty.clear()
        self._open[fd] = file
        return fd

    def _close(self, fd: int) -> None:
        del self._open[fd]

    def _reader(self, path: Path) -> BinaryIO:
        file = self._folder(path.parent).names.get(path.name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "it does not exist", str(path))
        return io.BytesIO(file.cached)

    def _rename(self, path: Path, target: Path) -> None:
        self._count()
        folder = self._folder(path.parent)
        folder.change(path.name, target.name, folder.names[path.name])

    def _unlink(self, path: Path) -> None:
        self._count()
        folder = self._folder(path.parent)
        file = folder.names.get(path.name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "it does not exist", str(path))
        folder.change(path.name, "", file)

    def _make_folder(self, path: Path) -> None:
        self._folders[str(path)] = _Folder()

    def _folder(self, path: Path) -> _Folder:
        """Every folder's parent is only there to be synced."""
        return self._folders.setdefault(str(path), _Folder())

    def _file(self, fd: int) -> _File:
        opened = self._open[fd]
        assert isinstance(opened, _File), "a folder is not written to"
        return opened

    def _count(self) -> None:
        if self._calls_left is None:
            return
        if self._calls_left <= 0:
            raise PowerCut
        self._calls_left -= 1
