"""What disks and crashes do to the log, and what must hold then (raft-faults 4, 6 to 10)."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm.api.v1.raft_pb2 import Entry, HardState
from swarm.disk import CorruptFileError, Disk, FatalDiskError, NoSpaceError
from swarm.manager.wal import Wal
from swarm.manager.wal_records import encode
from swarm.security.encryption import Encrypter, generate_key

SEGMENT = 16 << 10


@pytest.fixture(scope="module")
def encrypter() -> Encrypter:
    return Encrypter(generate_key())


def entry(index: int, size: int = 40) -> Entry:
    return Entry(term=1, index=index, data=os.urandom(size))


def write_log(folder: Path, encrypter: Encrypter, sizes: list[int]) -> list[tuple[Path, int, int]]:
    """A log with a record for each size; returns each record's file, start and end."""
    wal, _, _ = Wal.open(folder, encrypter, segment_bytes=SEGMENT)
    places: list[tuple[Path, int, int]] = []
    for index, size in enumerate(sizes, 1):
        start = wal._open.offset
        path = wal._open.path
        wal.append(HardState(term=1, commit=index - 1), [entry(index, size)])
        wal.sync()
        if wal._open.path != path:
            path, start = wal._open.path, places_header_end(wal)
        places.append((path, start, wal._open.offset))
    wal.close()
    return places


def places_header_end(wal: Wal) -> int:
    """Where the first batch of the newest segment begins."""
    data = wal._open.path.read_bytes()
    length = int.from_bytes(data[4:8], "little")
    return len(encode(1, 1, bytes(length)))


def opens(folder: Path, encrypter: Encrypter) -> list[int]:
    """The indexes found; then one more entry is written, and has to be found again."""
    wal, hard_state, found = Wal.open(folder, encrypter, segment_bytes=SEGMENT)
    assert hard_state.commit <= len(found)
    indexes = [each.index for each in found]
    wal.append(None, [entry(len(found) + 1)])
    wal.sync()
    wal.close()
    wal, _, again = Wal.open(folder, encrypter, segment_bytes=SEGMENT)
    wal.close()
    assert [each.index for each in again] == [*indexes, len(indexes) + 1]
    assert again[:-1] == found
    return indexes


def cuts(start: int, end: int) -> list[int]:
    """Every byte near the record's ends and at sectors' borders, and some in between: each is a
    log of its own, opened twice with its fsyncs."""

    def near(at: int) -> bool:
        return at - start < 48 or end - at < 48 or at % 512 in (0, 1, 511) or at % 13 == 0

    return [at for at in range(start, end) if near(at)]


# --- torn ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 40, 700])
def test_a_last_record_cut_at_any_byte_is_dropped(
    tmp_path: Path, encrypter: Encrypter, size: int
) -> None:
    path, start, end = write_log(tmp_path, encrypter, [40, 40, size])[-1]
    whole = path.read_bytes()
    for cut in cuts(start, end):
        path.write_bytes(whole[:cut])
        for other in tmp_path.glob("*.wal"):
            if other != path:
                other.unlink()
        assert opens(tmp_path, encrypter) == [1, 2], f"cut at {cut - start}"


@pytest.mark.parametrize("size", [0, 40, 700])
def test_a_last_record_that_ends_in_zeros_at_any_byte_is_dropped(
    tmp_path: Path, encrypter: Encrypter, size: int
) -> None:
    path, start, end = write_log(tmp_path, encrypter, [40, 40, size])[-1]
    whole = path.read_bytes()
    refused = 0
    for cut in cuts(start, end):
        path.write_bytes(whole[:cut].ljust(len(whole), b"\0"))
        try:
            assert opens(tmp_path, encrypter) == [1, 2], f"cut at {cut - start}"
        except CorruptFileError:
            refused += 1
    # A ciphertext that happens to end in a zero byte before the cut is all that may be refused.
    assert refused == 0


@pytest.mark.parametrize("before", [40, 300, 391, 430, 455, 462])
def test_any_missing_sectors_of_the_last_record_are_a_torn_end(
    tmp_path: Path, encrypter: Encrypter, before: int
) -> None:
    path, start, end = write_log(tmp_path, encrypter, [before, 40, 2000])[-1]
    whole = path.read_bytes()
    sectors = range(start // 512, (end - 1) // 512 + 1)
    for pattern in range(1, 1 << len(sectors)):
        torn = bytearray(whole)
        for bit, sector in enumerate(sectors):
            if pattern >> bit & 1:
                first, last = max(start, sector * 512), min(end, (sector + 1) * 512)
                torn[first:last] = bytes(last - first)
        path.write_bytes(torn)
        assert opens(tmp_path, encrypter) == [1, 2], f"sectors {pattern:b}"


def test_a_torn_end_is_cut_for_good(tmp_path: Path, encrypter: Encrypter) -> None:
    path, start, _ = write_log(tmp_path, encrypter, [40, 3000])[-1]
    torn = bytearray(path.read_bytes())
    torn[start : start + 1024] = bytes(1024)
    path.write_bytes(torn)
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    wal.close()
    assert not path.read_bytes()[start:].strip(b"\0")


# --- damage -------------------------------------------------------------------------------


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path, encrypter: Encrypter) -> None:
    path, _, end = write_log(tmp_path, encrypter, [40, 40, 40])[-1]
    whole = path.read_bytes()
    for position in range(end):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError) as caught:
            Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
        assert caught.value.path == path
        assert caught.value.offset <= position
        for way in ("node promote", "--force-new-cluster", "cluster restore"):
            assert way in str(caught.value)
    path.write_bytes(whole)
    assert opens(tmp_path, encrypter) == [1, 2, 3]


