"""The end of the log that is not known to be durable yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from swarm.api.v1.raft_pb2 import Entry, Snapshot


class _Write:
    """What one Ready handed out to be written."""

    __slots__ = ("last_index", "number", "snapshot_index")

    def __init__(self, number: int, last_index: int, snapshot_index: int) -> None:
        self.number = number
        self.last_index = last_index
        self.snapshot_index = snapshot_index


class Unstable:
    """Entries from `offset` on, and a snapshot, until their write is acknowledged.

    Several writes may be under way. Each remembers up to which index its acknowledgement still
    says something about the log as it is now: replacing the tail lowers that for all of them.
    A late acknowledgement of an overwritten tail therefore says nothing, even when a third
    leader has brought the very same entries back (etcd-io/raft,
    async_storage_writes_append_aba_race): their own write is still under way.
    """

    __slots__ = (
        "_snapshot_handed_out",
        "_writes",
        "entries",
        "handed_out",
        "offset",
        "snapshot",
    )

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None
        # Index after the last entry that was handed out to be written.
        self.handed_out = offset
        self._snapshot_handed_out = False
        self._writes: deque[_Write] = deque()

    def last_index(self) -> int | None:
        """The last index held here, None when nothing is."""
        if self.entries:
            return self.offset + len(self.entries) - 1
        return self.snapshot.index if self.snapshot is not None else None

    def term(self, index: int) -> int | None:
        """The term at `index` if it is held here."""
        position = index - self.offset
        if position >= 0:
            return self.entries[position].term if position < len(self.entries) else None
        snapshot = self.snapshot
        return snapshot.term if snapshot is not None and snapshot.index == index else None

    def next_entries(self) -> list[Entry]:
        """Entries that were not handed out yet."""
        return self.entries[self.handed_out - self.offset :]

    def has_next_entries(self) -> bool:
        """Whether `next_entries` has something."""
        return self.handed_out - self.offset < len(self.entries)

    def next_snapshot(self) -> Snapshot | None:
        """The snapshot, if it was not handed out yet."""
        return None if self._snapshot_handed_out else self.snapshot

    def hand_out(self, number: int) -> None:
        """Everything held here is now being written, as part of the Ready with that number."""
        snapshot_index = 0
        if self.snapshot is not None and not self._snapshot_handed_out:
            snapshot_index = self.snapshot.index
            self._snapshot_handed_out = True
        last_index = 0
        if self.has_next_entries():
            self.handed_out = self.offset + len(self.entries)
            last_index = self.handed_out - 1
        if snapshot_index or last_index:
            self._writes.append(_Write(number, last_index, snapshot_index))

    def written(self, number: int) -> None:
        """The writes of all Readys up to that number are durable."""
        last_index = 0
        while self._writes and self._writes[0].number <= number:
            write = self._writes.popleft()
            last_index = max(last_index, write.last_index)
            if self.snapshot is not None and self.snapshot.index == write.snapshot_index:
                self.snapshot = None
                self._snapshot_handed_out = False
        if last_index >= self.offset:
            del self.entries[: last_index + 1 - self.offset]
            self.offset = last_index + 1

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow on, or replace the tail from where they start."""
        first = entries[0].index
        assert first <= self.offset + len(self.entries), "entries leave a gap in the log"
        if first < self.offset + len(self.entries):
            self._truncate(first)
        self.entries.extend(entries)

    def restore(self, snapshot: Snapshot) -> None:
        """The log becomes the snapshot and nothing after it."""
        self.offset = self.handed_out = snapshot.index + 1
        self.entries = []
        self.snapshot = snapshot
        self._snapshot_handed_out = False
        for write in self._writes:
            write.last_index = 0

    def _truncate(self, first: int) -> None:
        if first <= self.offset:
            self.entries = []
            self.offset = self.handed_out = first
        else:
            del self.entries[first - self.offset :]
            self.handed_out = min(self.handed_out, first)
        for write in self._writes:
            write.last_index = min(write.last_index, first - 1)
