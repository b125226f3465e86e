"""The driver of a Ready: what is durable before what is sent, what is applied before what is
answered.

Most bugs that Raft libraries met in the field sat here, between the algorithm and the disk,
so this is a state machine as well: the shell and the simulator perform the same effects.

The order of work (etcd/raft's contract, `swarm.manager.core.raft`):

1. `messages` go out at once, beside the disk write: followers append while the leader does.
2. A `Persist` is one append to the log; the shell performs them in order, and may let several
   share one fsync.
3. What depends on it (`messages_after_append`: votes, acknowledgements) goes out only after.
4. Committed entries are applied to the store, and only then answered.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.api.v1.raft_pb2 import (
    ENTRY_CONF_CHANGE,
    MSG_SNAP,
    ConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)
from swarm.api.v1.store_pb2 import LogPayload, Verdict
from swarm.manager.core.effects import (
    Again,
    Changed,
    CompactLog,
    Effect,
    MembersChanged,
    Persist,
    ReadReady,
    RoleChanged,
    SaveSnapshot,
    Send,
    SendSnapshot,
    Stop,
)
from swarm.manager.core.raft import (
    Config,
    MemoryStorage,
    ProposalDropped,
    RawNode,
    Ready,
    Role,
    StepLocalMessage,
    StepPeerNotFound,
)
from swarm.manager.core.raft.config import Rng
from swarm.manager.core.reads import Reads
from swarm.manager.core.store import Store, StoreChange, StoreImage

# Readys performed in one go: the loop's other events must have their turn (DESIGN, the
# loop's budget).
_READYS_PER_TURN = 4
# After so many changes of rows a turn takes no more Readys: a change takes 20 µs or so.
_CHANGES_PER_TURN = 200
# Bytes of committed entries in one Ready: what is applied in one go.
_APPLY_BYTES = 64 << 10
_UNCOMMITTED_BYTES_MAX = 64 << 20
_SNAPSHOT_INTERVAL = 10_000
# A member that is heard of keeps what it lacks of the log, also behind a snapshot that is on its
# way to it, for so many snapshots more: else it would need the next one, and so on.
_KEPT_INTERVALS_MAX = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """Ticks are the shell's, a tenth of a second each."""

    heartbeat_ticks: int = 1
    # Drawn from [election_ticks, 2 * election_ticks - 1].
    election_ticks: int = 7
    # Entries kept below a snapshot, so that a follower a little behind needs no snapshot.
    kept_entries: int = 500
    # Of entries in one message to a peer; one entry always goes.
    message_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class AppliedEntry:
    """An entry that took effect here, in log order."""

    index: int
    term: int
    verdicts: Sequence[Verdict]
    changes: Sequence[StoreChange]
    conf_change: ConfChange | None = None


@dataclass(slots=True)
class _Unpersisted:
    ready: Ready
    issued_at: float


