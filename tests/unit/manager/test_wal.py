"""The log: what is synced comes back, and what is replaced does not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.api.v1.raft_pb2 import Entry, HardState
from swarm.disk import CorruptFileError, Disk
from swarm.manager.wal import Wal
from swarm.security.encryption import Encrypter, generate_key
from swarm.security.errors import WrongKeyError

SEGMENT = 64 << 10


@pytest.fixture(scope="module")
def encrypter() -> Encrypter:
    return Encrypter(generate_key())


@pytest.fixture
def opened(tmp_path: Path, encrypter: Encrypter) -> Iterator[Wal]:
    wal, _, _ = Wal.open(tmp_path / "wal", encrypter, segment_bytes=SEGMENT)
    yield wal
    wal.close()


def entries(first: int, last: int, term: int = 1, size: int = 100) -> list[Entry]:
    return [
        Entry(term=term, index=index, data=f"{term}/{index} ".encode().ljust(size, b"."))
        for index in range(first, last + 1)
    ]


def reopen(
    wal: Wal, encrypter: Encrypter, index: int = 0, term: int = 0
) -> tuple[Wal, HardState, list[Entry]]:
    folder = wal._folder
    wal.close()
    return Wal.open(
        folder, encrypter, snapshot_index=index, snapshot_term=term, segment_bytes=SEGMENT
    )


def segments(wal: Wal) -> list[str]:
    return sorted(path.name for path in wal._folder.glob("*.wal"))


def test_a_new_log_is_empty_and_has_room(tmp_path: Path, encrypter: Encrypter) -> None:
    wal, hard_state, found = Wal.open(tmp_path / "raft" / "wal", encrypter, segment_bytes=SEGMENT)
    assert (hard_state, found) == (HardState(), [])
    assert wal.has_room
    assert wal.last_index == 0
    assert SEGMENT < wal.room_bytes < 2 * SEGMENT
    wal.close()


def test_hard_state_and_entries_come_back(opened: Wal, encrypter: Encrypter) -> None:
    opened.append(HardState(term=1, vote=7), entries(1, 3))
    opened.sync()
    opened.append(HardState(term=1, vote=7, commit=2), entries(4, 4))
    opened.sync()
    wal, hard_state, found = reopen(opened, encrypter)
    assert hard_state == HardState(term=1, vote=7, commit=2)
    assert found == entries(1, 4)
    assert wal.last_index == 4
    wal.close()


def test_an_entry_type_and_empty_data_survive(opened: Wal, encrypter: Encrypter) -> None:
    kept = [Entry(term=1, index=1), Entry(term=1, index=2, type=1, data=b"\0" * 600)]
    opened.append(None, kept)
    opened.sync()
    wal, _, found = reopen(opened, encrypter)
    assert found == kept
    wal.close()


def test_what_was_not_synced_is_not_on_disk(
    tmp_path: Path, opened: Wal, encrypter: Encrypter
) -> None:
    opened.append(None, entries(1, 2))
    opened.sync()
    opened.append(HardState(term=9), entries(3, 4))
    copy = tmp_path / "crashed"
    copy.mkdir()
    for path in opened._folder.glob("*.wal"):
        (copy / path.name).write_bytes(path.read_bytes())
    wal, hard_state, found = Wal.open(copy, encrypter, segment_bytes=SEGMENT)
    assert found == entries(1, 2)
    assert hard_state == HardState()
    wal.close()


def test_close_writes_what_is_left(opened: Wal, encrypter: Encrypter) -> None:
    opened.append(None, entries(1, 5))
    opened.sync()
    opened.append(HardState(term=1, commit=5), [])
    wal, hard_state, _ = reopen(opened, encrypter)
    assert hard_state.commit == 5
    wal.close()


def test_later_entries_replace_earlier_ones(opened: Wal, encrypter: Encrypter) -> None:
    opened.append(None, entries(1, 10))
    opened.sync()
    opened.append(None, entries(4, 6, term=2))
    opened.append(None, entries(6, 7, term=3))
    opened.sync()
    assert opened.last_index == 7
    wal, _, found = reopen(opened, encrypter)
    assert found == entries(1, 3) + entries(4, 5, term=2) + entries(6, 7, term=3)
    wal.close()


def test_entries_that_do_not_connect_are_refused(opened: Wal) -> None:
    opened.append(None, entries(1, 3))
    with pytest.raises(ValueError, match="do not connect to a log that ends at 3"):
        opened.append(None, entries(5, 6))
    with pytest.raises(ValueError, match="do not connect"):
        opened.append(None, [entries(4, 4)[0], entries(6, 6)[0]])


def test_segments_follow_one_another(opened: Wal, encrypter: Encrypter) -> None:
    for index in range(1, 401):
        opened.append(HardState(term=1, commit=index - 1), entries(index, index, size=600))
        opened.sync()
    assert len(segments(opened)) > 3
    assert opened.has_room
    wal, hard_state, found = reopen(opened, encrypter)
    assert found == entries(1, 400, size=600)
    assert hard_state.commit == 399
    wal.append(None, entries(401, 401))
    wal.sync()
    wal, _, found = reopen(wal, encrypter)
    assert found[-1].index == 401
    wal.close()


def test_a_batch_larger_than_a_segment_is_written_in_parts(
    tmp_path: Path, encrypter: Encrypter
) -> None:
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    many = entries(1, 10, size=1 << 20)
    wal.append(HardState(term=1, commit=10), many)
    wal.sync()
    wal.close()
    wal, hard_state, found = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    assert found == many
    assert hard_state.commit == 10
    wal.close()


def test_overwriting_across_segments(opened: Wal, encrypter: Encrypter) -> None:
    opened.append(None, entries(1, 50, size=1000))
    opened.sync()
    opened.append(None, entries(51, 100, size=1000))
    opened.sync()
    assert len(segments(opened)) == 2
    opened.append(None, entries(30, 31, term=2))
    opened.sync()
    opened.append(None, entries(32, 120, term=2, size=1000))
    opened.sync()
    assert len(segments(opened)) == 3
    wal, _, found = reopen(opened, encrypter)
    expected = (
        entries(1, 29, size=1000) + entries(30, 31, term=2) + entries(32, 120, term=2, size=1000)
    )
    assert found == expected
    # With a snapshot inside the overwritten part, and one at the border of a segment.
    for index in (29, 31, 50, 110):
        wal, _, found = reopen(wal, encrypter, index, expected[index - 1].term)
        assert found == expected[index:]
    wal.close()


def test_entries_up_to_the_snapshot_are_left_out(opened: Wal, encrypter: Encrypter) -> None:
    opened.append(HardState(term=1, commit=5), entries(1, 10))
    opened.sync()
    wal, hard_state, found = reopen(opened, encrypter, 8, 1)
    assert found == entries(9, 10)
    # Whatever a snapshot holds is committed.
    assert hard_state.commit == 8
    wal.close()


def test_compact_removes_whole_segments_only(opened: Wal, encrypter: Encrypter) -> None:
    for first in range(1, 301, 10):
        opened.append(HardState(term=3, vote=2), entries(first, first + 9, size=1000))
        opened.sync()
    before = segments(opened)
    assert len(before) == 5
    assert opened.compact(0) == 0
    assert opened.compact(150) == 2
    assert segments(opened) == before[2:]
    wal, hard_state, found = reopen(opened, encrypter, 150, 1)
    assert found == entries(151, 300, size=1000)
    assert hard_state == HardState(term=3, vote=2, commit=150)
    assert wal.compact(300) == 2
    assert len(segments(wal)) == 1
    wal, hard_state, found = reopen(wal, encrypter, 300, 1)
    assert (found, hard_state.term, hard_state.vote) == ([], 3, 2)
    wal.close()


def test_segments_below_the_snapshot_are_not_read(opened: Wal, encrypter: Encrypter) -> None:
    for first in range(1, 1001, 100):
        opened.append(None, entries(first, first + 99, size=1000))
        opened.sync()
    for name in segments(opened)[:-2]:
        (opened._folder / name).write_bytes(b"not to be read")
    wal, _, found = reopen(opened, encrypter, 1000, 1)
    assert found == []
    wal.close()


def test_small_records_fill_a_segment_by_their_number(tmp_path: Path, encrypter: Encrypter) -> None:
    """A start reads no more than so many records below the snapshot, and full segments take no
    more of the disk than they hold."""
    wal, _, _ = Wal.open(tmp_path / "wal", encrypter, segment_bytes=SEGMENT, segment_records=10)
    for index in range(1, 31):
        wal.append(None, entries(index, index))
        wal.sync()
        if index == 15:
            wal.close()
            wal, _, _ = Wal.open(
                tmp_path / "wal", encrypter, segment_bytes=SEGMENT, segment_records=10
            )
    # The first record of each says which segment it is.
    assert [int(name[17:33], 16) for name in segments(wal)] == [1, 10, 19, 28]
    *full, last = sorted((tmp_path / "wal").glob("*.wal"))
    assert all(path.stat().st_size < 10 * 512 for path in full)
    assert last.stat().st_size == SEGMENT
    for path in full[:2]:
        path.write_bytes(b"never opened")
    wal, _, found = reopen(wal, encrypter, 20, 1)
    assert [entry.index for entry in found] == list(range(21, 31))
    wal.close()


def test_a_log_that_does_not_reach_the_snapshot_is_refused(
    opened: Wal, encrypter: Encrypter
) -> None:
    for first in range(1, 301, 10):
        opened.append(None, entries(first, first + 9, size=1000))
        opened.sync()
    opened.compact(250)
    with pytest.raises(CorruptFileError, match="but the newest good snapshot ends at 20"):
        reopen(opened, encrypter, 20, 1)
    with pytest.raises(CorruptFileError, match="there is no good snapshot"):
        reopen(opened, encrypter)


def test_a_snapshot_from_a_leader_voids_the_log(opened: Wal, encrypter: Encrypter) -> None:
    opened.append(HardState(term=3, commit=90), entries(1, 120, term=3))
    opened.sync()
    opened.append(HardState(term=5), entries(121, 122, term=3))
    opened.restart(100, 5)
    assert opened.last_index == 100
    opened.append(HardState(term=5, commit=100), entries(101, 102, term=5))
    opened.sync()
    wal, hard_state, found = reopen(opened, encrypter, 100, 5)
    assert found == entries(101, 102, term=5)
    assert hard_state == HardState(term=5, commit=100)
    with pytest.raises(CorruptFileError, match="begins with entry 101, but the newest"):
        reopen(wal, encrypter, 50, 3)


@pytest.mark.parametrize(
    ("index", "term", "left"),
    [(100, 5, 0), (100, 3, 20), (120, 3, 0), (200, 5, 0)],
    ids=["contradicts", "agrees", "at the end", "beyond"],
)
def test_a_crash_between_saving_a_received_snapshot_and_the_log(
    opened: Wal, encrypter: Encrypter, index: int, term: int, left: int
) -> None:
    opened.append(HardState(term=3, commit=90), entries(1, 120, term=3))
    opened.sync()
    wal, hard_state, found = reopen(opened, encrypter, index, term)
    assert found == entries(index + 1, index + left, term=3)
    assert hard_state.commit == index
    assert wal.last_index == index + left
    wal.append(HardState(term=6, commit=index), entries(index + left + 1, index + left + 1, 6))
    wal.sync()
    wal, _, found = reopen(wal, encrypter, index, term)
    assert [entry.index for entry in found] == list(range(index + 1, index + left + 2))
    wal.close()


def test_no_record_says_more_is_committed_than_is_logged(opened: Wal, encrypter: Encrypter) -> None:
    opened.append(HardState(term=1, commit=50), entries(1, 3))
    opened.sync()
    wal, hard_state, _ = reopen(opened, encrypter)
    assert hard_state.commit == 3
    wal.close()


def test_another_key_is_named_and_nothing_is_changed(opened: Wal, encrypter: Encrypter) -> None:
    opened.append(None, entries(1, 3))
    opened.sync()
    with pytest.raises(WrongKeyError, match="restore the key file"):
        reopen(opened, Encrypter(generate_key()))
    wal, _, found = reopen(opened, encrypter)
    assert found == entries(1, 3)
    wal.close()


def test_nothing_is_readable_without_the_key(opened: Wal) -> None:
    opened.append(None, [Entry(term=1, index=1, data=b"the password is swordfish")])
    opened.sync()
    for path in opened._folder.iterdir():
        assert b"swordfish" not in path.read_bytes()


def test_what_a_start_has_read_is_made_durable_before_it_is_promised(
    tmp_path: Path, encrypter: Encrypter
) -> None:
    """A failed fsync leaves its pages in the kernel's cache, and clean: read, and never written."""
    log, _, _ = Wal.open(tmp_path, encrypter)
    log.append(HardState(term=1, commit=1), [Entry(index=1, term=1, data=b"x" * 2000)])
    log.close()
    (segment,) = tmp_path.glob("*.wal")
    written = len(segment.read_bytes().rstrip(b"\0"))
    seen: list[tuple[str, int, int]] = []

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        seen.append(("write", offset, len(data)))
        return os.pwrite(fd, data, offset)

    def fdatasync(fd: int) -> None:
        seen.append(("sync", 0, 0))
        os.fdatasync(fd)

    disk = Disk(pwrite=pwrite, fdatasync=fdatasync)
    again, _, entries = Wal.open(tmp_path, encrypter, disk=disk)
    again.close()
    assert len(entries) == 1
    assert seen[0][:2] == ("write", 0)
    assert seen[0][2] >= written
    assert seen[1] == ("sync", 0, 0)
