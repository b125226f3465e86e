"""Files of tasks in memory: theirs alone while they are there, and gone with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.worker.runtime.port import RuntimeRefused, TaskFile
from swarm.worker.runtime.task_files import TaskFiles

_NOBODY = 65534
FILES = (TaskFile("/run/secrets/a", b"one", mode=0o400), TaskFile("/b", b"x" * 1_000_000))


@pytest.fixture
def files(tmp_path: Path) -> TaskFiles:
    return TaskFiles(str(tmp_path))


def test_they_are_laid_and_laid_again_and_removed(files: TaskFiles) -> None:
    for _ in range(2):
        laid = files.lay("t1", FILES)
    assert [(file.path.read_bytes(), file.target) for file in laid] == [
        (b"one", "/run/secrets/a"),
        (b"x" * 1_000_000, "/b"),
    ]
    assert [file.path.stat().st_mode & 0o777 for file in laid] == [0o400, 0o444]
    directory = laid[0].path.parent
    assert directory.stat().st_mode & 0o777 == 0o700
    assert directory.parent.stat().st_mode & 0o777 == 0o711
    other = files.lay("t2", FILES)
    files.remove("t1")
    assert not directory.exists()
    assert other[0].path.exists()
    files.remove("t2")
    assert not directory.parent.exists()


def test_a_directory_that_was_there_before_is_not_trusted(files: TaskFiles, tmp_path: Path) -> None:
    node = files.lay("t1", FILES)[0].path.parent.parent
    files.remove("t1")
    (tmp_path / "elsewhere").mkdir()
    node.symlink_to(tmp_path / "elsewhere")
    try:
        with pytest.raises(RuntimeRefused, match="belongs to somebody else"):
            files.lay("t1", FILES)
    finally:
        node.unlink()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_without_root_a_file_is_nobody_elses(files: TaskFiles) -> None:
    own = os.geteuid()
    if own == 0:
        os.seteuid(_NOBODY)
    try:
        with pytest.raises(RuntimeRefused, match="swarmd runs without root"):
            files.lay("t1", (TaskFile("/run/secrets/a", b"", uid=os.geteuid() + 1),))
    finally:
        os.seteuid(own)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owners_are_honoured(files: TaskFiles) -> None:
    (laid,) = files.lay("t1", (TaskFile("/run/secrets/a", b"", uid=5, gid=6),))
    found = laid.path.stat()
    files.remove("t1")
    assert (found.st_uid, found.st_gid) == (5, 6)