@dataclass(slots=True)
class Consensus:
    """One manager's Raft node with its store.

    `storage` and `store` are what the shell read from disk: a store at the newest snapshot,
    and the log above it.
    """

    raft_id: int
    storage: MemoryStorage
    store: Store
    rng: Rng
    nonce: bytes
    timing: Timing = field(default_factory=Timing)
    node: RawNode = field(init=False)
    leader: int = field(init=False, default=0)
    role: Role = field(init=False, default=Role.FOLLOWER)
    conf_state: ConfState = field(init=False)
    applied_index: int = field(init=False)
    applied_term: int = field(init=False)
    _reads: Reads = field(init=False)
    _unpersisted: deque[_Unpersisted] = field(init=False)
    _received: dict[tuple[int, int], Store] = field(init=False)
    _snapshot_index: int = field(init=False)
    _saving_snapshot: bool = field(init=False, default=False)
    _saved_conf_state: ConfState = field(init=False)
    _hung: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        snapshot = self.storage.snapshot()
        self.conf_state = self._saved_conf_state = snapshot.conf_state
        self.applied_index = self._snapshot_index = snapshot.index
        self.applied_term = snapshot.term
        self._reads = Reads(self.nonce)
        self._unpersisted = deque()
        self._received = {}
        self.node = RawNode(
            Config(
                id=self.raft_id,
                storage=self.storage,
                rng=self.rng,
                election_tick=self.timing.election_ticks,
                heartbeat_tick=self.timing.heartbeat_ticks,
                applied=snapshot.index,
                async_storage_writes=True,
                max_size_per_msg=self.timing.message_bytes,
                max_committed_size_per_ready=_APPLY_BYTES,
                max_uncommitted_size=_UNCOMMITTED_BYTES_MAX,
                check_quorum=True,
                pre_vote=True,
                disable_proposal_forwarding=True,
                step_down_on_removal=True,
            )
        )
        if list(self.conf_state.voters) == [self.raft_id] and not self.conf_state.voters_outgoing:
            # Nobody else could lead, so there is no leader to wait for.
            self.node.campaign()

    # What happens

    def tick(self, now: float, tick_s: float) -> None:
        self._reads.tick()
        self.node.tick()
        self._hand_over_if_disk_hangs(now, tick_s)

    def received(self, messages: Sequence[Message]) -> None:
        """Messages go by address. One to a raft id that this node had in an earlier life is not
        for this one: it speaks of another log."""
        for message in messages:
            if message.to == self.raft_id:
                self._step(message)

    def received_snapshot(self, message: Message, store: Store) -> None:
        """`store` holds the tables of the snapshot that `message` announces."""
        key = (message.snapshot.index, message.snapshot.term)
        self._received[key] = store
        self._step(message)

    def persisted(self, number: int, out: list[Effect]) -> None:
        """All up to `number` are durable, and with them those behind that need no sync."""
        while self._unpersisted:
            ready = self._unpersisted[0].ready
            if ready.number > number and ready.must_sync:
                break
            self._unpersisted.popleft()
            self._is_durable(ready, out)

    def snapshot_saved(self, index: int, out: list[Effect]) -> None:
        """The log below a saved snapshot goes, but for a rest that slow followers need."""
        self._saving_snapshot = False
        if index <= self.storage.snapshot().index:
            return  # a newer one came from a leader meanwhile
        self.storage.create_snapshot(index, self._saved_conf_state)
        kept_from = min(index - self.timing.kept_entries, self._lacking_above(index))
        compact_to = max(kept_from, self.storage.first_index() - 1)
        if compact_to >= self.storage.first_index():
            self.storage.compact(compact_to)
        out.append(CompactLog(compact_to))

    def _lacking_above(self, index: int) -> int:
        """Members that are heard of, and can still be served from the log, lack what is above."""
        peers = [p for p in self.node.status().progress.values() if p.recent_active]
        known = [max(p.match, p.pending_snapshot) for p in peers]
        lacking = [at for at in known if at + 1 >= self.storage.first_index()]
        furthest = index - _KEPT_INTERVALS_MAX * self._snapshot_interval()
        return max(min(lacking, default=index), furthest)

    def snapshot_failed(self) -> None:
        """The log keeps what it has; the next snapshot is due an interval later."""
        self._saving_snapshot = False

    def read(self, token: int) -> None:
        self._reads.add(token)

    def propose(self, data: bytes) -> int | None:
        """The index that the entry gets, or None where it can't be proposed now."""
        try:
            return self.node.propose(data) or None
        except ProposalDropped:
            return None

    def propose_conf_change(self, change: ConfChange) -> str | None:
        """Why it was not proposed, in a line, or None when it was."""
        obstacle = self.node.conf_change_obstacle(change)
        if obstacle is None:
            try:
                self.node.propose_conf_change(change)
            except ProposalDropped as dropped:
                return str(dropped)
        return obstacle

    @property
    def leading(self) -> bool:
        return self.role is Role.LEADER

    @property
    def leads_and_knows(self) -> bool:
        """Leading, with every entry of earlier terms applied: this store is the newest."""
        return self.leading and self.applied_term == self.term

    @property
    def term(self) -> int:
        return self.node.raft.term

    # What follows

    def drain(self, now: float, out: list[Effect]) -> list[AppliedEntry]:
        """Perform the Readys that wait, a bounded number of them."""
        applied: list[AppliedEntry] = []
        self._ask_reads()
        for _ in range(_READYS_PER_TURN):
            if not self.node.has_ready():
                break
            self._perform(self.node.ready(), now, out, applied)
            if sum(len(entry.changes) for entry in applied) > _CHANGES_PER_TURN:
                break
        if self.node.has_ready():
            out.append(Again())
        out.extend(ReadReady(token) for token in self._reads.ready(self.applied_index))
        self._take_snapshot_if_due(out)
        return applied

    def _perform(
        self, ready: Ready, now: float, out: list[Effect], applied: list[AppliedEntry]
    ) -> None:
        self._note_roles(ready, out)
        self._send(ready.messages, out)
        self._write(ready, now, out)
        for state in ready.read_states:
            self._reads.confirmed(state.request_ctx, state.index)
        if ready.snapshot is not None:
            self._restore(ready.snapshot, out)
        if ready.committed_entries:
            applied += [self._apply(entry, out) for entry in ready.committed_entries]
            self.node.applied(self.applied_index)

    def _note_roles(self, ready: Ready, out: list[Effect]) -> None:
        if ready.soft_state is None:
            return
        if ready.soft_state.lead != self.leader:
            self._reads.lost_leader()
        self.leader, self.role = ready.soft_state.lead, ready.soft_state.role
        out.append(RoleChanged(self.term, self.leader, self.leading))

    def _write(self, ready: Ready, now: float, out: list[Effect]) -> None:
        if ready.snapshot is not None:
            self.storage.apply_snapshot(ready.snapshot)
        if ready.entries:
            self.storage.append(ready.entries)
        if ready.hard_state is not None:
            self.storage.set_hard_state(ready.hard_state)
        anything = ready.entries or ready.hard_state is not None or ready.snapshot is not None
        if anything:
            out.append(
                Persist(
                    ready.number,
                    ready.snapshot,
                    ready.entries,
                    ready.hard_state,
                    ready.must_sync,
                )
            )
        if not ready.must_sync and not self._unpersisted:
            # A commit index alone may be lost: nothing depends on it.
            self._is_durable(ready, out)
        else:
            self._unpersisted.append(_Unpersisted(ready, now))

    def _is_durable(self, ready: Ready, out: list[Effect]) -> None:
        self._send(ready.messages_after_append, out)
        self.node.persisted(ready)

    def _send(self, messages: Sequence[Message], out: list[Effect]) -> None:
        plain = [m for m in messages if m.type != MSG_SNAP]
        if plain:
            out.append(Send(plain))
        out.extend(SendSnapshot(m) for m in messages if m.type == MSG_SNAP)

    def _apply(self, entry: Entry, out: list[Effect]) -> AppliedEntry:
        self.applied_index, self.applied_term = entry.index, entry.term
        if entry.type == ENTRY_CONF_CHANGE:
            return self._apply_conf_change(entry, out)
        if not entry.data:
            return AppliedEntry(entry.index, entry.term, (), ())
        payload = LogPayload.FromString(entry.data)
        result = self.store.apply(entry.index, entry.term, payload)
        if result.changes:
            out.append(Changed(result.changes, self.store))
        return AppliedEntry(entry.index, entry.term, result.verdicts, result.changes)

    def _apply_conf_change(self, entry: Entry, out: list[Effect]) -> AppliedEntry:
        change = ConfChange.FromString(entry.data)
        self.conf_state = self.node.apply_conf_change(change)
        result = self.store.apply_member_change(entry.index, change, self.conf_state)
        if result.changes:
            out.append(Changed(result.changes, self.store))
        out.append(MembersChanged(list(self.store.members())))
        me = self.store.member(self.raft_id)
        if me is not None and me.removed:
            out.append(Stop("this manager was removed from the Raft group"))
        return AppliedEntry(entry.index, entry.term, result.verdicts, result.changes, change)

    def _restore(self, snapshot: Snapshot, out: list[Effect]) -> None:
        """Swap the tables for those that came with the snapshot."""
        store = self._received.pop((snapshot.index, snapshot.term))
        self._received.clear()
        self.store = store
        self.conf_state = snapshot.conf_state
        self.applied_index = self._snapshot_index = snapshot.index
        self.applied_term = snapshot.term
        self.node.applied(snapshot.index)
        out.append(Changed((), store, replaced=True))
        out.append(MembersChanged(list(store.members())))

    def _take_snapshot_if_due(self, out: list[Effect]) -> None:
        if self._saving_snapshot:
            return
        if self.applied_index - self._snapshot_index < self._snapshot_interval():
            return
        self._saving_snapshot = True
        self._snapshot_index = self.applied_index
        self._saved_conf_state = self.conf_state
        cluster = self.store.cluster()
        older = cluster.spec.max_snapshots if cluster is not None else 0
        index, term = self.applied_index, self.applied_term
        out.append(SaveSnapshot(index, term, self.conf_state, self.image(), older))

    def image(self) -> StoreImage:
        """The store now, with its place in the log."""
        return self.store.snapshot(self.applied_index, self.applied_term, self.conf_state)

    def _snapshot_interval(self) -> int:
        cluster = self.store.cluster()
        return (cluster.spec.snapshot_interval if cluster is not None else 0) or _SNAPSHOT_INTERVAL

    def _ask_reads(self) -> None:
        if self.leader == 0:
            return
        while (context := self._reads.next_context()) is not None:
            self.node.read_index(context)

    def _step(self, message: Message) -> None:
        try:
            self.node.step(message)
        except (ProposalDropped, StepLocalMessage, StepPeerNotFound):
            # From a peer that is not a member any more, or a local message off the wire. Not
            # RaftCorrupt: who lost a part of its log must not go on.
            pass

    def _hand_over_if_disk_hangs(self, now: float, tick_s: float) -> None:
        """A leader whose append hangs still sends heartbeats, and would block the cluster for
        ever (hashicorp/raft#503): its followers have the log, so one of them leads on."""
        limit = self.timing.election_ticks * tick_s
        self._hung = bool(self._unpersisted) and now - self._unpersisted[0].issued_at > limit
        if self._hung and self.leading:
            self.hand_over()

    def hand_over(self) -> None:
        """Ask the member that has most of the log, and was heard of, to lead."""
        status = self.node.status()
        candidates = [
            (peer.match, raft_id)
            for raft_id, peer in status.progress.items()
            if raft_id != self.raft_id and peer.recent_active and not peer.is_learner
        ]
        if candidates and not status.lead_transferee:
            self.node.transfer_leader(max(candidates)[1])


def storage_from(
    snapshot: Snapshot | None, hard_state: HardState, entries: Sequence[Entry]
) -> MemoryStorage:
    """The log as it was read from disk."""
    storage = MemoryStorage()
    if snapshot is not None:
        storage.apply_snapshot(snapshot)
    storage.set_hard_state(hard_state)
    storage.append(entries)
    return storage
