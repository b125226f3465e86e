"""A manager's disk in virtual time: the real log and snapshots over a simulated file system.

One thread writes and syncs the log, another one the snapshots, each with a time of its own
(raft_disk). What they do is done at the end of that time; where the power is cut before, it is
done up to some call.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from swarm.api.v1.raft_pb2 import ConfState, HardState, Snapshot
from swarm.api.v1.store_pb2 import SnapshotPiece
from swarm.disk import CorruptFileError, FatalDiskError, NoSpaceError
from swarm.manager.core.effects import Persist
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.recovery import NewCluster
from swarm.manager.core.store import Restoration, Store
from swarm.manager.raft_files import LOOK_FOR_ROOM_S, RaftFiles, SyncedTogether
from swarm.manager.wal_records import Scan, scan
from swarm.security.encryption import Encrypter
from swarm.simulation.filesystem import FileSystem, PowerCut
from swarm.simulation.loop import Loop, Signal

_SEGMENT_BYTES = 16 << 10
_FOLDER = Path("/raft")
# A write of the log takes about so many calls, where no new segment is begun.
_CALLS_OF_A_WRITE = 4
_CALLS_OF_A_SNAPSHOT = 8


class Disk:
    """While `hung`, no sync ends; `slow` stretches their time. `on_persisted(number)` and
    `on_fatal(reason)` are the process's."""

    def __init__(self, loop: Loop, rng: random.Random) -> None:
        self.hung = False
        self.slow = 1.0
        self.syncs = 0
        self.system = FileSystem(rng)
        self._port = self.system.port()
        self._encrypter = Encrypter(rng.randbytes(32), random_bytes=rng.randbytes)
        self._loop = loop
        self._rng = rng
        self._files: RaftFiles | None = None
        self._held = SyncedTogether()
        # What waits to be written, and how much of it the sync under way takes.
        self._waiting: list[Persist | int] = []
        self._syncing = 0
        self._saving: Callable[[], None] | None = None
        self._epoch = 0
        self._appended: Signal | None = None
        self._had_room = True
        self.on_persisted: Callable[[int], None] = lambda _: None
        self.on_room: Callable[[bool], None] = lambda _: None
        self.on_fatal: Callable[[str], None] = lambda _: None

    # The process

    def format(self, beginning: NewCluster) -> None:
        RaftFiles.create(
            _FOLDER,
            self._encrypter,
            beginning,
            disk=self._port,
            segment_bytes=_SEGMENT_BYTES,
        )
        self.system.process_ended()

    def open(self, check_mutation: bool) -> tuple[MemoryStorage, Store, HardState]:
        """What a start finds. CorruptFileError, NoSpaceError, FatalDiskError."""
        opened = RaftFiles.open(
            _FOLDER,
            self._encrypter,
            disk=self._port,
            segment_bytes=_SEGMENT_BYTES,
            check_mutation=check_mutation,
        )
        self._files, self._had_room = opened.files, True
        hard_state = HardState()
        hard_state.CopyFrom(opened.storage.initial_state()[0])
        return opened.storage, opened.store, hard_state

    @property
    def waits(self) -> bool:
        """Something is to be synced, and is not yet."""
        return bool(self._syncing)

    def begin(self) -> None:
        """An empty log, before a manager asks to be let in (RaftDisk.begin)."""
        self.open(check_mutation=False)
        self.end()

    @property
    def durable_index(self) -> int:
        """Of the last entry that is synced."""
        assert self._files is not None, "it is open"
        return self._files.log.synced_index

    @property
    def has_log(self) -> bool:
        """StateFolder.has_log."""
        names = self.system.contents(_FOLDER / "wal")
        return any(name.endswith(".wal") for name in names)

    def crash(self) -> None:
        """The process ends in the middle of what it does, and mostly the power with it."""
        self._epoch += 1
        rng, files = self._rng, self._files
        if files is not None:
            if self._saving is not None and rng.random() < 0.5:
                self._break_off(self._saving, rng.randint(0, _CALLS_OF_A_SNAPSHOT))
            waiting = self._waiting
            if waiting and files is self._files:
                self._break_off(lambda: files.write(waiting), rng.randint(0, _CALLS_OF_A_WRITE))
        if rng.random() < 0.8:
            self.system.power_is_back()
        else:
            self.system.process_ended()
        self._forget()

    def _break_off(self, work: Callable[[], object], calls: int) -> None:
        self.system.cut_power_after(calls)
        try:
            work()
        except (PowerCut, FatalDiskError, NoSpaceError):
            pass

    def reach(self) -> tuple[int, int]:
        """Term and index of the last entry that a start would find; zeros where nothing was ever
        written, or the log is damaged."""
        try:
            storage, _, _ = self.open(check_mutation=False)
        except CorruptFileError:
            return 0, 0
        finally:
            self.end()
        last = storage.last_index()
        return storage.term(last), last

    def begin_anew(self, beginning: NewCluster) -> None:
        """The log of another group, above all that the open one holds (RaftDisk.begin_anew)."""
        assert self._files is not None, "it is open"
        self._files.begin_anew(beginning)
        self.end()

    def end(self) -> None:
        """Whoever had it open is done."""
        self.system.process_ended()
        self._forget()

    def wipe(self) -> None:
        """All that was on it is gone."""
        self._epoch += 1
        self.system.erase()
        self._forget()

    def _forget(self) -> None:
        self._files = None
        self._held.take()
        self._waiting.clear()
        self._syncing = 0
        self._saving = None

    # The log

    def persist(self, record: Persist) -> None:
        work = self._held.add(record)
        if not work:
            return
        self._waiting += work
        if self._appended is not None:
            self._appended.set()
            self._appended = None
        self._begin_sync()

    def compact(self, index: int) -> None:
        self._waiting.append(index)
        self._begin_sync()

    def next_append(self) -> Signal:
        """Set when something comes that must be synced."""
        if self._appended is None:
            self._appended = Signal(self._loop)
        return self._appended

    def report_early(self, number: int) -> None:
        """Only for mutants: say that it is durable, which it is not yet."""
        self._loop.after(0.0001, self._report, self._epoch, number)

    def works_again(self) -> None:
        """It has room, and no call fails."""
        self.system.full = self.system.sync_fails = self.system.write_fails = False

    def release(self) -> None:
        """A disk that hung works again."""
        self.hung = False
        if self._syncing:
            self._loop.after(self._sync_s(), self._end_sync, self._epoch)

    def _begin_sync(self) -> None:
        """All that waits is written and shares one sync."""
        if self._syncing:
            return
        self._syncing = len(self._waiting)
        if not self.hung:
            self._loop.after(self._sync_s(), self._end_sync, self._epoch)

    def _end_sync(self, epoch: int) -> None:
        if epoch != self._epoch or self.hung or not self._syncing:
            return
        self.syncs += 1
        done, self._waiting = self._waiting[: self._syncing], self._waiting[self._syncing :]
        self._syncing = 0
        assert self._files is not None, "it is open"
        try:
            number = self._files.write(done)
            self._look_for_room()
        except (FatalDiskError, NoSpaceError) as error:
            self.on_fatal(str(error))
            return
        if number:
            self.on_persisted(number)
        if epoch == self._epoch and self._waiting:
            self._begin_sync()

    def _look_for_room(self) -> None:
        assert self._files is not None, "it is open"
        enough = self._files.log.reserve()
        if enough != self._had_room:
            self._had_room = enough
            self.on_room(enough)
            if not enough:
                self._loop.after(LOOK_FOR_ROOM_S, self._look_again, self._epoch)

    def _look_again(self, epoch: int) -> None:
        if epoch != self._epoch or self._had_room:
            return
        try:
            if not self._syncing:
                self._look_for_room()
        except FatalDiskError as error:
            self.on_fatal(str(error))
            return
        if not self._had_room:
            self._loop.after(LOOK_FOR_ROOM_S, self._look_again, epoch)

    def _report(self, epoch: int, number: int) -> None:
        if epoch == self._epoch:
            self.on_persisted(number)

    def _sync_s(self) -> float:
        return self.slow * self._rng.uniform(0.0005, 0.004)

    # Snapshots

    def read_snapshot(self, index: int) -> list[bytes] | None:
        """Its chunks; None where there is none at that index any more."""
        assert self._files is not None, "it is open"
        try:
            return list(self._files.read_snapshot(index))
        except FileNotFoundError:
            return None

    def save_snapshot(
        self,
        index: int,
        term: int,
        conf_state: ConfState,
        pieces: Sequence[bytes],
        done: Callable[[bool], None],
    ) -> None:
        """`done(saved)` is called once it is durable or there was no space, never if the process
        ends before."""
        files = self._files
        assert files is not None, "it is open"
        self._on_snapshot_thread(lambda: files.save_snapshot(index, term, conf_state, pieces), done)

    def receive_snapshot(
        self,
        snapshot: Snapshot,
        chunks: Sequence[bytes],
        checksum: int | None,
        done: Callable[[Store], None],
    ) -> None:
        """RaftApi._receive: written down and read into fresh tables, piece by piece."""
        files = self._files
        assert files is not None, "it is open"
        received: list[Store] = []

        def receive() -> None:
            restoration = Restoration()
            with files.begin_snapshot(snapshot) as writer:
                for chunk in chunks:
                    writer.write(chunk)
                    restoration.add(SnapshotPiece.FromString(chunk))
                writer.commit(checksum)
            received.append(restoration.finish())

        self._on_snapshot_thread(receive, lambda saved: done(received[0]) if saved else None)

    def _on_snapshot_thread(self, work: Callable[[], None], done: Callable[[bool], None]) -> None:
        epoch = self._epoch
        self._saving = work

        def end() -> None:
            if epoch != self._epoch:
                return
            if self.hung:
                self._loop.after(0.5, end)
                return
            if self._saving is work:
                self._saving = None
            try:
                work()
            except NoSpaceError:
                done(False)
            except FatalDiskError as error:
                self.on_fatal(str(error))
            else:
                done(True)

        self._loop.after(self.slow * self._rng.uniform(0.002, 0.05), end)

    # Damage

    def damage_log(self) -> bool:
        """One bit of a record that is not the last one of the newest segment, which is read at
        every start. False: there is no such record."""
        names = [n for n in self.system.contents(_FOLDER / "wal") if n.endswith(".wal")]
        if not names:
            return False
        path = _FOLDER / "wal" / names[-1]
        content = bytes(self.system.contents(path.parent)[path.name])
        found = Scan()
        starts = [r.offset for r in scan(path, content, found, last=True, way_out="")]
        if len(starts) < 2:
            return False
        self.system.damage(path, self._rng.randrange(starts[-1]))
        return True
