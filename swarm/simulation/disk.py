"""A manager's disk: what was synced stays, of the rest a crash keeps a random beginning.

The log is a list of records, as `swarm.manager.wal` has it; snapshots are beside it. One thread
writes and syncs the log, another one the snapshots, each with a time of its own (raft_disk).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swarm.api.v1.raft_pb2 import ConfState, Entry, HardState, Snapshot
from swarm.api.v1.store_pb2 import SnapshotPiece
from swarm.manager.core.consensus import storage_from
from swarm.manager.core.effects import Persist
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.recovery import NewCluster
from swarm.manager.core.store import Store
from swarm.simulation.loop import Loop, Signal

_SNAPSHOTS_KEPT = 2


@dataclass(slots=True)
class SavedSnapshot:
    index: int
    term: int
    conf_state: ConfState
    pieces: Sequence[SnapshotPiece]


@dataclass(slots=True)
class _Log:
    """What the records up to some point add up to. `base` is the entry before the first."""

    base_index: int = 0
    base_term: int = 0
    entries: list[Entry] = field(default_factory=list[Entry])
    hard_state: HardState = field(default_factory=HardState)

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    def write(self, record: Persist) -> None:
        if record.snapshot is not None:
            self.base_index, self.base_term = record.snapshot.index, record.snapshot.term
            self.entries = []
        if record.entries:
            position = record.entries[0].index - self.base_index - 1
            assert 0 <= position <= len(self.entries), "a record leaves a gap in the log"
            self.entries[position:] = record.entries
        if record.hard_state is not None:
            self.hard_state = record.hard_state

    def compact(self, index: int) -> None:
        if index > self.base_index:
            position = min(index, self.last_index) - self.base_index
            self.base_index, self.base_term = index, self.entries[position - 1].term
            del self.entries[:position]


class Disk:
    """`fsync_s` gives the time of the next sync; while `hung`, none ends."""

    def __init__(self, loop: Loop, rng: random.Random) -> None:
        self.hung = False
        self.slow = 1.0
        self.syncs = 0
        # Durable or lost: a crash is between two records.
        self.lost_records = 0
        self._loop = loop
        self._rng = rng
        self._log = _Log()
        self._snapshots: dict[int, SavedSnapshot] = {}
        self._unsynced: list[Persist] = []
        # How many of them the sync under way will make durable.
        self._syncing = 0
        self._epoch = 0
        self._appended: Signal | None = None
        self._on_persisted: Callable[[int], None] = lambda _: None

    # The process

    def format(self, conf_state: ConfState, pieces: Sequence[SnapshotPiece]) -> None:
        """The first manager's beginning: a snapshot at index 1 (RaftDisk.create)."""
        self._snapshots = {1: SavedSnapshot(1, 1, conf_state, pieces)}
        self._log = _Log(1, 1, [], HardState(term=1, commit=1))

    def open(
        self, on_persisted: Callable[[int], None], check_mutation: bool
    ) -> tuple[MemoryStorage, Store, HardState]:
        """What a start finds (RaftDisk.open, Wal.open)."""
        self._on_persisted = on_persisted
        store, snapshot = Store(check_mutation), None
        newest = self.newest_snapshot()
        if newest is not None:
            snapshot = Snapshot(index=newest.index, term=newest.term, conf_state=newest.conf_state)
            store = Store.restore(newest.pieces, check_mutation)
            self._connect_log(newest)
        entries = self._log.entries
        if newest is not None:
            entries = entries[newest.index - self._log.base_index :]
        hard_state = HardState()
        hard_state.CopyFrom(self._log.hard_state)
        hard_state.commit = min(hard_state.commit, self._log.last_index)
        if newest is not None:
            hard_state.commit = max(hard_state.commit, newest.index)
        return storage_from(snapshot, hard_state, entries), store, hard_state

    def crash(self) -> None:
        """The process ends: what was not synced is lost, but for a random beginning of it."""
        self._epoch += 1
        kept = self._rng.randint(0, len(self._unsynced))
        for record in self._unsynced[:kept]:
            self._log.write(record)
        self.lost_records += len(self._unsynced) - kept
        self._unsynced.clear()
        self._syncing = 0

    @property
    def is_empty(self) -> bool:
        """Nothing was ever written: whoever has this disk promised nothing."""
        return not self._snapshots and not self._log.last_index

    def reach(self) -> tuple[int, int]:
        """Term and index of the last entry that a start would find."""
        storage, _, _ = self.open(lambda _: None, check_mutation=False)
        last = storage.last_index()
        return storage.term(last), last

    def begin_anew(self, beginning: NewCluster) -> None:
        """The log of another group, above all that this one holds (RaftDisk.begin_anew)."""
        pieces = list(beginning.image.pieces())
        saved = SavedSnapshot(beginning.index, beginning.term, beginning.conf_state, pieces)
        self._snapshots[saved.index] = saved

    def wipe(self) -> None:
        """The manager is none any more: its folder is removed."""
        self._epoch += 1
        self._log, self._snapshots = _Log(), {}
        self._unsynced.clear()
        self._syncing = 0

    # The log

    def persist(self, record: Persist) -> None:
        self._unsynced.append(record)
        if self._appended is not None and (record.must_sync or record.snapshot is not None):
            self._appended.set()
            self._appended = None
        if not self._syncing:
            self._begin_sync()

    def next_append(self) -> Signal:
        """Set when something comes that must be synced."""
        if self._appended is None:
            self._appended = Signal(self._loop)
        return self._appended

    def report_early(self, number: int) -> None:
        """Only for mutants: say that it is durable, which it is not yet."""
        self._loop.after(0.0001, self._report, self._epoch, number)

    def compact(self, index: int) -> None:
        oldest = min(self._snapshots, default=0)
        self._log.compact(min(index, oldest, self._log.last_index))

    def release(self) -> None:
        """A disk that hung works again."""
        self.hung = False
        if self._syncing:
            self._loop.after(self._sync_s(), self._end_sync, self._epoch)

    def _begin_sync(self) -> None:
        """All that waits is written and shares one sync; a commit index alone needs none."""
        self._syncing = len(self._unsynced)
        batch = self._unsynced
        if not any(r.must_sync or r.snapshot is not None for r in batch):
            self._syncing = 0
            # Written, and lost by a crash unless a later sync takes it along.
            self._loop.after(0.0001, self._report, self._epoch, batch[-1].number)
        elif not self.hung:
            self._loop.after(self._sync_s(), self._end_sync, self._epoch)

    def _end_sync(self, epoch: int) -> None:
        if epoch != self._epoch or self.hung or not self._syncing:
            return
        self.syncs += 1
        done, self._unsynced = self._unsynced[: self._syncing], self._unsynced[self._syncing :]
        self._syncing = 0
        for record in done:
            self._log.write(record)
        self._on_persisted(done[-1].number)
        if self._unsynced:
            self._begin_sync()

    def _report(self, epoch: int, number: int) -> None:
        if epoch == self._epoch:
            self._on_persisted(number)

    def _sync_s(self) -> float:
        return self.slow * self._rng.uniform(0.0005, 0.004)

    # Snapshots

    def newest_snapshot(self) -> SavedSnapshot | None:
        return self._snapshots[max(self._snapshots)] if self._snapshots else None

    def snapshot(self, index: int) -> SavedSnapshot | None:
        return self._snapshots.get(index)

    def save_snapshot(self, snapshot: SavedSnapshot, done: Callable[[], None]) -> None:
        """`done` is called once it is durable, never if the process ends before."""
        epoch = self._epoch

        def end() -> None:
            if epoch != self._epoch:
                return
            if self.hung:
                self._loop.after(0.5, end)
                return
            self._snapshots[snapshot.index] = snapshot
            for index in sorted(self._snapshots)[:-_SNAPSHOTS_KEPT]:
                del self._snapshots[index]
            done()

        self._loop.after(self.slow * self._rng.uniform(0.002, 0.05), end)

    def _connect_log(self, newest: SavedSnapshot) -> None:
        """Where the log does not hold the snapshot's last entry, it begins anew after it."""
        log = self._log
        position = newest.index - log.base_index
        term = 0
        if position == 0:
            term = log.base_term
        elif 0 < position <= len(log.entries):
            term = log.entries[position - 1].term
        if term != newest.term:
            hard_state = HardState()
            hard_state.CopyFrom(log.hard_state)
            self._log = _Log(newest.index, newest.term, [], hard_state)