def test_zeros_in_the_middle_are_refused(tmp_path: Path, encrypter: Encrypter) -> None:
    places = write_log(tmp_path, encrypter, [40, 1000, 1000, 40])
    path, start, end = places[1]
    whole = path.read_bytes()
    for first, last in [(start, end), (start, start + 24), (start + 24, end), (start, start + 512)]:
        path.write_bytes(whole[:first] + bytes(last - first) + whole[last:])
        with pytest.raises(CorruptFileError, match=f"at byte {start}"):
            Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)


def test_a_damaged_or_missing_earlier_segment_is_refused(
    tmp_path: Path, encrypter: Encrypter
) -> None:
    places = write_log(tmp_path, encrypter, [3000] * 16)
    paths = sorted({place[0] for place in places})
    assert len(paths) >= 3
    first_end = max(end for path, _, end in places if path == paths[0])
    whole = paths[0].read_bytes()
    last_of_first = max(start for path, start, _ in places if path == paths[0])

    paths[0].write_bytes(whole[: first_end - 10].ljust(len(whole), b"\0"))
    with pytest.raises(CorruptFileError, match="not by being written half"):
        Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)

    paths[0].write_bytes(whole[:last_of_first].ljust(len(whole), b"\0"))
    with pytest.raises(CorruptFileError, match="before it are missing"):
        Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)

    paths[0].write_bytes(whole)
    middle = paths[1].read_bytes()
    paths[1].unlink()
    with pytest.raises(CorruptFileError, match=r"the segment before it, .*2-\*\.wal, is missing"):
        Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    paths[1].write_bytes(middle)

    paths[-1].write_bytes(b"")
    with pytest.raises(CorruptFileError, match="first record is damaged"):
        Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)


def test_a_record_moved_to_another_place_is_refused(tmp_path: Path, encrypter: Encrypter) -> None:
    (path, first, second), (_, _, third), *_ = write_log(tmp_path, encrypter, [40, 40, 40])
    whole = path.read_bytes()
    exchanged = whole[:first] + whole[second:third] + whole[first:second] + whole[third:]
    path.write_bytes(exchanged)
    with pytest.raises(CorruptFileError, match="record 3 follows record 1"):
        Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)


def test_a_lost_end_of_committed_entries_is_refused(tmp_path: Path, encrypter: Encrypter) -> None:
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    wal.append(None, [entry(1), entry(2)])
    wal.sync()
    # As if an earlier swarmd had lost entries: nothing that append() accepts writes this.
    wal._synced_index = wal.last_index = 9
    wal.append(HardState(term=1, commit=9), [])
    wal.close()
    with pytest.raises(CorruptFileError, match="entry 9 was committed"):
        Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)


def test_a_newer_format_is_refused_by_name(tmp_path: Path, encrypter: Encrypter) -> None:
    import struct
    import zlib

    path, start, _ = write_log(tmp_path, encrypter, [40])[-1]
    data = bytearray(path.read_bytes())
    data[start + 2] = 2
    data[start + 20 : start + 24] = struct.pack("<I", zlib.crc32(data[start : start + 20]))
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match="Start the newer swarmd"):
        Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)


# --- a failing disk -----------------------------------------------------------------------


class FailingOnce:
    """A system call that fails once, with EIO, when armed."""

    def __init__(self, call: Callable[..., object], code: int = errno.EIO) -> None:
        self._call = call
        self._code = code
        self.armed = False
        self.failures = 0

    def __call__(self, *args: object) -> object:
        if self.armed:
            self.armed = False
            self.failures += 1
            raise OSError(self._code, os.strerror(self._code))
        return self._call(*args)


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
def test_a_failed_write_or_sync_is_never_tried_again(
    tmp_path: Path, encrypter: Encrypter, call: str
) -> None:
    failing = FailingOnce(getattr(os, call))
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT, disk=Disk(**{call: failing}))
    wal.append(None, [entry(1)])
    wal.sync()
    failing.armed = True
    wal.append(None, [entry(2)])
    with pytest.raises(FatalDiskError, match="Input/output error"):
        wal.sync()
    # The disk would do it now; the log must not.
    for action in (wal.sync, wal.reserve, lambda: wal.append(None, []), lambda: wal.compact(1)):
        with pytest.raises(FatalDiskError):
            action()
    assert failing.failures == 1
    wal.close()
    wal, _, found = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    assert found[0].index == 1
    wal.close()


