"""The face of the core: one object a node, driven by ticks, messages and finished work."""

from __future__ import annotations

from collections import deque

from swarm.api.v1.raft_pb2 import (
    ENTRY_CONF_CHANGE,
    MSG_APP,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_HUP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_SNAP_STATUS,
    MSG_TRANSFER_LEADER,
    MSG_UNREACHABLE,
    MSG_VOTE,
    MSG_VOTE_RESP,
    ConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
)
from swarm.manager.core.raft import status
from swarm.manager.core.raft.config import Config
from swarm.manager.core.raft.election import start_election
from swarm.manager.core.raft.errors import (
    StepLocalMessage,
    StepPeerNotFound,
)
from swarm.manager.core.raft.follower import forget_leader
from swarm.manager.core.raft.leader import peer_unreachable, snapshot_finished
from swarm.manager.core.raft.membership import apply_conf_change, finish_restore
from swarm.manager.core.raft.proposals import conf_change_obstacle, propose_leaving_joint
from swarm.manager.core.raft.raft import NOBODY, Raft
from swarm.manager.core.raft.ready import Ready, Role, SoftState
from swarm.manager.core.raft.step import step, tick

_LOCAL = frozenset({MSG_HUP, MSG_BEAT, MSG_UNREACHABLE, MSG_SNAP_STATUS, MSG_CHECK_QUORUM})
_FROM_ANOTHER = frozenset({MSG_APP, MSG_HEARTBEAT, MSG_SNAP, MSG_VOTE, MSG_PRE_VOTE})
_RESPONSES = frozenset(
    {MSG_APP_RESP, MSG_VOTE_RESP, MSG_HEARTBEAT_RESP, MSG_READ_INDEX_RESP, MSG_PRE_VOTE_RESP}
)


