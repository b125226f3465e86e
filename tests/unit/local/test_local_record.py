"""What is written down of a local cluster, and the lock beside it."""

from __future__ import annotations

import fcntl
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.local import record
from swarm.local.errors import LocalError
from swarm.local.record import LocalCluster, LocalNode


def cluster(folder: Path) -> LocalCluster:
    nodes = tuple(
        LocalNode(
            name=f"{role}-{number}",
            role=role,
            host=f"127.9.8.{number}",
            port=2377,
            state_dir=folder / f"{role}-{number}",
            socket=folder / f"{role}-{number}" / "swarmd.sock",
            group_id=number,
        )
        for number, role in enumerate(("manager", "manager", "worker"), start=1)
    )
    return LocalCluster(folder, "process", "127.9.8.0/24", nodes, docker_host="unix:///x")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = replace(cluster(tmp_path), complete=True)
    record.save(saved)
    assert record.load(tmp_path) == saved
    assert saved.hosts == [
        f"unix://{tmp_path}/manager-1/swarmd.sock",
        f"unix://{tmp_path}/manager-2/swarmd.sock",
    ]


def test_what_is_not_there_or_broken_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"no local cluster in .*local up --dir"):
        record.load(tmp_path)
    (tmp_path / record.FILE).write_text("{")
    with pytest.raises(LocalError, match="can't be read"):
        record.load(tmp_path)
    with pytest.raises(LocalError, match="no such node: manager-9: this cluster has manager-1, "):
        cluster(tmp_path).node("manager-9")


def test_a_verb_waits_for_the_one_before(tmp_path: Path) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with record.locked(tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    with record.locked(tmp_path):
        thread.start()
        waiting.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_lock_whose_file_was_removed_is_not_enough(tmp_path: Path) -> None:
    """A `down` removes the file that others wait for; they must meet at the new one."""
    with (tmp_path / record.LOCK).open("a") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        (tmp_path / record.LOCK).unlink()
        with (
            record.locked(tmp_path),
            (tmp_path / record.LOCK).open("a") as new,
            pytest.raises(BlockingIOError),
        ):
            fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
