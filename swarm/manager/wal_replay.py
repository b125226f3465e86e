"""Reading the log back: from segments to a hard state and entries.

What is inside the records:

- SEGMENT, the first of each file: its sequence, the index that comes next, the term of the entry
  before, whether the log restarts here after a snapshot, and the hard state, so that
  earlier segments can be removed.
- BATCH: a hard state or none, and entries.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm.api.v1.raft_pb2 import Entry, HardState
from swarm.disk import REAL_DISK, CorruptFileError, Disk, fatal
from swarm.manager.damage import way_out
from swarm.manager.wal_records import Record, RecordType, Scan, end_of_data, scan
from swarm.manager.wal_segments import Segment, name_of, position_for
from swarm.security.encryption import Encrypter
from swarm.security.errors import SecurityError, WrongKeyError

_CONTEXT = struct.Struct("<8sQQB")
_SEGMENT = struct.Struct("<QQQ?QQQ")
_HARD_STATE = struct.Struct("<?QQQ")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """How a segment begins.

    Attributes:
        sequence: its number.
        first_index: the index of the entry that comes next.
        previous_term: the term of the entry before that, 0 for none.
        restart: whether all entries in earlier segments are void.
    """

    sequence: int
    first_index: int
    previous_term: int
    restart: bool = False

    def pack(self, hard_state: HardState) -> bytes:
        """The plaintext of the record, with the hard state of the moment."""
        return _SEGMENT.pack(
            self.sequence,
            self.first_index,
            self.previous_term,
            self.restart,
            hard_state.term,
            hard_state.vote,
            hard_state.commit,
        )


def seal_context(sequence: int, number: int, record_type: int) -> bytes:
    """What a record is authenticated with besides its content: its place."""
    return _CONTEXT.pack(b"swarmwal", sequence, number, record_type)


def pack_batch(hard_state: HardState | None, entries: Sequence[bytes]) -> bytes:
    """The plaintext of a batch with serialised entries."""
    if hard_state is None:
        parts = [_HARD_STATE.pack(False, 0, 0, 0)]
    else:
        parts = [_HARD_STATE.pack(True, hard_state.term, hard_state.vote, hard_state.commit)]
    for entry in entries:
        parts.append(_LENGTH.pack(len(entry)))
        parts.append(entry)
    return b"".join(parts)


def unpack_batch(plaintext: bytes) -> tuple[HardState | None, list[Entry]]:
    """The inverse of :func:`pack_batch`."""
    present, term, vote, commit = _HARD_STATE.unpack_from(plaintext)
    hard_state = HardState(term=term, vote=vote, commit=commit) if present else None
    entries: list[Entry] = []
    position = _HARD_STATE.size
    while position < len(plaintext):
        (length,) = _LENGTH.unpack_from(plaintext, position)
        start = position + _LENGTH.size
        position = start + length
        entries.append(Entry.FromString(plaintext[start:position]))
    return hard_state, entries


class Replay:
    """What the segments from a snapshot on add up to.

    Attributes:
        hard_state: the last one written.
        last_index, last_term: of the last entry.
        number: of the last record.
        segment_number: of the last segment's first record.
        end: where the last segment's intact records end, in bytes.
        torn_bytes: how many bytes of a torn record follow.
        newest: the last segment's intact records, as they were read.
    """

    def __init__(
        self,
        folder: Path,
        encrypter: Encrypter,
        segments: Sequence[Segment],
        snapshot_index: int,
        disk: Disk = REAL_DISK,
    ) -> None:
        self._encrypter = encrypter
        self._disk = disk
        self._way_out = way_out(folder.parent)
        self.hard_state = HardState()
        self.last_index = self.last_term = self.number = self.end = self.torn_bytes = 0
        self.segment_number = 0
        self.newest = b""
        # The entry before the first of _entries.
        self._base_index = self._base_term = 0
        self._entries: list[Entry] = []

        start = position_for(segments, snapshot_index)
        if start is None:
            first = segments[0]
            raise self._gap(first.path, first.first_index, snapshot_index)
        for position in range(start, len(segments)):
            self._read(segments, position, is_first=position == start)
        if self.hard_state.commit > self.last_index:
            raise CorruptFileError(
                segments[-1].path,
                self.end,
                f"the log ends with entry {self.last_index}, but entry "
                f"{self.hard_state.commit} was committed",
                self._way_out,
            )
        if self._base_index > snapshot_index:
            raise self._gap(segments[-1].path, self._base_index + 1, snapshot_index)

    def entries_after(self, index: int, term: int) -> list[Entry] | None:
        """The entries after a snapshot; None when the log does not contain its last entry.

        Then whatever the log holds contradicts the snapshot, or ends before it (Raft, section 7).
        """
        if index > self.last_index:
            return None
        position = index - self._base_index
        found = self._entries[position - 1].term if position else self._base_term
        return self._entries[position:] if found == term else None

    def _gap(self, path: Path, first_index: int, snapshot_index: int) -> CorruptFileError:
        newest = f"the newest good snapshot ends at {snapshot_index}"
        if not snapshot_index:
            newest = "there is no good snapshot"
        return CorruptFileError(
            path, 0, f"the log begins with entry {first_index}, but {newest}", self._way_out
        )

    def _read(self, segments: Sequence[Segment], position: int, *, is_first: bool) -> None:
        segment = segments[position]
        is_last = position == len(segments) - 1
        if not is_first and segment.sequence != segments[position - 1].sequence + 1:
            missing = name_of(segments[position - 1].sequence + 1, 0)[:16]
            problem = f"the segment before it, {missing}-*.wal, is missing"
            raise CorruptFileError(segment.path, 0, problem, self._way_out)
        try:
            with self._disk.reader(segment.path) as file:
                data = file.read()
        except OSError as error:
            raise fatal("reading", segment.path, error) from error
        result = Scan()
        header: SegmentHeader | None = None
        for record in scan(segment.path, data, result, last=is_last, way_out=self._way_out):
            if header is None:
                header = self._take_header(segment, record, is_first=is_first)
                self.segment_number = record.number
            else:
                self._take_batch(segment, record)
            self.number = record.number
        if header is None:
            raise CorruptFileError(segment.path, 0, "its first record is damaged", self._way_out)
        self.end = result.end
        self.newest = data[: result.end]
        self.torn_bytes = end_of_data(data) - result.end if result.torn else 0

    def _take_header(self, segment: Segment, record: Record, *, is_first: bool) -> SegmentHeader:
        if not is_first and record.number != self.number + 1:
            problem = f"the records {self.number + 1} to {record.number - 1} before it are missing"
            raise CorruptFileError(segment.path, 0, problem, self._way_out)
        plaintext = self._unseal(segment, record, RecordType.SEGMENT)
        sequence, first_index, term, restart, *state = _SEGMENT.unpack(plaintext)
        header = SegmentHeader(sequence, first_index, term, restart)
        if (sequence, first_index) != (segment.sequence, segment.first_index):
            problem = f"its name should be {name_of(sequence, first_index)}"
            raise CorruptFileError(segment.path, 0, problem, self._way_out)
        self.hard_state = HardState(term=state[0], vote=state[1], commit=state[2])
        if is_first or restart:
            self._entries.clear()
            self._base_index = self.last_index = first_index - 1
            self._base_term = self.last_term = term
        return header

    def _take_batch(self, segment: Segment, record: Record) -> None:
        plaintext = self._unseal(segment, record, RecordType.BATCH)
        hard_state, entries = unpack_batch(plaintext)
        for entry in entries:
            if entry.index > self.last_index + 1:
                problem = f"entry {entry.index} follows entry {self.last_index}"
                raise CorruptFileError(segment.path, record.offset, problem, self._way_out)
            self._put(entry)
        if hard_state is not None:
            self.hard_state = hard_state

    def _put(self, entry: Entry) -> None:
        """Add an entry; it replaces the one at its index and all after it."""
        position = entry.index - self._base_index - 1
        if position < len(self._entries):
            del self._entries[max(position, 0) :]
        if position >= 0:
            self._entries.append(entry)
        elif position == -1:
            self._base_term = entry.term
        self.last_index, self.last_term = entry.index, entry.term

    def _unseal(self, segment: Segment, record: Record, expected: RecordType) -> bytes:
        if record.type != expected:
            raise CorruptFileError(
                segment.path,
                record.offset,
                f"a record of type {record.type} is not known here",
                "If a newer swarmd has written it, start that one. " + self._way_out,
            )
        context = seal_context(segment.sequence, record.number, record.type)
        try:
            return self._encrypter.open(record.payload, context)
        except WrongKeyError:
            raise
        except SecurityError as error:
            raise CorruptFileError(
                segment.path, record.offset, str(error), self._way_out
            ) from error
