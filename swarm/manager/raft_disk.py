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

from swarm.api.v1.raft_pb2 import Snapshot
from swarm.manager.core.effects import Persist, SaveSnapshot
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.recovery import NewCluster
from swarm.manager.core.store import Store
from swarm.manager.garbage import loading
from swarm.manager.raft_files import LOOK_FOR_ROOM_S, RaftFiles, SyncedTogether
from swarm.manager.snapshots import SnapshotWriter
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

    def __init__(self, files: RaftFiles) -> None:
        self._files = files
        self._queue: queue.SimpleQueue[Persist | int | None] = queue.SimpleQueue()
        self._held = SyncedTogether()
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
        opened = RaftFiles.open(folder, open_encrypter(folder))
        return Opened(RaftDisk(opened.files), opened.storage, opened.store)

    @staticmethod
    def create(folder: Path, beginning: NewCluster) -> None:
        """The first manager's beginning: a snapshot with the group and its store."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        RaftFiles.create(folder, open_encrypter(folder), beginning)

    def begin_anew(self, beginning: NewCluster) -> None:
        """The beginning of another group on this disk: a snapshot above all that the log holds,
        as if a leader had sent it. From its rename on it is what the next `open` finds, and the
        log is void."""
        self._files.begin_anew(beginning)

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
        self._enqueue(self._held.add(effect))

    def _enqueue(self, effects: Sequence[Persist]) -> None:
        for effect in effects:
            self._queue.put(effect)

    def compact(self, index: int) -> None:
        self._queue.put(index)

    async def save_snapshot(self, effect: SaveSnapshot) -> None:
        """Serialised piece by piece, with a pause after each: a thread that computes keeps the
        interpreter from the loop for milliseconds at a time."""

        def unhurried() -> Iterator[bytes]:
            for piece in effect.image.serialised():
                yield piece
                time.sleep(_PAUSE_S)

        await self.on_snapshot_thread(
            self._files.save_snapshot,
            effect.index,
            effect.term,
            effect.conf_state,
            unhurried(),
            effect.older,
        )

    def read_snapshot(self, index: int) -> Iterator[bytes]:
        return self._files.read_snapshot(index)

    def begin_snapshot(self, snapshot: Snapshot) -> SnapshotWriter:
        return self._files.begin_snapshot(snapshot)

    async def on_snapshot_thread(self, function: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(
            self._snapshot_thread, function, *args
        )

    async def close(self) -> None:
        self._enqueue(self._held.take())
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._snapshot_thread.shutdown)
        self._files.log.close()

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
                number = self._files.write(work)
                if number:
                    loop.call_soon_threadsafe(on_persisted, number)
                enough = self._files.log.reserve()
                if enough != self._had_room:
                    self._had_room = enough
                    loop.call_soon_threadsafe(on_room, enough)
        except Exception as error:
            on_fatal(f"Raft's log can't be written: {error}")

    def _take_all(self) -> list[Persist | int] | None:
        """Everything that waits; None at the end. Nothing at all when it is time to look whether
        there is room again."""
        try:
            item = self._queue.get(timeout=None if self._had_room else LOOK_FOR_ROOM_S)
        except queue.Empty:
            return []
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
