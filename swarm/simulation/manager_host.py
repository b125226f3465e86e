"""A manager's shell in virtual time: the same core and effects as in `swarm.manager.manager`,
with the simulated disk, wire and clock in place of the real ones."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from swarm.api.v1.dispatcher_pb2 import AgentMessage, ManagerMessage
from swarm.api.v1.node_pb2 import Member
from swarm.api.v1.raft_pb2 import HardState, Message
from swarm.disk import CorruptFileError, FatalDiskError, NoSpaceError
from swarm.manager.core import effects as fx
from swarm.manager.core import events as ev
from swarm.manager.core.consensus import AppliedEntry
from swarm.manager.core.manager import TICK_S, ManagerCore
from swarm.manager.core.membership import admission
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.store import RandomIds, Store
from swarm.simulation.disk import Disk
from swarm.simulation.loop import Process, Running, Signal, spawn
from swarm.simulation.violation import Violation

if TYPE_CHECKING:
    from swarm.simulation.agent_host import AgentStream
    from swarm.simulation.cluster import Cluster
    from swarm.simulation.machine import Machine

# A peer whose process is gone is noticed so often at most: the transport's backoff.
_UNREACHABLE_S = 0.2
_SNAPSHOT_PATIENCE_S = 5.0
# Until a process that ended by itself is started again.
_SUPERVISOR_S = 1.0


class ObservedCore(ManagerCore):
    """The manager's core, with somebody who looks at every entry that it applied."""

    observer: Callable[[AppliedEntry], None]

    def _follow(self, entry: AppliedEntry, now: float, out: list[fx.Effect]) -> None:
        self.observer(entry)
        super()._follow(entry, now, out)


