"""A manager as one state machine: Raft, the store, the proposer, sessions, and while it leads
the brain. `handle(event, now, now_ns) -> [effect]`; the shell and the simulator perform the
same effects.

One turn goes one way round: the event, then Raft's Readys (`consensus`), then what follows from
what was applied (answers, sessions, the brain), then what is to be proposed, then Raft once
more to send that off.
"""

from collections.abc import Callable, Sequence
from typing import Any

from swarm.api.v1.dispatcher_pb2 import ManagerMessage, SessionHello, StatusAck
from swarm.api.v1.node_pb2 import NODE_STATE_READY
from swarm.api.v1.store_pb2 import TABLE_NODE, TABLE_TASK
from swarm.manager.core import effects as fx
from swarm.manager.core import events as ev
from swarm.manager.core.consensus import AppliedEntry, Consensus, Timing
from swarm.manager.core.dispatcher.sessions import Sessions
from swarm.manager.core.leadership import Leadership
from swarm.manager.core.outgoing import Outgoing
from swarm.manager.core.proposer import Proposer
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.raft.config import Rng
from swarm.manager.core.store import Ids, Store, StoreChange

TICK_S = 0.1
# Relays and statuses wait this long for company.
_FLUSH_S = 0.05
# Rounds of Raft, follow-ups and proposals in one turn.
_ROUNDS_MAX = 4


