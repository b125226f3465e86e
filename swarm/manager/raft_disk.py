"""The threads that write Raft's log and snapshots.

One thread appends and syncs the log: all that waits shares one fsync. Another one writes
snapshots, so that a long one holds up neither the log nor the loop. What is done is handed back
on the loop; what can't be done ends the process, because a failed fsync says nothing about
what is on the disk (PostgreSQL's fsyncgate).
"""

import asyncio
import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from swarm.api.v1.raft_pb2 import HardState, Snapshot
from swarm.api.v1.store_pb2 import SnapshotPiece
from swarm.manager.core.consensus import storage_from
from swarm.manager.core.effects import Persist, SaveSnapshot
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.recovery import NewCluster
from swarm.manager.core.store import Store
from swarm.manager.garbage import loading
from swarm.manager.snapshots import Snapshots, SnapshotWriter
from swarm.manager.wal import Wal
from swarm.priority import prefer_this_process
from swarm.security.encryption import open_encrypter

_T = TypeVar("_T")

# After each piece of a snapshot, which takes half a millisecond: see `save_snapshot`.
_PAUSE_S = 0.003

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Opened:
    """What a start finds on disk."""

    disk: "RaftDisk"
    storage: MemoryStorage
    store: Store


class RaftDisk:
    """`on_persisted(number)`, `on_room(enough)` are called on the loop; `on_fatal(reason)` from
    any thread, and must not return."""

    def __init__(self, wal: Wal, snapshots: Snapshots) -> None:
        self._wal = wal
        self._snapshots = snapshots
        self._queue: queue.SimpleQueue[Persist | int | None] = queue.SimpleQueue()
        # What needs no sync goes along with what does.
        self._held: list[Persist] = []
        self._thread: threading.Thread | None = None
        self._snapshot_thread = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._had_room = True

    @staticmethod
    def open(folder: Path) -> Opened:
        """Read log and newest snapshot. CorruptFileError, NoSpaceError, FatalDiskError."""
        with loading():
            return RaftDisk._open(folder)

    @staticmethod
    def _open(folder: Path) -> Opened:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        encrypter = open_encrypter(folder)
        snapshots = Snapshots(folder / "snapshots", encrypter)
        newest = snapshots.newest()
        store, snapshot = Store(), None
        if newest is not None:
            snapshot = Snapshot(index=newest.index, term=newest.term, conf_state=newest.conf_state)
            with snapshots.open_reader(newest.index) as reader:
                store = Store.restore(SnapshotPiece.FromString(chunk) for chunk in reader)
        wal, hard_state, entries = Wal.open(
            folder / "wal",
            encrypter,
            snapshot_index=newest.index if newest else 0,
            snapshot_term=newest.term if newest else 0,
        )
        return Opened(RaftDisk(wal, snapshots), storage_from(snapshot, hard_state, entries), store)

    @staticmethod
    def create(folder: Path, beginning: NewCluster) -> None:
        """The first manager's beginning: a snapshot with the group and its store."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        encrypter = open_encrypter(folder)
        _save(Snapshots(folder / "snapshots", encrypter), beginning)
        index, term = beginning.index, beginning.term
        wal, _, _ = Wal.open(folder / "wal", encrypter, snapshot_index=index, snapshot_term=term)
        wal.append(HardState(term=term, commit=index), [])
        wal.sync()
        wal.close()

    def begin_anew(self, beginning: NewCluster) -> None:
        """The beginning of another group on this disk: a snapshot above all that the log holds,
        as if a leader had sent it. From its rename on it is what the next `open` finds, and the
        log is void."""
        _save(self._snapshots, beginning)

    @staticmethod
    def begin(folder: Path) -> None:
        """An empty log for a manager that joins, in place of whatever is there. Where the folder
        is empty later on, the log was lost."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        wal, _, _ = Wal.open(folder / "wal", open_encrypter(folder))
        wal.close()

    def start(
        self,
        on_persisted: Callable[[int], None],
        on_room: Callable[[bool], None],
        on_fatal: Callable[[str], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(loop, on_persisted, on_room, on_fatal), name="raft-log"
        )
        self._thread.start()

    def persist(self, effect: Persist) -> None:
        self._held.append(effect)
        if effect.must_sync or effect.snapshot is not None:
            self._write_held()

    def _write_held(self) -> None:
        for effect in self._held:
            self._queue.put(effect)
        self._held.clear()

    def compact(self, index: int) -> None:
        self._queue.put(index)

    async def save_snapshot(self, effect: SaveSnapshot) -> None:
        """Serialised piece by piece, with a pause after each: a thread that computes keeps the
        interpreter from the loop for milliseconds at a time."""

        def write() -> None:
            with self._snapshots.begin(effect.index, effect.term, effect.conf_state) as writer:
                for piece in effect.image.serialised():
                    writer.write(piece)
                    time.sleep(_PAUSE_S)
                writer.commit()
            self._snapshots.prune()

        await self.on_snapshot_thread(write)

    def read_snapshot(self, index: int) -> Iterator[bytes]:
        with self._snapshots.open_reader(index) as reader:
            yield from reader

    def begin_snapshot(self, snapshot: Snapshot) -> SnapshotWriter:
        return self._snapshots.begin(snapshot.index, snapshot.term, snapshot.conf_state)

    async def on_snapshot_thread(self, function: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(
            self._snapshot_thread, function, *args
        )

    def oldest_snapshot_index(self) -> int:
        kept = self._snapshots.list()
        return kept[-1].index if kept else 0

    async def close(self) -> None:
        self._write_held()
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._snapshot_thread.shutdown)
        self._wal.close()

    def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        on_persisted: Callable[[int], None],
        on_room: Callable[[bool], None],
        on_fatal: Callable[[str], None],
    ) -> None:
        prefer_this_process()
        try:
            while (work := self._take_all()) is not None:
                number = self._write(work)
                if number:
                    loop.call_soon_threadsafe(on_persisted, number)
                enough = self._wal.reserve()
                if enough != self._had_room:
                    self._had_room = enough
                    loop.call_soon_threadsafe(on_room, enough)
        except Exception as error:
            on_fatal(f"Raft's log can't be written: {error}")

    def _take_all(self) -> list[Persist | int] | None:
        """Everything that waits; None at the end."""
        item = self._queue.get()
        work: list[Persist | int] = []
        while item is not None:
            work.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return work
        if work:
            self._queue.put(None)
            return work
        return None

    def _write(self, work: Sequence[Persist | int]) -> int:
        """Append all, sync once. Returns the last number that is durable now."""
        number, must_sync = 0, False
        for item in work:
            if isinstance(item, int):
                self._wal.compact(min(item, self.oldest_snapshot_index()))
                continue
            if item.snapshot is not None:
                self._wal.restart(item.snapshot.index, item.snapshot.term)
            self._wal.append(item.hard_state, item.entries)
            number, must_sync = item.number, must_sync or item.must_sync
        if must_sync:
            self._wal.sync()
        return number


def _save(snapshots: Snapshots, beginning: NewCluster) -> None:
    chunks = beginning.image.serialised()
    snapshots.save(beginning.index, beginning.term, beginning.conf_state, chunks)