def test_a_failed_fsync_of_the_folder_is_fatal(tmp_path: Path, encrypter: Encrypter) -> None:
    failing = FailingOnce(os.fsync)
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT, disk=Disk(fsync=failing))
    failing.armed = True
    with pytest.raises(FatalDiskError):
        wal.restart(5, 1)
    with pytest.raises(FatalDiskError):
        wal.sync()
    wal.close()


def test_a_new_segment_is_synced_before_it_has_its_name(
    tmp_path: Path, encrypter: Encrypter
) -> None:
    """fdatasync(header), rename, fsync(folder): in this order, by what each call can see."""
    seen: list[tuple[str, int]] = []

    def named() -> int:
        return len(list(tmp_path.glob("*.wal")))

    def fdatasync(fd: int) -> None:
        seen.append(("data", named()))
        os.fdatasync(fd)

    def fsync(fd: int) -> None:
        is_folder = Path(f"/proc/self/fd/{fd}").readlink() == tmp_path
        seen.append(("folder" if is_folder else "file", named()))
        os.fsync(fd)

    disk = Disk(fdatasync=fdatasync, fsync=fsync)
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT, disk=disk)
    assert seen == [("file", 0), ("data", 0), ("folder", 1), ("file", 1)]
    seen.clear()
    wal.restart(10, 1)
    assert seen == [("data", 1), ("folder", 2), ("file", 2)]
    seen.clear()
    wal.compact(10)
    assert seen == [("folder", 1)]
    wal.close()


# --- a full disk --------------------------------------------------------------------------


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Sets the size that files may grow to: a full disk that needs no root."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_full_disk_shows_before_an_append_fails(
    tmp_path: Path,
    encrypter: Encrypter,
    file_size_limit: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    # What is allocated already can be written; a file of a segment's size can't be made.
    file_size_limit(SEGMENT - 8)
    index = 0
    while wal.has_room:
        index += 1
        wal.append(None, [entry(index, 1000)])
        wal.sync()
    assert len(list(tmp_path.glob("*.wal"))) == 2
    assert not wal.reserve()
    assert len([each for each in caplog.messages if "no space left" in each]) == 1
    assert not list(tmp_path.glob("*.tmp"))
    index += 1
    # The current segment still takes entries.
    wal.append(None, [entry(index, 1000)])
    wal.sync()
    file_size_limit(resource.RLIM_INFINITY)
    assert wal.reserve()
    assert wal.has_room
    wal.close()
    wal, _, found = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    assert [each.index for each in found] == list(range(1, index + 1))
    wal.close()


def test_a_full_segment_without_a_next_one_keeps_what_was_appended(
    tmp_path: Path, encrypter: Encrypter
) -> None:
    full = FailingOnce(os.posix_fallocate, errno.ENOSPC)
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT, disk=Disk(allocate=full))
    wal._next.discard()
    wal.append(None, [entry(1, SEGMENT - 600)])
    full.armed = True
    wal.sync()
    assert not wal.has_room
    full.armed = True
    wal.append(None, [entry(2, 1000)])
    with pytest.raises(NoSpaceError, match="no space left for the next log segment"):
        wal.sync()
    wal.sync()
    assert wal.has_room
    wal.close()
    wal, _, found = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    assert [each.index for each in found] == [1, 2]
    wal.close()


def test_a_disk_that_fills_in_the_middle_of_a_write_leaves_a_torn_end(
    tmp_path: Path, encrypter: Encrypter
) -> None:
    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if armed:
            if len(data) > 700:
                return os.pwrite(fd, data[:700], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwrite(fd, data, offset)

    armed = False
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT, disk=Disk(pwrite=pwrite))
    wal.append(None, [entry(1, 100)])
    wal.sync()
    armed = True
    wal.append(None, [entry(2, 1000)])
    with pytest.raises(FatalDiskError, match="No space left"):
        wal.sync()
    wal.close()
    assert opens(tmp_path, encrypter) == [1]


def test_no_space_for_the_first_segment_is_said(tmp_path: Path, encrypter: Encrypter) -> None:
    full = FailingOnce(os.posix_fallocate, errno.ENOSPC)
    full.armed = True
    with pytest.raises(NoSpaceError, match="free some"):
        Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT, disk=Disk(allocate=full))
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    wal.close()


def test_writes_that_take_several_calls_are_whole(tmp_path: Path, encrypter: Encrypter) -> None:
    disk = Disk(pwrite=lambda fd, data, offset: os.pwrite(fd, data[:7], offset))
    wal, _, _ = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT, disk=disk)
    written = entry(1, 500)
    wal.append(None, [written])
    wal.close()
    wal, _, found = Wal.open(tmp_path, encrypter, segment_bytes=SEGMENT)
    assert found == [written]
    wal.close()
