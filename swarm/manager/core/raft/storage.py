"""Where the core reads the log from: the port, and an implementation in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from swarm.api.v1.raft_pb2 import ConfState, Entry, HardState, Snapshot
from swarm.manager.core.raft.entries import fitting
from swarm.manager.core.raft.errors import Compacted, RaftCorrupt, SnapshotOutOfDate, Unavailable


class Storage(Protocol):
    """The part of the log that was handed to the driver, as the core reads it.

    Indexes up to `first_index() - 1` are in the snapshot. Returned entries are shared and must
    not be changed by anybody.
    """

    def initial_state(self) -> tuple[HardState, ConfState]:
        """What was saved when the node last ran; empty messages for a new node."""
        ...

    def entries(self, lo: int, hi: int, max_size: int) -> list[Entry]:
        """Entries of [lo, hi) that fit in `max_size` bytes, one at least.

        Raises Compacted or Unavailable when the range is not all there.
        """
        ...

    def term(self, index: int) -> int:
        """Term of the entry at `index`, which may be `first_index() - 1`.

        Raises Compacted or Unavailable.
        """
        ...

    def first_index(self) -> int:
        """Index of the first entry that is kept."""
        ...

    def last_index(self) -> int:
        """Index of the last entry, `first_index() - 1` when there is none."""
        ...

    def snapshot(self) -> Snapshot:
        """The newest snapshot. Raises SnapshotTemporarilyUnavailable while one is being made."""
        ...


class MemoryStorage:
    """A Storage in memory, which a driver keeps beside its files and fills with the same calls.

    The dictionary of what is durable is the driver's; this class only answers quickly.
    """

    def __init__(self) -> None:
        self._hard_state = HardState()
        self._snapshot = Snapshot()
        # The entry before the first one: its index and term are still asked for.
        self._entries: list[Entry] = [Entry()]

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self._hard_state, self._snapshot.conf_state

    def set_hard_state(self, state: HardState) -> None:
        """Remember what a Ready said."""
        self._hard_state = state

    def entries(self, lo: int, hi: int, max_size: int) -> list[Entry]:
        offset = self._entries[0].index
        if lo <= offset:
            raise Compacted(f"entry {lo} is compacted, the first one kept is {offset + 1}")
        if hi > self.last_index() + 1:
            raise Unavailable(f"entry {hi - 1} is not there, the last one is {self.last_index()}")
        chosen = self._entries[lo - offset : hi - offset]
        return chosen[: fitting(chosen, max_size)]

    def term(self, index: int) -> int:
        position = index - self._entries[0].index
        if position < 0:
            raise Compacted(f"the term of entry {index} is compacted")
        if position >= len(self._entries):
            raise Unavailable(f"entry {index} is not there, the last one is {self.last_index()}")
        return self._entries[position].term

    def first_index(self) -> int:
        return self._entries[0].index + 1

    def last_index(self) -> int:
        return self._entries[0].index + len(self._entries) - 1

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; a tail that they overwrite goes, what is compacted already stays out.

        Raises RaftCorrupt when they leave a gap.
        """
        first = self.first_index()
        entries = [entry for entry in entries if entry.index >= first]
        if not entries:
            return
        position = entries[0].index - self._entries[0].index
        if position > len(self._entries):
            raise RaftCorrupt(
                f"entry {entries[0].index} leaves a gap after {self.last_index()} in the log"
            )
        self._entries[position:] = entries

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot. Raises SnapshotOutOfDate for an older one."""
        if snapshot.index <= self._snapshot.index:
            raise SnapshotOutOfDate(
                f"snapshot at {snapshot.index} is not newer than the one at {self._snapshot.index}"
            )
        self._snapshot = snapshot
        self._entries = [Entry(index=snapshot.index, term=snapshot.term)]

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes = b"") -> Snapshot:
        """Remember the state at `index` as the newest snapshot; the entries stay until compacted.

        Raises SnapshotOutOfDate when there is one as new, Unavailable beyond the log.
        """
        if index <= self._snapshot.index:
            raise SnapshotOutOfDate(
                f"snapshot at {index} is not newer than the one at {self._snapshot.index}"
            )
        self._snapshot = Snapshot(
            index=index, term=self.term(index), conf_state=conf_state, data=data
        )
        return self._snapshot

    def compact(self, index: int) -> None:
        """Drop entries up to and including `index`, which a snapshot must hold.

        Raises Compacted when that has been done, Unavailable beyond the log.
        """
        offset = self._entries[0].index
        if index <= offset:
            raise Compacted(f"entries up to {offset} are compacted already")
        term = self.term(index)
        self._entries[: index - offset + 1] = [Entry(index=index, term=term)]
