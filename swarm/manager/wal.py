"""Raft's log on disk: what has to survive before a message is sent.

One record holds everything that was appended since the last sync: one encryption, one write, one
fdatasync. So at any moment one record at most is not acknowledged, which is what makes a
torn end certain (see :mod:`swarm.manager.wal_records`). Segments are preallocated, the
next one always in advance: a full disk shows before an append could fail.

An entry at an index that is there already replaces that one and all after it, as in etcd's log.
Blocking; for one thread.
"""

import logging
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm.api.v1.raft_pb2 import Entry, HardState
from swarm.disk import (
    REAL_DISK,
    Disk,
    FatalDiskError,
    NoSpaceError,
    fatal,
    fsync_folder,
    make_folder,
    write_all,
)
from swarm.manager.wal_records import RecordType, encode, encoded_size
from swarm.manager.wal_replay import Replay, SegmentHeader, pack_batch, seal_context
from swarm.manager.wal_segments import (
    NextSegment,
    Segment,
    list_segments,
    name_of,
    position_for,
)
from swarm.security.encryption import Encrypter

SEGMENT_BYTES = 64 << 20
# A start reads whole segments, and small records take their time however few bytes they are:
# where the snapshot lies in the middle of a segment, no more of it than this is read for nothing.
SEGMENT_RECORDS = 8_192
# A record's payload; more is written as several records, each synced before the next.
_BATCH_BYTES = 4 << 20
_LENGTH = struct.Struct("<I")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    """The segment that is written to."""

    fd: int
    path: Path
    sequence: int
    offset: int
    capacity: int
    # The number of its first record.
    first_number: int


