"""Files that a crash leaves whole."""

import errno
import os
from pathlib import Path

import pytest

from swarm.disk import (
    Disk,
    FatalDiskError,
    NoSpaceError,
    fsync_folder,
    make_folder,
    write_durably,
)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old", 0o640)
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_private_and_once(tmp_path: Path) -> None:
    synced: list[Path] = []

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())

    make_folder(tmp_path / "a" / "b", Disk(fsync=fsync))
    make_folder(tmp_path / "a" / "b", Disk(fsync=fsync))
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert synced == [tmp_path, tmp_path / "a"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, code: int) -> None:
    def pwrite(fd: int, data: bytes, offset: int) -> int:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "file"
    write_durably(path, b"old")
    with pytest.raises(NoSpaceError, match="free some"):
        write_durably(path, b"new", disk=Disk(pwrite=pwrite))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_fsync_is_fatal_whatever_the_reason(tmp_path: Path, code: int) -> None:
    def fsync(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "file"
    write_durably(path, b"old")
    with pytest.raises(FatalDiskError, match="then start swarmd again"):
        write_durably(path, b"new", disk=Disk(fsync=fsync))
    assert path.read_bytes() == b"old"
    with pytest.raises(FatalDiskError):
        fsync_folder(tmp_path, Disk(fsync=fsync))
