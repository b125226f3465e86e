"""Snapshots: whole and durable, or not there."""

import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.api.v1.raft_pb2 import ConfState
from swarm.disk import CorruptFileError, Disk, FatalDiskError, NoSpaceError
from swarm.manager.raft_files import RaftFiles
from swarm.manager.snapshots import ChecksumError, Snapshots
from swarm.manager.wal import Wal
from swarm.security.encryption import Encrypter, generate_key
from swarm.security.errors import WrongKeyError

GROUP = ConfState(voters=[1, 2, 3], learners=[4])
CHUNKS = [b"first " * 10_000, b"", b"x", os.urandom(300_000)]


@pytest.fixture(scope="module")
def encrypter() -> Encrypter:
    return Encrypter(generate_key())


@pytest.fixture
def snapshots(tmp_path: Path, encrypter: Encrypter) -> Snapshots:
    return Snapshots(tmp_path / "snapshots", encrypter)


def content(snapshots: Snapshots, index: int) -> list[bytes]:
    with snapshots.open_reader(index) as reader:
        return list(reader)


def test_there_is_none_at_first(snapshots: Snapshots) -> None:
    assert snapshots.newest() is None
    assert snapshots.list() == []
    with pytest.raises(FileNotFoundError, match="no snapshot at index 7"):
        snapshots.open_reader(7)


def test_what_is_saved_is_read_chunk_by_chunk(snapshots: Snapshots) -> None:
    saved = snapshots.save(100, 3, GROUP, CHUNKS)
    newest = snapshots.newest()
    assert newest == saved
    assert (saved.index, saved.term, saved.conf_state) == (100, 3, GROUP)
    assert content(snapshots, 100) == CHUNKS
    assert saved.path.stat().st_mode & 0o777 == 0o600


def test_a_snapshot_may_be_empty(snapshots: Snapshots) -> None:
    snapshots.save(1, 1, ConfState(), [])
    newest = snapshots.newest()
    assert newest is not None
    assert newest.index == 1
    assert content(snapshots, 1) == []


def test_the_newest_comes_first_and_old_ones_are_pruned(snapshots: Snapshots) -> None:
    for index in (1000, 20, 300):
        snapshots.save(index, 1, GROUP, [b"%d" % index])
    assert [info.index for info in snapshots.list()] == [1000, 300, 20]
    assert snapshots.prune() == 1
    assert [info.index for info in snapshots.list()] == [1000, 300]
    assert snapshots.prune() == 0


@pytest.mark.parametrize(("older", "kept"), [(0, [5, 4]), (1, [5, 4]), (3, [5, 4, 3, 2])])
def test_one_older_is_kept_and_as_many_as_a_user_wants(tmp_path, encrypter, older, kept) -> None:
    snapshots = Snapshots(tmp_path / "snapshots", encrypter)
    log, _, _ = Wal.open(tmp_path / "wal", encrypter, snapshot_index=0, snapshot_term=0)
    files = RaftFiles(log, snapshots)
    for index in range(1, 6):
        files.save_snapshot(index, 1, GROUP, CHUNKS, older)
    log.close()
    assert [info.index for info in snapshots.list()] == kept


def test_a_reader_goes_on_while_its_snapshot_is_pruned(snapshots: Snapshots) -> None:
    for index in (1, 2, 3):
        snapshots.save(index, 1, GROUP, CHUNKS)
    with snapshots.open_reader(1) as reader:
        snapshots.prune(keep=1)
        assert list(reader) == CHUNKS


def test_a_received_snapshot_is_checked_against_the_senders_checksum(
    snapshots: Snapshots,
) -> None:
    with snapshots.begin(5, 1, GROUP) as writer:
        writer.write(b"abc")
        writer.write(b"def")
        assert writer.checksum == zlib.crc32(b"abcdef")
        assert writer.bytes_written == 6
        writer.commit(zlib.crc32(b"abcdef"))
    assert content(snapshots, 5) == [b"abc", b"def"]
    with snapshots.begin(6, 1, GROUP) as other:
        other.write(b"abc")
        with pytest.raises(ChecksumError, match="send it again"):
            other.commit(zlib.crc32(b"abd"))
    assert [info.index for info in snapshots.list()] == [5]
    assert len(list(snapshots._folder.iterdir())) == 1


def test_what_is_not_committed_is_not_there(tmp_path: Path, encrypter: Encrypter) -> None:
    snapshots = Snapshots(tmp_path, encrypter)
    with snapshots.begin(5, 1, GROUP) as writer:
        writer.write(b"abc")
        # Two at once, at the same index, do not disturb each other.
        snapshots.save(5, 1, GROUP, [b"whole"])
    assert content(snapshots, 5) == [b"whole"]
    with pytest.raises(ValueError, match="committed or discarded"):
        writer.write(b"more")
    # A process that died in the middle leaves a file beside, which the next one removes.
    abandoned = snapshots.begin(6, 1, GROUP)
    assert len(list(tmp_path.iterdir())) == 2
    newest = Snapshots(tmp_path, encrypter).newest()
    assert newest is not None
    assert newest.index == 5
    assert len(list(tmp_path.iterdir())) == 1
    abandoned.discard()


def test_a_chunk_that_is_too_large_is_refused(snapshots: Snapshots) -> None:
    with snapshots.begin(5, 1, GROUP) as writer, pytest.raises(ValueError, match="at most"):
        writer.write(bytes((4 << 20) + 1))


# --- damage -------------------------------------------------------------------------------


