"""A manager's log and snapshots in one folder: what a start finds there, and what is written.

Blocking, and without threads: `raft_disk` gives each of the two a thread, and the simulator runs
them as they are, over a disk of its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarm.api.v1.raft_pb2 import ConfState, HardState, Snapshot
from swarm.api.v1.store_pb2 import SnapshotPiece
from swarm.disk import REAL_DISK, Disk
from swarm.manager.core.consensus import storage_from
from swarm.manager.core.effects import Persist
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.recovery import NewCluster
from swarm.manager.core.store import Store
from swarm.manager.snapshots import Snapshots, SnapshotWriter
from swarm.manager.wal import SEGMENT_BYTES, Wal
from swarm.security.encryption import Encrypter

# How often to look for room where there was none: nothing is written meanwhile that would show it.
LOOK_FOR_ROOM_S = 1.0


@dataclass(slots=True)
class OpenedFiles:
    """What a start finds on disk."""

    files: "RaftFiles"
    storage: MemoryStorage
    store: Store


class RaftFiles:
    """`log` is for one thread; `snapshots` for another."""

    def __init__(self, log: Wal, snapshots: Snapshots) -> None:
        self.log = log
        self.snapshots = snapshots

    @staticmethod
    def open(
        folder: Path,
        encrypter: Encrypter,
        *,
        disk: Disk = REAL_DISK,
        segment_bytes: int = SEGMENT_BYTES,
        check_mutation: bool = False,
    ) -> OpenedFiles:
        """Read log and newest snapshot. CorruptFileError, NoSpaceError, FatalDiskError."""
        snapshots = Snapshots(folder / "snapshots", encrypter, disk=disk)
        newest = snapshots.newest()
        store, snapshot = Store(check_mutation), None
        if newest is not None:
            snapshot = Snapshot(index=newest.index, term=newest.term, conf_state=newest.conf_state)
            with snapshots.open_reader(newest.index) as reader:
                pieces = (SnapshotPiece.FromString(chunk) for chunk in reader)
                store = Store.restore(pieces, check_mutation)
        log, hard_state, entries = Wal.open(
            folder / "wal",
            encrypter,
            snapshot_index=newest.index if newest else 0,
            snapshot_term=newest.term if newest else 0,
            segment_bytes=segment_bytes,
            disk=disk,
        )
        storage = storage_from(snapshot, hard_state, entries)
        return OpenedFiles(RaftFiles(log, snapshots), storage, store)

    @staticmethod
    def create(
        folder: Path,
        encrypter: Encrypter,
        beginning: NewCluster,
        *,
        disk: Disk = REAL_DISK,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """The first manager's beginning: a snapshot with the group and its store."""
        _save(Snapshots(folder / "snapshots", encrypter, disk=disk), beginning)
        log, _, _ = Wal.open(
            folder / "wal",
            encrypter,
            snapshot_index=beginning.index,
            snapshot_term=beginning.term,
            segment_bytes=segment_bytes,
            disk=disk,
        )
        log.append(HardState(term=beginning.term, commit=beginning.index), [])
        log.sync()
        log.close()

    def write(self, work: Sequence[Persist | int]) -> int:
        """Append all, sync once; a number alone is an index to compact to. Returns the last
        number that is durable now. NoSpaceError, FatalDiskError."""
        number, must_sync = 0, False
        for item in work:
            if isinstance(item, int):
                self.log.compact(min(item, self.oldest_snapshot_index()))
                continue
            if item.snapshot is not None:
                self.log.restart(item.snapshot.index, item.snapshot.term)
            self.log.append(item.hard_state, item.entries)
            number, must_sync = item.number, must_sync or item.must_sync
        if must_sync:
            self.log.sync()
        return number

    def begin_anew(self, beginning: NewCluster) -> None:
        """The beginning of another group: a snapshot above all that the log holds, as if a leader
        had sent it. From its rename on it is what the next `open` finds, and the log is void."""
        _save(self.snapshots, beginning)

    def save_snapshot(
        self, index: int, term: int, conf_state: ConfState, pieces: Iterable[bytes], older: int = 0
    ) -> None:
        """`pieces`: of a `StoreImage.serialised`, each written as it comes. `older`: how many of
        the earlier snapshots a user wants kept; one is in any case."""
        with self.snapshots.begin(index, term, conf_state) as writer:
            for piece in pieces:
                writer.write(piece)
            writer.commit()
        self.snapshots.prune(1 + max(older, 1))

    def read_snapshot(self, index: int) -> Iterator[bytes]:
        with self.snapshots.open_reader(index) as reader:
            yield from reader

    def begin_snapshot(self, snapshot: Snapshot) -> SnapshotWriter:
        """One that a leader sends."""
        return self.snapshots.begin(snapshot.index, snapshot.term, snapshot.conf_state)

    def oldest_snapshot_index(self) -> int:
        kept = self.snapshots.list()
        return kept[-1].index if kept else 0


def _save(snapshots: Snapshots, beginning: NewCluster) -> None:
    pieces = beginning.image.serialised()
    snapshots.save(beginning.index, beginning.term, beginning.conf_state, pieces)


@dataclass(slots=True)
class SyncedTogether:
    """What needs no sync waits for what does, and goes along with it."""

    _held: list[Persist] = field(default_factory=list[Persist])

    def add(self, effect: Persist) -> list[Persist]:
        """What is to be written now, in order."""
        self._held.append(effect)
        return self.take() if effect.must_sync or effect.snapshot is not None else []

    def take(self) -> list[Persist]:
        held, self._held = self._held, []
        return held