class ManagerHost:
    """One manager process after another, on one machine and one disk, under one raft id."""

    def __init__(self, cluster: Cluster, machine: Machine, raft_id: int, disk: Disk) -> None:
        self.cluster = cluster
        self.machine = machine
        self.name = machine.name
        self.raft_id = raft_id
        self.disk = disk
        self.core: ObservedCore | None = None
        self.epoch = 0
        self.ended = False
        # By a fault that no crash explains: it must be refused.
        self.log_is_damaged = False
        self.peers: dict[int, str] = {}
        self._known_ids: set[int] = set()
        self._introduced: dict[int, str] = {}
        self._known: Sequence[Member] = ()
        self._paused = False
        # What has happened and is not handled yet; `_turning`: it will be, soon.
        self._events: list[ev.Event] = []
        self._turning = False
        self._turn_rng = cluster.streams.of(f"turns/{machine.name}/{raft_id}")
        self._token = 0
        self._promises: dict[int, Signal] = {}
        self._role_changed = Signal(cluster.loop)
        self._sessions: dict[str, AgentStream] = {}
        self._unreachable_at: dict[int, float] = {}

    # Life

    def start(self, known_members: Sequence[Member] = ()) -> None:
        self.epoch += 1
        self._known = known_members
        cluster, streams = self.cluster, self.cluster.streams
        opened = self._open_disk()
        if opened is None:
            return
        storage, store, hard_state = opened
        if self.was_told_nothing(storage):
            reason = "nothing was promised under its id"
            cluster.loop.after(0.0, self._stopped, self.epoch, reason)
            return
        incarnation = f"{self.name}/{self.raft_id}/{self.epoch}"
        self.core = ObservedCore(
            raft_id=self.raft_id,
            storage=storage,
            store=store,
            rng=streams.of(f"raft/{incarnation}"),
            ids=RandomIds(streams.of(f"ids/{incarnation}").getrandbits),
            nonce=streams.of(f"nonce/{incarnation}").randbytes(8),
            timing=cluster.timing,
        )
        self.core.observer = self._observe
        cluster.invariants.started(self, hard_state)
        self._introduced.clear()
        self._set_members([*self._known, *store.members()])
        cluster.note(self.name, "manager starts", f"as {self.raft_id} at {storage.last_index()}")
        self._tick(self.epoch)

    def was_told_nothing(self, storage: MemoryStorage) -> bool:
        """Node._start_manager: it was stopped before the leader sent anything."""
        return not storage.last_index() and not self._known

    def _open_disk(self) -> tuple[MemoryStorage, Store, HardState] | None:
        """None where this manager must not or can't start with what is there."""
        self.disk.on_persisted = lambda number: self.submit(ev.Persisted(number))
        self.disk.on_room = lambda enough: self.submit(ev.RoomOnDisk(enough))
        self.disk.on_fatal = self._disk_failed
        if not self.disk.has_log:
            # Node._go_on_as_manager: a log that was there is gone.
            self.cluster.note(self.name, "manager does not start: its log is gone")
            return None
        try:
            return self.disk.open(self.cluster.check_mutation)
        except CorruptFileError as error:
            if not self.log_is_damaged:
                raise Violation(
                    "a log that only crashes have touched is accepted", f"{self.name}: {error}"
                ) from error
            self.cluster.note(self.name, "manager does not start:", str(error))
            return None
        except (FatalDiskError, NoSpaceError) as error:
            self._disk_failed(str(error))
            return None

    def crash(self) -> None:
        """The process is gone at once."""
        if self.core is None:
            return
        self.cluster.note(self.name, "manager crashes")
        self._end()
        self.disk.crash()

    def stop(self, reason: str) -> None:
        """Let go by the group: this raft id never comes back."""
        self.cluster.note(self.name, "manager ends", reason)
        self._end()
        self.disk.wipe()
        self.ended = True

    def _end(self) -> None:
        self.cluster.invariants.ended(self)
        self.core = None
        self.epoch += 1
        self._paused = self._turning = False
        self._events.clear()
        self._promises.clear()
        self._role_changed.set()
        self._role_changed = Signal(self.cluster.loop)
        for stream in list(self._sessions.values()):
            stream.manager_gone()
        self._sessions.clear()

    @property
    def running(self) -> bool:
        return self.core is not None

    @property
    def responsive(self) -> bool:
        return self.core is not None and not self._paused

    @property
    def store(self) -> Store:
        assert self.core is not None, "asked only while it runs"
        return self.core.store

    @property
    def leads(self) -> bool:
        return self.core is not None and self.core.leading

    def pause(self) -> None:
        """SIGSTOP: nothing moves, messages wait."""
        if self.core is not None:
            self.cluster.note(self.name, "manager pauses")
            self._paused = True

    def resume(self) -> None:
        """What has arrived is stepped first, and missed ticks count as one."""
        if not self._paused:
            return
        self.cluster.note(self.name, "manager goes on")
        self._paused = False
        self.submit(ev.Tick())

    # Events in, effects out

    def submit(self, event: ev.Event) -> None:
        """Handed to the core together with what comes before the manager's next turn."""
        if self.core is None:
            return
        self._events.append(event)
        if self._paused or self._turning:
            return
        turn_s = self.cluster.scenario.turn_s
        if turn_s:
            self._turning = True
            self.cluster.loop.after(self._turn_rng.uniform(0.0, turn_s), self._turn, self.epoch)
        else:
            self._handle_waiting()

    def _turn(self, epoch: int) -> None:
        if epoch == self.epoch:
            self._turning = False
            if not self._paused:
                self._handle_waiting()

    def _handle_waiting(self) -> None:
        """As Manager._handle_waiting."""
        core, cluster = self.core, self.cluster
        assert core is not None, "its turns end with it"
        events, self._events = self._events, []
        loop, clock = cluster.loop, self.machine.clock
        for event in events:
            cluster.note(self.name, ">", event)
        try:
            effects = core.handle_all(events, clock.monotonic(loop.now), clock.unix_ns(loop.now))
        except Violation:
            raise
        except Exception as error:
            raise Violation("core does not fail", f"{self.name}: {error!r}") from error
        cluster.invariants.handled(self, len(events), effects)
        for effect in effects:
            cluster.note(self.name, "  <", effect)
            self._perform(effect)

    def _observe(self, entry: AppliedEntry) -> None:
        self.cluster.invariants.applied(self, entry)

    def _tick(self, epoch: int) -> None:
        if epoch != self.epoch:
            return
        if not self._paused:
            self.submit(ev.Tick())
        if epoch == self.epoch:
            tick_s = TICK_S + self.cluster.scenario.tick_late_s
            self.cluster.loop.after(tick_s / self.machine.clock.rate, self._tick, epoch)

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Persist():
                self.disk.persist(effect)
            case fx.Send(messages):
                self._send(messages)
            case fx.Answer(token) | fx.ReadReady(token) | fx.JoinAnswer(token):
                promise = self._promises.pop(token, None)
                if promise is not None:
                    promise.set(effect)
            case fx.SessionSend(session_id, message):
                self._session_send(session_id, message)
            case fx.SessionClose(session_id, reason):
                stream = self._sessions.pop(session_id, None)
                if stream is not None:
                    stream.close_from_manager(reason)
            case fx.Relay(raft_id, batch):
                self._to_peer(raft_id, lambda host: host.submit(ev.Relayed(batch)))
            case fx.RoleChanged():
                self._role_changed.set()
                self._role_changed = Signal(self.cluster.loop)
            case fx.MembersChanged(members):
                self._set_members(members)
            case fx.SendSnapshot(message):
                self._send_snapshot(message)
            case fx.SaveSnapshot():
                self._save_snapshot(effect)
            case fx.CompactLog(index):
                self.disk.compact(index)
            case fx.Again():
                self.cluster.loop.after(0.0001, self._again, self.epoch)
            case fx.Stop(reason):
                self.cluster.loop.after(0.0, self._stopped, self.epoch, reason)
            case _:
                pass

    def _again(self, epoch: int) -> None:
        if epoch == self.epoch:
            self.submit(ev.Resume())

    def _stopped(self, epoch: int, reason: str) -> None:
        if epoch == self.epoch:
            self.machine.raft_let_go(reason)

    def _disk_failed(self, reason: str) -> None:
        """Manager._fatal: the process ends at once, and is started again by whoever watches it."""
        self.cluster.note(self.name, "disk fails:", reason)
        self.crash()
        self.cluster.loop.after(_SUPERVISOR_S, self._start_again, self.epoch)

    def _start_again(self, epoch: int) -> None:
        if epoch == self.epoch and self.machine.manager is self:
            self.machine.start_manager()

    # Peers

    def _set_members(self, members: Sequence[Member]) -> None:
        """As Transport.set_members, which keeps those that introduced themselves."""
        known = {m.raft_id for m in members}
        self._introduced = {i: name for i, name in self._introduced.items() if i not in known}
        self._known_ids = known
        self.peers = {
            m.raft_id: m.address.partition(":")[0]
            for m in members
            if not m.removed and m.raft_id != self.raft_id
        } | self._introduced

    def _introduce(self, sender: ManagerHost) -> None:
        """As Transport.introduce."""
        if sender.raft_id not in self._known_ids:
            self._introduced[sender.raft_id] = self.peers[sender.raft_id] = sender.name

    def _send(self, messages: Sequence[Message]) -> None:
        by_peer: dict[int, list[Message]] = {}
        for message in messages:
            by_peer.setdefault(message.to, []).append(message)
        for raft_id, batch in by_peer.items():
            self._to_peer(raft_id, lambda host, b=batch: host.raft_received(self, b))

    def raft_received(self, sender: ManagerHost, batch: list[Message]) -> None:
        """As RaftApi.Stream: a removed member is told so."""
        if self.core is None:
            return
        refused = admission.refusal(
            self.core.store, sender.raft_id, sender.name, sender.incarnation
        )
        if refused:
            epoch = sender.epoch
            self.cluster.network.datagram(
                self.name, sender.name, lambda: sender.refused(epoch, refused)
            )
            return
        self._introduce(sender)
        if batch:
            self.submit(ev.Received(batch))

    @property
    def incarnation(self) -> int:
        """Of the cluster, as far as this manager knows."""
        cluster = self.core.store.cluster() if self.core is not None else None
        return cluster.incarnation if cluster is not None else 0

    def introduce_itself(self) -> None:
        """As a transport's streams do when they open, which they try again and again."""
        for raft_id in list(self.peers):
            self._to_peer(raft_id, lambda host: host.raft_received(self, []))

    def refused(self, epoch: int, reason: str) -> None:
        if epoch == self.epoch and not self._paused:
            self._stopped(epoch, f"refused: {reason}")

    def _to_peer(self, raft_id: int, arrive: Callable[[ManagerHost], None]) -> None:
        """By address: whatever manager runs there gets it."""
        name = self.peers.get(raft_id)
        if name is None:
            return
        target = self.cluster.machines[name]
        if target.manager is None or not target.manager.running:
            self._note_unreachable(raft_id)
            return

        def deliver() -> None:
            if target.manager is not None and target.manager.running:
                arrive(target.manager)

        self.cluster.network.datagram(self.name, name, deliver)

    def _note_unreachable(self, raft_id: int) -> None:
        now = self.cluster.loop.now
        if now - self._unreachable_at.get(raft_id, -1.0) >= _UNREACHABLE_S:
            self._unreachable_at[raft_id] = now
            self._later(0.002, ev.PeerUnreachable(raft_id))

    def _later(self, delay: float, event: ev.Event) -> None:
        epoch = self.epoch

        def hand_in() -> None:
            if epoch == self.epoch:
                self.submit(event)

        self.cluster.loop.after(delay, hand_in)

    # Snapshots

    def _save_snapshot(self, effect: fx.SaveSnapshot) -> None:
        def saved(ok: bool) -> None:
            failed = ev.SnapshotFailed("no space")
            self.submit(ev.SnapshotSaved(effect.index) if ok else failed)

        pieces = list(effect.image.serialised())
        self.disk.save_snapshot(effect.index, effect.term, effect.conf_state, pieces, saved)

    def _send_snapshot(self, message: Message) -> None:
        """Always ends in SnapshotSent, ok or not."""
        name = self.peers.get(message.to)
        chunks = self.disk.read_snapshot(message.snapshot.index)
        if name is None or chunks is None:
            self._later(0.001, ev.SnapshotSent(message.to, False))
            return
        outcome = Signal(self.cluster.loop)
        epoch, target = self.epoch, self.cluster.machines[name]
        sending_s = self.cluster.scenario.snapshot_piece_s * len(chunks)
        checksum = functools.reduce(lambda sum_, chunk: zlib.crc32(chunk, sum_), chunks, 0)

        def arrive() -> None:
            if target.manager is not None and target.manager.responsive:
                target.manager.receive_snapshot(message, chunks, checksum, lambda: answer(True))
            else:
                answer(False)

        def answer(ok: bool) -> None:
            self.cluster.network.datagram(name, self.name, lambda: outcome.set(ok))

        def sent(ok: bool) -> None:
            if epoch == self.epoch:
                self.submit(ev.SnapshotSent(message.to, ok))

        self.cluster.loop.after(sending_s, self.cluster.network.datagram, self.name, name, arrive)
        self.cluster.loop.after(_SNAPSHOT_PATIENCE_S, outcome.set, False)
        outcome.when_set(lambda: sent(bool(outcome.value)))

    def receive_snapshot(
        self,
        message: Message,
        chunks: Sequence[bytes],
        checksum: int | None,
        done: Callable[[], None],
    ) -> None:
        """Durable first, then handed over with what was read."""

        def durable(store: Store) -> None:
            copy = Message()
            copy.CopyFrom(message)
            self.submit(ev.SnapshotReceived(copy, store))
            done()

        self.disk.receive_snapshot(message.snapshot, chunks, checksum, durable)

    # Agents

    def open_session(self, stream: AgentStream, session_id: str, node_id: str) -> None:
        self._sessions[session_id] = stream
        self.submit(ev.SessionOpened(session_id, node_id))

    def session_message(self, session_id: str, message: AgentMessage) -> None:
        if session_id in self._sessions:
            self.submit(ev.SessionMessage(session_id, message))

    def session_closed(self, session_id: str) -> None:
        if self._sessions.pop(session_id, None) is not None:
            self.submit(ev.SessionClosed(session_id))

    def _session_send(self, session_id: str, message: ManagerMessage) -> None:
        stream = self._sessions.get(session_id)
        if stream is not None:
            stream.to_agent(message)

    # What the API's methods use: see `api`

    def promise(self, make_event: Callable[[int], ev.Event]) -> Signal:
        """Submit an event with a token; the signal gets its answer, or never anything."""
        self._token += 1
        promise = self._promises[self._token] = Signal(self.cluster.loop)
        self.submit(make_event(self._token))
        return promise

    @property
    def role_change(self) -> Signal:
        return self._role_changed

    def run(self, process: Process) -> Running:
        """A process that dies with this manager."""
        epoch = self.epoch
        return spawn(self.cluster.loop, process, lambda: epoch == self.epoch)

    def now_ns(self) -> int:
        return self.machine.clock.unix_ns(self.cluster.loop.now)
