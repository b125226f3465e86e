"""What a manager does only while it leads: the brain, and who joins the group.

It begins when the first entry of its own term is applied, from the store alone, and ends
without a trace: whatever is worth keeping is in the store.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.api.v1.managers_pb2 import RelayBatch
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, Member
from swarm.api.v1.raft_pb2 import CONF_CHANGE_ADD_LEARNER_NODE, ConfChange, ConfChangeSingle
from swarm.api.v1.store_pb2 import Change, LogPayload, MemberChange, TaskStatusChange, Transaction
from swarm.manager.core.brain import Brain, BrainOutput
from swarm.manager.core.consensus import AppliedEntry, Consensus
from swarm.manager.core.dispatcher.reports import supersedes
from swarm.manager.core.effects import Effect, JoinAnswer, Notice
from swarm.manager.core.events import JoinRaft
from swarm.manager.core.membership.decide import ProposeConfChange
from swarm.manager.core.proposer import NOBODY, Proposer
from swarm.manager.core.store import Ids, StoreChange

_STATUSES_TOGETHER = 200


@dataclass(slots=True)
class _Piece:
    """One of the brain's proposals. `index`: 0 until it is in the log."""

    transactions: Sequence[Transaction]
    index: int = 0


@dataclass(slots=True)
class Leadership:
    consensus: Consensus
    ids: Ids
    now: float
    term: int = field(init=False)
    _brain: Brain = field(init=False)
    _changes: list[StoreChange] = field(init=False, default_factory=list[StoreChange])
    _pieces: deque[_Piece] = field(init=False, default_factory=deque[_Piece])
    # Who waits for the entry that adds this raft id.
    _joining: dict[int, int] = field(init=False, default_factory=dict[int, int])
    _wake_at: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.term = self.consensus.term
        self._brain = Brain(self.ids, self.consensus.node.status)
        self._brain.start(self.consensus.store, self.term, self.now)
        self._wake_at = self.now

    def late(self, seconds: float) -> None:
        """This manager's loop woke up late: silence meanwhile was its own."""
        self._brain.late(seconds)

    def told(self, batch: RelayBatch, now: float, proposer: Proposer) -> None:
        """What agents said, to this manager or to another one."""
        for heard in batch.nodes:
            self._brain.heard(heard, now)
        if batch.nodes and self._brain.liveness.has_news:
            self._wake_at = now
        store = self.consensus.store
        changes = [
            Change(task_status=TaskStatusChange(task_id=update.task_id, status=update.status))
            for update in batch.statuses
            if (task := store.task(update.task_id)) is not None
            and not supersedes(task, update.status)
        ]
        # Independent of each other: an entry takes as many of them as are quickly applied.
        for start in range(0, len(changes), _STATUSES_TOGETHER):
            together = changes[start : start + _STATUSES_TOGETHER]
            proposer.add(NOBODY, Transaction(who="agents", changes=together))

    def join(self, event: JoinRaft, now_ns: int, out: list[Effect]) -> None:
        """Add the node as a learner under a fresh raft id; answered when that is applied."""
        node = self.consensus.store.node(event.node_id)
        refused = None
        if node is None:
            refused = "this node is not in the swarm"
        elif node.role != NODE_ROLE_MANAGER or node.spec.role != NODE_ROLE_MANAGER:
            refused = "this node is not a manager: promote it first with `swarmctl node promote`"
        else:
            refused = self.consensus.propose_conf_change(_add_learner(event, now_ns))
        if refused is not None:
            out.append(JoinAnswer(event.token, 0, refused))
        else:
            self._joining[event.raft_id] = event.token

    def applied(self, entry: AppliedEntry, out: list[Effect]) -> None:
        """An entry took effect, perhaps one of the brain's."""
        if self._pieces and self._pieces[0].index == entry.index:
            piece = self._pieces.popleft()
            self._brain.settled(piece.transactions, entry.verdicts, self.consensus.store)
            self._wake_at = self._wake_at if self._pieces else float("-inf")
        if entry.conf_change is not None:
            self._brain.membership_settled()
            for single in entry.conf_change.changes:
                token = self._joining.pop(single.node_id, None)
                if token is not None:
                    out.append(JoinAnswer(token, single.node_id))
        self._changes.extend(entry.changes)

    def think(self, now: float, now_ns: int, out: list[Effect]) -> None:
        """Let the brain see what changed, or that its time has come."""
        due = self._wake_at is not None and now >= self._wake_at
        if not self._changes and not due:
            return
        changes, self._changes = self._changes, []
        output = self._brain.handle(changes, self.consensus.store, now, now_ns)
        self._wake_at = output.next_wakeup
        self._pieces.extend(_Piece(transactions) for transactions in output.proposals)
        out.extend(Notice(text) for text in output.notices)
        self._perform_membership(output, out)

    def has_more(self, now: float) -> bool:
        """Does the brain want another turn at once?"""
        return self._wake_at is not None and self._wake_at <= now

    def propose(self, now_ns: int) -> bool:
        """Put the brain's pieces into the log, bound to this term. True when one went in."""
        proposed = False
        for piece in self._pieces:
            if piece.index:
                continue
            payload = LogPayload(
                proposed_at_ns=now_ns, only_in_term=self.term, transactions=piece.transactions
            )
            index = self.consensus.propose(payload.SerializeToString())
            if index is None:
                break
            piece.index = index
            proposed = True
        return proposed

    def end(self, out: list[Effect]) -> None:
        """Leadership is lost: whoever waits asks the next leader."""
        out.extend(
            JoinAnswer(token, 0, "leadership changed; try again")
            for token in self._joining.values()
        )

    def _perform_membership(self, output: BrainOutput, out: list[Effect]) -> None:
        decision = output.membership
        if decision is None:
            return
        out.append(Notice(decision.reason))
        if isinstance(decision, ProposeConfChange):
            refused = self.consensus.propose_conf_change(decision.conf_change)
            if refused is not None:
                self._brain.membership_settled()
        else:
            self.consensus.node.transfer_leader(decision.to)


def _add_learner(event: JoinRaft, now_ns: int) -> ConfChange:
    member = Member(
        id=str(event.raft_id),
        raft_id=event.raft_id,
        node_id=event.node_id,
        address=event.address,
        join_address=event.join_address,
        learner=True,
    )
    return ConfChange(
        changes=[ConfChangeSingle(type=CONF_CHANGE_ADD_LEARNER_NODE, node_id=event.raft_id)],
        context=MemberChange(member=member, proposed_at_ns=now_ns).SerializeToString(),
    )