class Wal:
    """The log; :meth:`open` makes one.

    Attributes:
        has_room: whether the next segment is allocated. Without it, hand leadership over and
            refuse writes: the current segment will do for a while, but no longer.
        last_index: the index of the last entry appended.
    """

    @staticmethod
    def open(
        folder: Path,
        encrypter: Encrypter,
        *,
        snapshot_index: int = 0,
        snapshot_term: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        segment_records: int = SEGMENT_RECORDS,
        disk: Disk = REAL_DISK,
    ) -> tuple["Wal", HardState, list[Entry]]:
        """Open the log in ``folder``, or begin one where there is none.

        Args:
            folder: where the segments are.
            encrypter: with the key that they are sealed with.
            snapshot_index: the index of the snapshot that the state was restored from, 0 for none.
            snapshot_term: the term of the entry at that index.
            segment_bytes: the size of segments to come.
            segment_records: after so many records a segment is full, however small they are.
            disk: how to reach the disk.

        Returns:
            The log, the hard state, and the entries after the snapshot, without gaps. Entries
            that contradict the snapshot are dropped: it came from a leader.

        Raises:
            CorruptFileError: the log is damaged, or does not reach back to the snapshot.
            SecurityError: the key is another one.
            NoSpaceError: there is no space for the first segment.
            FatalDiskError: the disk failed.
        """
        make_folder(folder, disk)
        wal = Wal(folder, encrypter, segment_bytes, segment_records, disk)
        segments = list_segments(folder, disk)
        if not segments:
            wal._begin(SegmentHeader(1, snapshot_index + 1, snapshot_term))
            return wal, HardState(commit=snapshot_index), []
        replay = Replay(folder, encrypter, segments, snapshot_index, disk)
        entries = replay.entries_after(snapshot_index, snapshot_term)
        try:
            wal._continue(segments, replay)
            if entries is None:
                log.info("the log continues after the snapshot at index %d", snapshot_index)
                wal.restart(snapshot_index, snapshot_term)
        except BaseException:
            wal._release()
            raise
        hard_state = HardState()
        hard_state.CopyFrom(wal._hard_state)
        # A snapshot holds committed entries only, whatever was known of them when it came.
        hard_state.commit = max(hard_state.commit, snapshot_index)
        return wal, hard_state, entries or []

    def __init__(
        self,
        folder: Path,
        encrypter: Encrypter,
        segment_bytes: int,
        segment_records: int,
        disk: Disk,
    ) -> None:
        self._folder = folder
        self._encrypter = encrypter
        self._disk = disk
        self._segment_records = segment_records
        self._segments: list[Segment] = []
        self._open = _Open(-1, folder, 0, 0, 0, 0)
        self._next = NextSegment(folder, disk, segment_bytes)
        self._next.discard()
        self._number = 0
        self._hard_state = HardState()
        self._pending_hard_state: HardState | None = None
        self._pending: list[tuple[int, int, bytes]] = []
        # Of what is on disk; last_index is of what was appended.
        self._synced_index = 0
        self._synced_term = 0
        self._failure: FatalDiskError | None = None
        self._said_no_room = False
        self.last_index = 0
        self.has_room = False

    @property
    def synced_index(self) -> int:
        """The index of the last entry that is durable."""
        return self._synced_index

    @property
    def room_bytes(self) -> int:
        """How many bytes can be written without asking the file system for space."""
        left = self._open.capacity - self._open.offset
        return left + (self._next.size_bytes if self._next.ready else 0)

    # --- writing --------------------------------------------------------------------------

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Take over what :meth:`sync` is to write.

        Raises:
            ValueError: the entries do not connect to the log.
            FatalDiskError: an earlier write failed.
        """
        self._check()
        if entries:
            first, last = entries[0].index, entries[-1].index
            if first > self.last_index + 1 or last - first + 1 != len(entries):
                raise ValueError(
                    f"entries {first} to {last} do not connect to a log that ends at "
                    f"{self.last_index}"
                )
            self._pending.extend(
                (entry.index, entry.term, entry.SerializeToString()) for entry in entries
            )
            self.last_index = last
        if hard_state is not None:
            self._pending_hard_state = HardState()
            self._pending_hard_state.CopyFrom(hard_state)

    def sync(self) -> None:
        """Make durable all that was appended.

        Raises:
            NoSpaceError: the segment is full and there is no next one. What was appended is still
                held, and a later call may succeed.
            FatalDiskError: the process must end; later calls raise it again.
        """
        self._check()
        while self._pending or self._pending_hard_state is not None:
            self._write_batch()
        if not self._next.ready:
            self.reserve()

    def restart(self, index: int, term: int) -> None:
        """Let the log continue after a snapshot from a leader; all entries before are void.

        The snapshot has to be durable already. Durable on return.

        Raises:
            NoSpaceError, FatalDiskError: as :meth:`sync`.
        """
        self._check()
        self._pending.clear()
        if self._pending_hard_state is not None:
            self._hard_state = self._bounded(self._pending_hard_state, index)
            self._pending_hard_state = None
        self._hard_state = self._bounded(self._hard_state, index)
        self._begin(SegmentHeader(self._open.sequence + 1, index + 1, term, restart=True))

    def reserve(self) -> bool:
        """Allocate the next segment unless it is; False when there is no space for it.

        Raises:
            FatalDiskError: the disk failed.
        """
        self._check()
        if not self._next.ready:
            try:
                self._next.prepare()
            except NoSpaceError as error:
                if not self._said_no_room:
                    log.warning("%s", error)
            except FatalDiskError as error:
                self._failure = error
                raise
            self.has_room = self._next.ready
            self._said_no_room = not self.has_room
        return self.has_room

    def compact(self, index: int) -> int:
        """Remove the segments that hold nothing above ``index``; returns how many.

        Raises:
            FatalDiskError: the disk failed.
        """
        self._check()
        unneeded = self._segments[: position_for(self._segments, index) or 0]
        # Oldest first: whatever a crash leaves is without gaps.
        for segment in unneeded:
            self._guard("removing", segment.path, self._disk.unlink, segment.path)
        if unneeded:
            del self._segments[: len(unneeded)]
            self._guard("fsync of", self._folder, self._fsync_folder)
        return len(unneeded)

    def close(self) -> None:
        """Write what is left and close; after a failure, only close."""
        if self._open.fd < 0:
            return
        try:
            if self._failure is None:
                self.sync()
        finally:
            self._release()

    def _release(self) -> None:
        self._next.discard()
        if self._open.fd >= 0:
            self._disk.close(self._open.fd)
            self._open.fd = -1

    def _write_batch(self) -> None:
        """Write and sync as much of what is pending as one record takes."""
        count, size = 0, 0
        for _, _, blob in self._pending:
            size += len(blob) + _LENGTH.size
            if count and size > _BATCH_BYTES:
                break
            count += 1
        taken = self._pending[:count]
        index, term = self._synced_index, self._synced_term
        if taken:
            index, term, _ = taken[-1]
        hard_state = self._pending_hard_state
        if hard_state is not None:
            # No record may say that more is committed than the log holds up to there.
            hard_state = self._bounded(hard_state, index)
        self._write_record(pack_batch(hard_state, [blob for _, _, blob in taken]))
        del self._pending[:count]
        self._synced_index, self._synced_term = index, term
        if hard_state is not None:
            self._hard_state = hard_state
        if not self._pending:
            self._pending_hard_state = None

    def _write_record(self, plaintext: bytes) -> None:
        size = encoded_size(len(plaintext) + self._encrypter.overhead)
        if self._open.offset + size > self._open.capacity or self._has_many_records():
            header = SegmentHeader(
                self._open.sequence + 1, self._synced_index + 1, self._synced_term
            )
            self._begin(header, size)
        self._put(self._open, RecordType.BATCH, plaintext)

    def _has_many_records(self) -> bool:
        """It is closed for that only where there is space for another one."""
        written = self._number - self._open.first_number + 1
        return written >= self._segment_records and self._next.ready

    def _put(self, segment: _Open, record_type: RecordType, plaintext: bytes) -> None:
        number = self._number + 1
        context = seal_context(segment.sequence, number, record_type)
        record = encode(record_type, number, self._encrypter.seal(plaintext, context))
        self._guard("writing", segment.path, self._write_and_sync, segment, record)
        segment.offset += len(record)
        self._number = number

    def _write_and_sync(self, segment: _Open, record: bytes) -> None:
        write_all(segment.fd, record, segment.offset, self._disk)
        self._disk.fdatasync(segment.fd)

    # --- segments -------------------------------------------------------------------------

    def _begin(self, header: SegmentHeader, record_bytes: int = 0) -> None:
        """Make a new segment the current one; it is durable with its header before its name."""
        plaintext = header.pack(self._hard_state)
        header_bytes = encoded_size(len(plaintext) + self._encrypter.overhead)
        try:
            self._next.prepare(header_bytes + record_bytes)
        except FatalDiskError as error:
            self._failure = error
            raise
        finally:
            self.has_room = False
        fd, beside = self._next.take()
        path = self._folder / name_of(header.sequence, header.first_index)
        capacity = self._disk.size(fd)
        segment = _Open(fd, path, header.sequence, 0, capacity, self._number + 1)
        self._put(segment, RecordType.SEGMENT, plaintext)
        self._guard("renaming", path, self._disk.rename, beside, path)
        self._guard("making durable", path, self._fsync_folder)
        self._finish_open()
        self._open = segment
        self._segments.append(Segment(header.sequence, header.first_index, path))
        self._synced_index, self._synced_term = header.first_index - 1, header.previous_term
        if not self._pending:
            self.last_index = self._synced_index
        self.reserve()

    def _finish_open(self) -> None:
        """Give back what a full segment did not need: several are kept, for slow followers."""
        if self._open.fd >= 0:
            self._guard(
                "cutting", self._open.path, self._disk.cut, self._open.fd, self._open.offset
            )
            self._disk.close(self._open.fd)

    def _continue(self, segments: list[Segment], replay: Replay) -> None:
        """Take up writing where the log that was read ends."""
        last = segments[-1]
        try:
            fd = self._disk.open(last.path, os.O_RDWR | os.O_CLOEXEC, 0)
        except OSError as error:
            raise fatal("opening", last.path, error) from error
        self._segments = segments
        capacity = self._disk.size(fd)
        self._open = _Open(
            fd, last.path, last.sequence, replay.end, capacity, replay.segment_number
        )
        self._number = replay.number
        self._hard_state = replay.hard_state
        self._synced_index, self._synced_term = replay.last_index, replay.last_term
        self.last_index = replay.last_index
        if replay.torn_bytes:
            log.warning("%s: cut off a record that a crash left half written", last.path)
        self._guard("writing", last.path, self._write_again, replay.newest, replay.torn_bytes)
        self._guard("fsync of", self._folder, self._fsync_folder)
        self.reserve()

    def _write_again(self, records: bytes, torn_bytes: int) -> None:
        """Make durable what was read, and give a torn end back its zeros, so that the next
        record's sectors begin as zeros.

        What was read may be in the kernel's cache alone, where a process was killed before its
        fsync, or where that failed: the kernel takes the pages for clean then, and no later
        fsync writes them. But it is promised from now on.
        """
        zeros = bytes(min(torn_bytes, self._open.capacity - self._open.offset))
        write_all(self._open.fd, records + zeros, 0, self._disk)
        self._disk.fdatasync(self._open.fd)

    # --- failing --------------------------------------------------------------------------

    def _fsync_folder(self) -> None:
        fsync_folder(self._folder, self._disk)

    def _guard(self, doing: str, path: Path, action: Callable[..., object], *args: object) -> None:
        """Do something that must not fail; if it does, nothing is done ever again."""
        try:
            action(*args)
        except FatalDiskError as error:
            self._failure = error
            raise
        except OSError as error:
            self._failure = fatal(doing, path, error)
            raise self._failure from error

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    @staticmethod
    def _bounded(hard_state: HardState, index: int) -> HardState:
        return HardState(
            term=hard_state.term, vote=hard_state.vote, commit=min(hard_state.commit, index)
        )
