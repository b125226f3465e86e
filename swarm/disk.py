"""How bytes become durable, and what can go wrong with that.

The rules are the ones that databases learnt the hard way: a new file is written beside,
fsynced, renamed, and its folder fsynced; a failed fsync is never tried again, because the
kernel may have dropped the dirty pages and the second call would lie
(https://wiki.postgresql.org/wiki/Fsync_Errors).
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_NO_SPACE_CODES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FatalDiskError(Exception):
    """A write or fsync failed: what is on the disk is unknown, so the process must end."""


class NoSpaceError(Exception):
    """There is no space for a file. Nothing that existed before was changed."""


class CorruptFileError(Exception):
    """A file is damaged in a way that no crash explains, so it is refused, never repaired.

    Attributes:
        path: the damaged file.
        offset: where in it, in bytes.
    """

    def __init__(self, path: Path, offset: int, problem: str, way_out: str) -> None:
        super().__init__(f"{path} is damaged at byte {offset}: {problem}. {way_out}")
        self.path = path
        self.offset = offset


def _size(fd: int) -> int:
    return os.fstat(fd).st_size


def _reader(path: Path) -> BinaryIO:
    return path.open("rb")


@dataclass(frozen=True)
class Disk:
    """All that the log and the snapshots ask of a file system, as `os` has it: tests hand in calls
    that fail, and the simulator a file system that loses what was not synced."""

    fdatasync: Callable[[int], None] = os.fdatasync
    fsync: Callable[[int], None] = os.fsync
    allocate: Callable[[int, int, int], None] = os.posix_fallocate
    pwrite: Callable[[int, bytes, int], int] = os.pwrite
    open: Callable[[Path, int, int], int] = os.open
    close: Callable[[int], None] = os.close
    size: Callable[[int], int] = _size
    cut: Callable[[int, int], None] = os.ftruncate
    reader: Callable[[Path], BinaryIO] = _reader
    names: Callable[[Path], list[str]] = os.listdir
    rename: Callable[[Path, Path], None] = os.replace
    unlink: Callable[[Path], None] = os.unlink
    is_folder: Callable[[Path], bool] = os.path.isdir
    make_folder: Callable[[Path, int], None] = os.mkdir


REAL_DISK = Disk()


def is_no_space(error: OSError) -> bool:
    """Whether the call failed because the disk, a quota or a file size limit is full."""
    return error.errno in _NO_SPACE_CODES


def fatal(doing: str, path: Path, error: OSError) -> FatalDiskError:
    """The error to raise when a write or fsync has failed."""
    what_to_do = "Check the disk (dmesg, smartctl)"
    if is_no_space(error):
        what_to_do = "Free some space on that file system"
    return FatalDiskError(
        f"{doing} {path} failed ({error.strerror or error}); what is on the disk is unknown now. "
        f"{what_to_do}, then start swarmd again."
    )


def write_all(fd: int, data: bytes, offset: int, disk: Disk = REAL_DISK) -> None:
    """Write all of ``data`` at ``offset``, however many calls that takes."""
    done = disk.pwrite(fd, data, offset)
    while done < len(data):
        done += disk.pwrite(fd, data[done:], offset + done)


def sync_file(fd: int, path: Path, disk: Disk = REAL_DISK) -> None:
    """fsync the open file ``fd``, whose name is ``path``.

    Raises:
        FatalDiskError: it failed, for whatever reason.
    """
    try:
        disk.fsync(fd)
    except OSError as error:
        raise fatal("fsync of", path, error) from error


def fsync_folder(folder: Path, disk: Disk = REAL_DISK) -> None:
    """Make creations, renames and removals in ``folder`` durable.

    Raises:
        FatalDiskError: the fsync failed.
    """
    fd = disk.open(folder, os.O_RDONLY | os.O_DIRECTORY, 0)
    try:
        disk.fsync(fd)
    except OSError as error:
        raise fatal("fsync of the folder", folder, error) from error
    finally:
        disk.close(fd)


def remove(path: Path, disk: Disk = REAL_DISK) -> None:
    """Remove a file, if it is there; the folder is the caller's to fsync."""
    try:
        disk.unlink(path)
    except FileNotFoundError:
        pass


def make_folder(folder: Path, disk: Disk = REAL_DISK, mode: int = 0o700) -> None:
    """Create ``folder`` and its missing parents durably; an existing one is left as it is."""
    missing: list[Path] = []
    while not disk.is_folder(folder):
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        try:
            disk.make_folder(path, mode)
        except FileExistsError:
            pass
        fsync_folder(path.parent, disk)


def write_synced(path: Path, data: bytes, mode: int = 0o600, disk: Disk = REAL_DISK) -> None:
    """Write ``path`` anew and fsync it; the folder is the caller's to fsync.

    Raises:
        NoSpaceError: the disk is full; the unfinished file is gone.
        FatalDiskError: the write or fsync failed.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        write_all(fd, data, 0, disk)
        sync_file(fd, path, disk)
    except OSError as error:
        path.unlink(missing_ok=True)
        if is_no_space(error):
            raise NoSpaceError(f"no space left to write {path}: free some and try again") from error
        raise fatal("writing", path, error) from error
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes, mode: int = 0o600, disk: Disk = REAL_DISK) -> None:
    """Replace ``path`` so that a crash leaves the old content or the new, never a mixture.

    Raises:
        NoSpaceError: the disk is full; ``path`` is as it was.
        FatalDiskError: the write or fsync failed.
    """
    beside = path.with_name(f".{path.name}.tmp")
    write_synced(beside, data, mode, disk)
    beside.replace(path)
    fsync_folder(path.parent, disk)
