"""The agent's database on a real disk."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.worker.core.events import Row
from swarm.worker.database import Database, DatabaseError


def test_what_was_saved_is_there_again(tmp_path):
    path = tmp_path / "worker" / "agent.db"
    database = Database(path)
    assert database.load() == []
    database.save([Row("task", "a", b"1"), Row("task", "b", b"2")], [])
    database.save([Row("task", "a", b"3")], [("task", "b"), ("task", "never")])
    database.close()
    again = Database(path)
    assert again.load() == [Row("task", "a", b"3")]
    again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_durable_without_being_closed(tmp_path):
    database = Database(tmp_path / "agent.db")
    database.save([Row("task", "a", b"1")], [])
    other = Database(tmp_path / "agent.db")
    assert other.load() == [Row("task", "a", b"1")]
    other.close()
    database.close()


def test_a_save_that_fails_leaves_nothing_behind(tmp_path):
    database = Database(tmp_path / "agent.db")
    database.save([Row("task", "a", b"1")], [])
    with pytest.raises(DatabaseError, match=r"agent\.db"):
        database.save([Row("task", "b", b"2"), Row("task", "c", None)], [])
    assert database.load() == [Row("task", "a", b"1")]
    database.save([Row("task", "b", b"2")], [])
    assert len(database.load()) == 2
    database.close()


def test_a_damaged_file_is_named_with_a_way_out(tmp_path):
    path = tmp_path / "agent.db"
    path.write_bytes(b"this is no database at all, but long enough to be looked at" * 100)
    with pytest.raises(DatabaseError, match="move it away") as raised:
        Database(path)
    assert str(path) in str(raised.value)


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "agent.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DatabaseError, match="newer"):
        Database(path)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
    subprocess.run(mount, check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(b"\0" * 256)
        except OSError:
            pass


def test_a_full_disk_is_called_so_and_is_no_damage(tiny_disk: Path) -> None:
    path = tiny_disk / "agent.db"
    database = Database(path)
    database.save([Row("task", "a", b"1")], [])
    filler = tiny_disk / "filler"
    fill(filler)
    with pytest.raises(DatabaseError, match=r"no space left on its disk\): free some$") as raised:
        database.save([Row("task", "b", b"2" * 100_000)], [])
    assert str(path) in str(raised.value)
    database.close()
    # Opening it, and making a new one, fail in the same words.
    fill(filler.with_name("more"))
    for one in (path, tiny_disk / "new" / "agent.db"):
        with pytest.raises(DatabaseError, match="no space left on its disk") as raised:
            Database(one)
        assert "move it away" not in str(raised.value)
    for one in (filler, filler.with_name("more")):
        one.unlink(missing_ok=True)
    again = Database(path)
    assert again.load() == [Row("task", "a", b"1")]
    again.close()


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("")
    with pytest.raises(DatabaseError, match="see to its folder"):
        Database(tmp_path / "worker" / "agent.db")