class ManagerCore:
    """`storage` and `store` are what the disk held; `nonce` is eight random bytes."""

    def __init__(
        self,
        *,
        raft_id: int,
        storage: MemoryStorage,
        store: Store,
        rng: Rng,
        ids: Ids,
        nonce: bytes,
        timing: Timing | None = None,
    ) -> None:
        self.raft_id = raft_id
        self.consensus = Consensus(raft_id, storage, store, rng, nonce, timing or Timing())
        self.sessions = Sessions()
        self._followed = store
        # Streams by session, from before their hello on.
        self._nodes: dict[str, str] = {}
        self._ids = ids
        self._proposer = Proposer()
        self._leadership: Leadership | None = None
        self._outgoing = Outgoing()
        self._flush_at = 0.0
        self._leaderless_since: float | None = None
        self._ticked_at: float | None = None
        self._enough_room = True
        self._resigning = False
        self._said_superseded = False
        self._known_leader = (0, 0)
        self._handlers: dict[type[Any], Callable[[Any, float, int, list[fx.Effect]], None]] = {
            ev.Tick: self._tick,
            ev.Resume: self._resume,
            ev.Received: self._received,
            ev.Persisted: self._persisted,
            ev.SnapshotSaved: self._snapshot_saved,
            ev.SnapshotFailed: self._snapshot_failed,
            ev.SnapshotReceived: self._snapshot_received,
            ev.SnapshotSent: self._snapshot_sent,
            ev.PeerUnreachable: self._peer_unreachable,
            ev.Propose: self._propose,
            ev.Read: self._read,
            ev.JoinRaft: self._join_raft,
            ev.Resign: self._resign,
            ev.RoomOnDisk: self._room_on_disk,
            ev.SessionOpened: self._session_opened,
            ev.SessionMessage: self._session_message,
            ev.SessionClosed: self._session_closed,
            ev.Relayed: self._relayed,
        }

    @property
    def store(self) -> Store:
        return self.consensus.store

    @property
    def leader(self) -> int:
        """Raft id of the leader as far as this manager knows; 0 for none."""
        return self.consensus.leader

    @property
    def leading(self) -> bool:
        return self.consensus.leading

    @property
    def leads_and_knows(self) -> bool:
        """Leading, with all that earlier leaders committed applied here."""
        return self.consensus.leads_and_knows

    def is_up(self, node_id: str) -> bool:
        node = self.store.node(node_id)
        return node is not None and node.status.state == NODE_STATE_READY

    def reachable_members(self) -> frozenset[int] | None:
        """Members heard of lately; only the leader knows, others say None."""
        if not self.leading:
            return None
        progress = self.consensus.node.status().progress
        return frozenset(
            raft_id
            for raft_id, peer in progress.items()
            if raft_id == self.raft_id or peer.recent_active
        )

    def handle(self, event: ev.Event, now: float, now_ns: int) -> list[fx.Effect]:
        """Take one event; what is returned is to be performed in order."""
        return self.handle_all((event,), now, now_ns)

    def handle_all(self, events: Sequence[ev.Event], now: float, now_ns: int) -> list[fx.Effect]:
        """Take events that came together, in order: one Ready, one batch to each peer and one
        append to the log for all of them."""
        out: list[fx.Effect] = []
        for event in events:
            self._handlers[type(event)](event, now, now_ns, out)
        for _ in range(_ROUNDS_MAX):
            entries = self.consensus.drain(now, out)
            if self.store is not self._followed:
                self._followed = self.store
                self.sessions.restored(self.store, now)
                self._outgoing.restored(self.store)
            for entry in entries:
                self._follow(entry, now, out)
            self._tell_leader(now, out)
            self._follow_leadership(now, now_ns, out)
            if not self._propose_what_waits(now, now_ns, out):
                break
        self._flush_sessions(now, out)
        if self._leadership is not None and self._leadership.has_more(now):
            out.append(fx.Again())
        return out

    # Raft

    def _tick(self, event: ev.Tick, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        self.consensus.tick(now, TICK_S)
        if self._leadership is not None and self._ticked_at is not None:
            late_s = now - self._ticked_at - TICK_S
            # Every tick is a little late. Only one that another should have followed counts:
            # otherwise all those moments add up to the deadlines of nodes that are gone.
            if late_s > TICK_S:
                self._leadership.late(late_s)
        self._ticked_at = now
        self._close_sessions_without_leader(now, out)
        if self._resigning and self.leading:
            self.consensus.hand_over()

    def _resume(self, event: ev.Resume, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        """Nothing of its own: the turn goes on with what waits."""

    def _received(self, event: ev.Received, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        self.consensus.received(event.messages)

    def _persisted(
        self, event: ev.Persisted, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        self.consensus.persisted(event.number, out)

    def _snapshot_saved(
        self, event: ev.SnapshotSaved, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        self.consensus.snapshot_saved(event.index, out)

    def _snapshot_failed(
        self, event: ev.SnapshotFailed, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        out.append(fx.Notice(event.reason))
        self.consensus.snapshot_failed()

    def _snapshot_received(
        self, event: ev.SnapshotReceived, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        self.consensus.received_snapshot(event.message, event.store)

    def _snapshot_sent(
        self, event: ev.SnapshotSent, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        self.consensus.node.report_snapshot(event.raft_id, event.ok)

    def _peer_unreachable(
        self, event: ev.PeerUnreachable, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        self.consensus.node.report_unreachable(event.raft_id)

    def _resign(self, event: ev.Resign, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        self._resigning = True
        if self.leading:
            self.consensus.hand_over()

    def _room_on_disk(
        self, event: ev.RoomOnDisk, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        """Without room for another log segment, writes are refused before an append can fail,
        and somebody with room leads."""
        self._enough_room = event.enough
        if not event.enough:
            out.append(fx.Notice("no space for Raft's log on this disk: free some"))
            if self.leading:
                self.consensus.hand_over()

    # Users

    def _propose(self, event: ev.Propose, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        refused = ""
        if not self.leads_and_knows:
            refused = "this manager does not lead"
        elif not self._enough_room:
            refused = "no space for Raft's log on the leader's disk: free some"
        elif not self._proposer.add(event.token, event.transaction):
            refused = "too many changes wait on the leader; try again in a moment"
        if refused:
            out.append(fx.Answer(event.token, None, refused))

    def _read(self, event: ev.Read, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        self.consensus.read(event.token)

    def _join_raft(self, event: ev.JoinRaft, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        if self._leadership is None:
            out.append(fx.JoinAnswer(event.token, 0, "this manager does not lead"))
        else:
            self._leadership.join(event, now_ns, out)

    # Agents

    def _session_opened(
        self, event: ev.SessionOpened, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        self._nodes[event.session_id] = event.node_id

    def _session_message(
        self, event: ev.SessionMessage, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        node_id = self._nodes.get(event.session_id)
        if node_id is None:
            return
        message = event.message
        match message.WhichOneof("kind"):
            case "hello":
                hello = message.hello
                if self._is_superseded(hello, out):
                    self._close_session(event.session_id, "the swarm was made anew", out)
                    return
                self._outgoing.heard(node_id, now)
                row = self.store.node(node_id)
                self._outgoing.described(node_id, hello.description, hello.address, row)
                older = self.sessions.opened(event.session_id, node_id, hello, now)
                if older is not None:
                    self._close_session(older, "the agent opened another session", out)
            case "heartbeat":
                self._outgoing.heard(node_id, now)
                out.append(fx.SessionSend(event.session_id, _ALIVE))
            case "description":
                self._outgoing.heard(node_id, now)
                row = self.store.node(node_id)
                self._outgoing.described(node_id, message.description, "", row)
            case "goodbye":
                self._outgoing.heard(node_id, now, goodbye=True)
            case "statuses":
                self._outgoing.heard(node_id, now)
                updates = message.statuses.updates
                reported = self.sessions.reported(event.session_id, updates, self.store, now)
                self._outgoing.statuses(reported.relay)
            case _:
                pass

    def _is_superseded(self, hello: SessionHello, out: list[fx.Effect]) -> bool:
        """Whether the agent has seen a later incarnation than this manager's. One agent's word
        does not end a manager: it is only said, and the agent sent on."""
        cluster = self.store.cluster()
        if cluster is None or hello.incarnation <= cluster.incarnation:
            return False
        if not self._said_superseded:
            self._said_superseded = True
            out.append(
                fx.Notice(
                    "agents have seen a later incarnation of this swarm (init --force-new-cluster "
                    "or cluster restore elsewhere) and take no orders from here: stop these "
                    "managers, `swarmctl leave --force`, and join them to the new swarm"
                )
            )
        return True

    def _session_closed(
        self, event: ev.SessionClosed, now: float, now_ns: int, out: list[fx.Effect]
    ) -> None:
        self._nodes.pop(event.session_id, None)
        self.sessions.closed(event.session_id)

    def _relayed(self, event: ev.Relayed, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        """Dropped where this manager leads no more: its sender tells the new leader again."""
        if self._leadership is not None:
            self._leadership.told(event.batch, now, self._proposer)

    def _close_sessions_without_leader(self, now: float, out: list[fx.Effect]) -> None:
        """Agents of a manager that lost touch look for one that has not."""
        if self.leader:
            self._leaderless_since = None
            return
        if self._leaderless_since is None:
            self._leaderless_since = now
        patience_s = 2 * self.consensus.timing.election_ticks * TICK_S
        if now - self._leaderless_since > patience_s:
            for session_id in list(self._nodes):
                self._close_session(session_id, "this manager has no leader", out)

    def _close_session(self, session_id: str, reason: str, out: list[fx.Effect]) -> None:
        self._nodes.pop(session_id, None)
        self.sessions.closed(session_id)
        out.append(fx.SessionClose(session_id, reason))

    # What follows

    def _follow(self, entry: AppliedEntry, now: float, out: list[fx.Effect]) -> None:
        """An entry was applied: answer, tell sessions, let the brain know."""
        out.extend(self._proposer.applied(entry.index, entry.verdicts))
        if entry.changes:
            self.sessions.changed(entry.changes, self.store, now)
            self._forget_told(entry.changes)
        if self._leadership is not None:
            self._leadership.applied(entry, out)

    def _forget_told(self, changes: Sequence[StoreChange]) -> None:
        for change in changes:
            if change.table == TABLE_TASK:
                row = change.new if change.new is not None else change.old
                assert row is not None
                self._outgoing.stored(row.id, self.store.task(row.id))
            elif change.table == TABLE_NODE:
                row = change.new if change.new is not None else change.old
                assert row is not None
                self._outgoing.node_stored(row.id, self.store.node(row.id))

    def _follow_leadership(self, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        self._note_leader(out)
        if self._leadership is None:
            if self.leads_and_knows:
                self._leadership = Leadership(self.consensus, self._ids, now)
        elif not self.leading or self._leadership.term != self.consensus.term:
            self._leadership.end(out)
            self._leadership = None
            out.extend(self._proposer.lost_leadership())
        else:
            self._leadership.think(now, now_ns, out)

    def _note_leader(self, out: list[fx.Effect]) -> None:
        known = (self.consensus.term, self.leader)
        if known != self._known_leader:
            self._known_leader = known
            self._outgoing.leader_changed()
            if self.leading:
                self._resigning = False
            if not self.leading and self._leadership is None:
                out.extend(self._proposer.lost_leadership())

    def _propose_what_waits(self, now: float, now_ns: int, out: list[fx.Effect]) -> bool:
        """Put what waits into log entries; True when Raft has something to do."""
        proposed = False
        if not self.leads_and_knows:
            return proposed
        while self._proposer.wants_to_propose:
            payload, tokens = self._proposer.next_batch(now_ns)
            index = self.consensus.propose(payload.SerializeToString())
            if index is None:
                self._proposer.put_back(payload, tokens)
                break
            self._proposer.proposed(index, tokens)
            proposed = True
        if self._leadership is not None:
            proposed |= self._leadership.propose(now_ns)
        return proposed

    def _flush_sessions(self, now: float, out: list[fx.Effect]) -> None:
        flush = self.sessions.flush(self.store, now)
        out.extend(fx.SessionSend(session_id, message) for session_id, message in flush.messages)
        for session_id in flush.close:
            self._close_session(session_id, "the node was removed from the swarm", out)

    def _tell_leader(self, now: float, out: list[fx.Effect]) -> None:
        """What agents said goes to the leader in batches: at once where that is this manager."""
        if self._leadership is not None:
            batch = self._outgoing.take(now)
            if batch is not None:
                self._leadership.told(batch, now, self._proposer)
        elif self.leader and not self.leading and now >= self._flush_at:
            batch = self._outgoing.take(now)
            if batch is not None:
                out.append(fx.Relay(self.leader, batch))
                self._flush_at = now + _FLUSH_S


_ALIVE = ManagerMessage(acknowledged=StatusAck())