class RawNode:
    """One node. Not for several threads; the package's documentation is the contract."""

    def __init__(self, config: Config) -> None:
        """Start from what `config.storage` holds. Raises ValueError if that cannot be."""
        self.raft = Raft(config)
        self._allow_unstable = not config.async_storage_writes
        self._number = 0
        self._soft_state = self.raft.soft_state()
        self._hard_state = self._current_hard_state()
        # Readys that are not durable yet: number, promises to this node itself.
        self._unwritten: deque[tuple[int, list[Message]]] = deque()

    def tick(self) -> None:
        """One tick has passed."""
        tick(self.raft)

    def campaign(self) -> None:
        """Try to become the leader now. Nothing happens where this node may not."""
        start_election(self.raft)

    def propose(self, data: bytes) -> int:
        """Propose an entry. Returns its index here, 0 when it was forwarded to the leader.

        Raises ProposalDropped. An index is no promise: the entry is committed when it comes out
        in `Ready.committed_entries` with the term that it was proposed in.
        """
        return self._propose(Entry(data=data))

    def propose_conf_change(self, change: ConfChange) -> int:
        """Propose a configuration change, with the same result as `propose`.

        One that cannot be made now takes its place in the log as an empty normal entry; ask
        `conf_change_obstacle` before, to know.
        """
        return self._propose(Entry(type=ENTRY_CONF_CHANGE, data=change.SerializeToString()))

    def conf_change_obstacle(self, change: ConfChange) -> str | None:
        """Why this leader would refuse the change now; None if it would take it."""
        if self.raft.role is not Role.LEADER:
            return "this node does not lead"
        return conf_change_obstacle(self.raft, change)

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """Put a committed change in force, on every node when it applies the entry.

        Raises ValueError if the change is invalid, on all nodes alike; nothing has changed then,
        and the entry counts as applied.
        """
        return apply_conf_change(self.raft, change)

    def step(self, message: Message) -> None:
        """Take a message from a peer.

        Raises StepLocalMessage, StepPeerNotFound or ProposalDropped: the message had no effect.
        RaftCorrupt means that this node's log was damaged, and must end the process.
        """
        if message.type in _LOCAL:
            raise StepLocalMessage(f"message type {message.type} must not come from a peer")
        if message.type in _FROM_ANOTHER and not self._has_sender_and_term(message):
            raise StepLocalMessage(f"message type {message.type} must come from a peer in a term")
        if message.type in _RESPONSES and message.from_ not in self.raft.tracker.progress:
            raise StepPeerNotFound(f"{message.from_} is not in the configuration")
        step(self.raft, message)

    def read_index(self, ctx: bytes) -> None:
        """Ask up to which index a linearizable read must see; the answer is a ReadState.

        `ctx` names the request and comes back; it must be unique. Without a leader, or when
        the leader changes, no answer comes: the caller asks again after a while.
        """
        step(self.raft, Message(type=MSG_READ_INDEX, context=ctx))

    def transfer_leader(self, transferee: int) -> None:
        """Hand leadership to a voter; on a follower, ask the leader to.

        It takes an election timeout at most, or is given up; proposals are dropped meanwhile.
        Handed to the leader itself, one that is under way is given up at once.
        """
        step(
            self.raft,
            Message(type=MSG_TRANSFER_LEADER, from_=transferee, term=self.raft.term),
        )

    def forget_leader(self) -> None:
        """Take the leader for lost, though its lease still runs: vote for whoever asks next.

        For a caller who knows better than the clock, say from a closed connection. Nothing happens
        on a leader or a candidate, and with reads on a lease, where it would not be safe.
        """
        forget_leader(self.raft)

    def report_unreachable(self, peer: int) -> None:
        """Messages to the peer were dropped."""
        if self.raft.role is Role.LEADER:
            peer_unreachable(self.raft, peer)

    def report_snapshot(self, peer: int, ok: bool) -> None:
        """A MSG_SNAP was delivered to the peer, or given up. Until told, nothing is sent there."""
        if self.raft.role is Role.LEADER:
            snapshot_finished(self.raft, peer, delivered=ok)

    def has_ready(self) -> bool:
        """Whether `ready` has something to do."""
        raft = self.raft
        return bool(
            raft.messages
            or raft.messages_after_append
            or raft.read_states
            or raft.log.unstable.has_next_entries()
            or raft.log.unstable.next_snapshot() is not None
            or raft.log.has_next_committed(allow_unstable=self._allow_unstable)
            or self._current_hard_state() != self._hard_state
            or raft.role is not self._soft_state.role
            or raft.lead != self._soft_state.lead
        )

    def ready(self) -> Ready:
        """Take all that is to be done now. It will not be given out again.

        Without async_storage_writes, the Ready before must have been acknowledged.
        """
        assert not self._allow_unstable or not self._unwritten, "the last Ready is under way"
        raft, unstable = self.raft, self.raft.log.unstable
        self._number += 1
        entries = unstable.next_entries()
        ready = Ready(
            number=self._number,
            soft_state=self._changed_soft_state(),
            read_states=raft.read_states,
            entries=entries,
            snapshot=unstable.next_snapshot(),
            committed_entries=raft.log.next_committed(allow_unstable=self._allow_unstable),
            messages=raft.messages,
        )
        raft.read_states, raft.messages = [], []
        self._take_hard_state(ready)
        self._take_promises(ready)
        unstable.hand_out(self._number)
        if ready.snapshot is not None:
            raft.log.accept_snapshot(ready.snapshot.index)
        if ready.committed_entries:
            raft.log.accept_applying(ready.committed_entries, allow_unstable=self._allow_unstable)
        return ready

    def persisted(self, ready: Ready) -> None:
        """The Ready, and with it every earlier one, is durable.

        Only now this node counts its own vote and its own log.
        """
        while self._unwritten and self._unwritten[0][0] <= ready.number:
            _, promises = self._unwritten.popleft()
            for message in promises:
                step(self.raft, message)
        self.raft.log.unstable.written(ready.number)

    def applied(self, index: int) -> None:
        """The state machine has applied everything up to `index`.

        For a snapshot this must be called, with its index, before anything after it comes out.
        """
        raft = self.raft
        settled = raft.log.applied_to(index)
        finish_restore(raft)
        raft.uncommitted_size = max(0, raft.uncommitted_size - settled)
        propose_leaving_joint(raft)

    def advance(self, ready: Ready) -> None:
        """The Ready is durable and applied: `persisted` and `applied` in one."""
        self.persisted(ready)
        index = ready.last_applied_index()
        if index:
            self.applied(index)

    def status(self) -> status.Status:
        """What an observer may know."""
        return status.status(self.raft)

    def basic_status(self) -> status.BasicStatus:
        """The same without configuration and progress."""
        return status.basic_status(self.raft)

    def _has_sender_and_term(self, message: Message) -> bool:
        return message.from_ not in (NOBODY, self.raft.id) and message.term > 0

    def _propose(self, entry: Entry) -> int:
        raft = self.raft
        step(raft, Message(type=MSG_PROP, entries=[entry]))
        return raft.log.last_index() if raft.role is Role.LEADER else 0

    def _current_hard_state(self) -> tuple[int, int, int]:
        return self.raft.term, self.raft.vote, self.raft.log.committed

    def _changed_soft_state(self) -> SoftState | None:
        current = self.raft.soft_state()
        if current == self._soft_state:
            return None
        self._soft_state = current
        return current

    def _take_hard_state(self, ready: Ready) -> None:
        current = self._current_hard_state()
        ready.must_sync = bool(ready.entries) or current[:2] != self._hard_state[:2]
        if current != self._hard_state:
            self._hard_state = current
            term, vote, commit = current
            ready.hard_state = HardState(term=term, vote=vote, commit=commit)

    def _take_promises(self, ready: Ready) -> None:
        own: list[Message] = []
        # One Ready at a time is written before anything is sent, so there one list is enough.
        to_others = ready.messages if self._allow_unstable else ready.messages_after_append
        for message in self.raft.messages_after_append:
            (own if message.to == self.raft.id else to_others).append(message)
        self.raft.messages_after_append = []
        self._unwritten.append((ready.number, own))