def test_any_flipped_bit_is_found(snapshots: Snapshots) -> None:
    path = snapshots.save(9, 1, GROUP, [b"one", b"two"]).path
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        # A flipped bit in a key id looks like another key: nothing may be set aside then.
        with pytest.raises((CorruptFileError, WrongKeyError)):
            snapshots.newest()
        assert path.exists()


def test_any_cut_is_found(snapshots: Snapshots) -> None:
    path = snapshots.save(9, 1, GROUP, [b"one", b"two"]).path
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFileError, match=r"--force-new-cluster.*cluster restore"):
            snapshots.newest()
    path.write_bytes(whole + b"\0")
    with pytest.raises(CorruptFileError, match="after its end"):
        snapshots.newest()


def test_a_missing_or_exchanged_chunk_is_found(snapshots: Snapshots) -> None:
    path = snapshots.save(9, 1, GROUP, [b"one", b"two"]).path
    whole = path.read_bytes()
    frames = list(_frames(whole))
    subject, one, two, trailer = frames
    start = whole[:16]
    for arranged in (
        (subject, two, trailer),
        (subject, one, trailer),
        (subject, two, one, trailer),
        (subject, one, one, two, trailer),
        (subject, one, two),
        (one, two, trailer),
    ):
        path.write_bytes(start + b"".join(arranged))
        with pytest.raises(CorruptFileError):
            snapshots.newest()


def test_a_trailer_that_does_not_fit_is_found(snapshots: Snapshots) -> None:
    """What a writer with a fault would leave: all sealed well, but not what was meant."""
    writer = snapshots.begin(9, 1, GROUP)
    writer.write(b"one")
    writer.checksum ^= 1
    writer.commit()
    with pytest.raises(CorruptFileError, match="trailer does not fit"):
        snapshots.newest()


def _frames(data: bytes) -> Iterator[bytes]:
    position = 16
    while position < len(data):
        end = position + 8 + int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position:end]
        position = end


def test_a_chunk_of_another_snapshot_is_found(snapshots: Snapshots) -> None:
    old = snapshots.save(8, 1, GROUP, [b"one"]).path
    new = snapshots.save(9, 1, GROUP, [b"two"]).path
    (_, chunk, _), (subject, _, trailer) = _frames(old.read_bytes()), _frames(new.read_bytes())
    new.write_bytes(new.read_bytes()[:16] + subject + chunk + trailer)
    with snapshots.open_reader(9) as reader, pytest.raises(CorruptFileError, match="moved"):
        list(reader)
    # And under another name, a whole snapshot is none.
    new.write_bytes(old.read_bytes())
    with pytest.raises(CorruptFileError):
        snapshots.open_reader(9)


def test_an_older_snapshot_stands_in_for_a_damaged_one(snapshots: Snapshots) -> None:
    snapshots.save(8, 1, GROUP, [b"old"])
    path = snapshots.save(9, 1, GROUP, [b"new" * 1000]).path
    damaged = bytearray(path.read_bytes())
    damaged[-200] ^= 1
    path.write_bytes(damaged)
    newest = snapshots.newest()
    assert newest is not None
    assert newest.index == 8
    assert [info.index for info in snapshots.list()] == [8]
    assert path.with_suffix(".broken").exists()
    # It is kept for whoever wants to look at it until there are two good ones again.
    snapshots.prune()
    assert path.with_suffix(".broken").exists()
    snapshots.save(10, 1, GROUP, [b"next"])
    assert snapshots.prune() == 1
    assert not path.with_suffix(".broken").exists()


def test_another_key_is_named_and_nothing_is_set_aside(
    tmp_path: Path, snapshots: Snapshots
) -> None:
    snapshots.save(8, 1, GROUP, [b"old"])
    path = snapshots.save(9, 1, GROUP, [b"new"]).path
    with pytest.raises(WrongKeyError):
        Snapshots(tmp_path / "snapshots", Encrypter(generate_key())).newest()
    assert path.exists()


# --- a failing disk -----------------------------------------------------------------------


def test_a_full_disk_discards_the_snapshot_only(tmp_path: Path, encrypter: Encrypter) -> None:
    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if offset + len(data) > 1 << 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwrite(fd, data, offset)

    snapshots = Snapshots(tmp_path, encrypter, disk=Disk(pwrite=pwrite))
    snapshots.save(1, 1, GROUP, [b"old"])
    with pytest.raises(NoSpaceError, match="free some"):
        snapshots.save(2, 1, GROUP, [bytes(100_000)] * 11)
    newest = snapshots.newest()
    assert newest is not None
    assert newest.index == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_failed_sync_is_fatal_and_nothing_becomes_visible(
    tmp_path: Path, encrypter: Encrypter, call: str
) -> None:
    def failing(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    snapshots = Snapshots(tmp_path, encrypter)
    snapshots._disk = Disk(**{call: failing})
    with pytest.raises(FatalDiskError, match="Input/output error"):
        snapshots.save(1, 1, GROUP, [bytes(1 << 20)] * 9)
    assert snapshots.list() == []


def test_a_snapshot_is_synced_before_it_has_its_name(tmp_path: Path, encrypter: Encrypter) -> None:
    seen: list[tuple[str, int]] = []

    def fsync(fd: int) -> None:
        is_folder = Path(f"/proc/self/fd/{fd}").readlink() == tmp_path
        seen.append(("folder" if is_folder else "file", len(list(tmp_path.glob("*.snap")))))
        os.fsync(fd)

    snapshots = Snapshots(tmp_path, encrypter, disk=Disk(fsync=fsync))
    seen.clear()  # what is there at the start is made durable first
    snapshots.save(1, 1, GROUP, [b"abc"])
    assert seen == [("file", 0), ("folder", 1)]
