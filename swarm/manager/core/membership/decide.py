"""Wanted roles against Raft's members: the next safe change, one at a time.

Order matters (moby/swarmkit role_manager.go, design/raft.md): a new manager gets its role
first and its vote last; one that is demoted loses its vote first and its role last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER, Member, Node, NodeRole
from swarm.api.v1.raft_pb2 import (
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
)
from swarm.api.v1.store_pb2 import MemberChange
from swarm.manager.core.raft import Status
from swarm.manager.core.store import View

# A learner may vote once it lacks no more entries than this.
CAUGHT_UP_ENTRIES = 100
# A learner that is silent for so long is let go; it joins anew when it comes back.
LEARNER_SILENCE_S = 60.0
# While something is unsettled, look again this often.
LOOK_AGAIN_S = 1.0
# A proposal that nothing was heard of is made again.
REPEAT_S = 10.0
# Activity is counted per election time-out, so a moment without it means nothing.
HELD_BACK_NOTICE_S = 5.0


@dataclass(frozen=True, slots=True)
class ProposeConfChange:
    """To be proposed to Raft; `reason` is for the log."""

    conf_change: ConfChange
    reason: str


@dataclass(frozen=True, slots=True)
class TransferLeadership:
    """This leader is to go, and hands over to the member `to` first."""

    to: int
    reason: str


@dataclass(frozen=True, slots=True)
class SetRole:
    """Node.role is to become `role`: its agent then renews its certificate."""

    node_id: str
    role: NodeRole.ValueType


@dataclass(slots=True)
class Decision:
    roles: list[SetRole] = field(default_factory=list[SetRole])
    raft: ProposeConfChange | TransferLeadership | None = None
    notices: list[str] = field(default_factory=list[str])
    # Seconds, monotonic: when to decide again though nothing changed.
    again_at: float | None = None


class Membership:
    """Only the leader has one; it begins with an empty memory at each start of a term."""

    def __init__(self) -> None:
        # Nodes that are, or shall be, managers.
        self._concerned: dict[str, None] = {}
        self._active_at: dict[int, float] = {}
        self._proposed_at: float | None = None
        self._held_since: dict[int, float] = {}

    def start(self, nodes: Iterable[Node]) -> None:
        """Look at every node once."""
        self.__init__()
        for node in nodes:
            self.node_changed(node.id, node)

    def node_changed(self, node_id: str, node: Node | None) -> bool:
        """Follow the store. True if this node's part in the group may have to change."""
        known = node_id in self._concerned
        concerned = node is not None and NODE_ROLE_MANAGER in (node.role, node.spec.role)
        if concerned:
            self._concerned[node_id] = None
        else:
            self._concerned.pop(node_id, None)
        return known or concerned

    def settled(self) -> None:
        """The proposed change was applied, refused or dropped."""
        self._proposed_at = None

    def decide(self, view: View, status: Status, now: float, now_ns: int) -> Decision:
        """The next step, or none. A change already proposed is waited for."""
        decision = Decision()
        members = [member for member in view.members() if not member.removed]
        self._set_roles(view, members, decision)
        unsettled = self._note_activity(members, status, now)
        if self._proposed_at is not None and now < self._proposed_at + REPEAT_S:
            decision.again_at = self._proposed_at + REPEAT_S
            return decision
        if not status.conf_state.voters_outgoing:
            for act in (self._remove_stale, self._promote, self._demote):
                unsettled = act(view, members, status, now, now_ns, decision) or unsettled
                if decision.raft is not None:
                    self._proposed_at = now
                    break
        if unsettled or decision.raft is not None:
            decision.again_at = now + LOOK_AGAIN_S
        return decision

    def _set_roles(self, view: View, members: Sequence[Member], decision: Decision) -> None:
        in_raft = {member.node_id for member in members}
        for node_id in self._concerned:
            node = view.node(node_id)
            if node is None or node.role == node.spec.role:
                continue
            if node.spec.role == NODE_ROLE_MANAGER:
                decision.roles.append(SetRole(node_id, NODE_ROLE_MANAGER))
            elif node_id not in in_raft:
                decision.roles.append(SetRole(node_id, NODE_ROLE_WORKER))

    def _note_activity(self, members: Sequence[Member], status: Status, now: float) -> bool:
        """When each learner was last active. True while there is one to watch."""
        learners = [member.raft_id for member in members if member.learner]
        self._active_at = {
            raft_id: now if _active(status, raft_id) else self._active_at.get(raft_id, now)
            for raft_id in learners
        }
        return bool(learners)

    def _remove_stale(
        self,
        view: View,
        members: Sequence[Member],
        status: Status,
        now: float,
        now_ns: int,
        decision: Decision,
    ) -> bool:
        """Members whose node is gone or has a newer membership, and silent learners."""
        newest = {member.node_id: member.raft_id for member in members}
        for member in members:
            if member.raft_id == status.id:
                continue
            reason = ""
            if view.node(member.node_id) is None:
                reason = "its node was removed"
            elif newest[member.node_id] != member.raft_id:
                reason = "its node joined again under another id"
            elif member.learner and now >= self._active_at[member.raft_id] + LEARNER_SILENCE_S:
                reason = f"it was silent for {LEARNER_SILENCE_S:g} s before it could vote"
            if reason and self._remove(member, reason, status, now, now_ns, decision):
                return True
        return False

    def _promote(
        self,
        view: View,
        members: Sequence[Member],
        status: Status,
        now: float,  # noqa: ARG002  # one signature for all steps
        now_ns: int,
        decision: Decision,
    ) -> bool:
        """A learner that has caught up, and whose node is wanted as a manager, may vote."""
        for member in members:
            node = view.node(member.node_id)
            if not member.learner or node is None or node.spec.role != NODE_ROLE_MANAGER:
                continue
            voters = [*status.conf_state.voters, member.raft_id]
            if _caught_up(status, member.raft_id) and _has_quorum(status, voters):
                voter = Member()
                voter.CopyFrom(member)
                voter.learner = False
                decision.raft = _conf_change(
                    CONF_CHANGE_ADD_NODE, voter, "it has caught up and may vote", now_ns
                )
                return True
        return False

    def _demote(
        self,
        view: View,
        members: Sequence[Member],
        status: Status,
        now: float,
        now_ns: int,
        decision: Decision,
    ) -> bool:
        """Members whose node is wanted as a worker; the leader itself last."""
        waits = False
        for member in sorted(members, key=lambda member: member.raft_id == status.id):
            node = view.node(member.node_id)
            if node is None or node.spec.role == NODE_ROLE_MANAGER:
                continue
            waits = True
            if self._remove(member, "its node was demoted", status, now, now_ns, decision):
                break
        return waits

    def _remove(
        self,
        member: Member,
        reason: str,
        status: Status,
        now: float,
        now_ns: int,
        decision: Decision,
    ) -> bool:
        """Decide on the removal if the rest can do without. True if decided."""
        rest = [voter for voter in status.conf_state.voters if voter != member.raft_id]
        if not member.learner and not _has_quorum(status, rest):
            self._hold_back(member, rest, status, now, decision)
            return False
        self._held_since.pop(member.raft_id, None)
        if member.raft_id != status.id:
            gone = Member()
            gone.CopyFrom(member)
            gone.removed = True
            decision.raft = _conf_change(CONF_CHANGE_REMOVE_NODE, gone, reason, now_ns)
            return True
        heir = max(
            (voter for voter in rest if _active(status, voter)),
            key=lambda voter: (status.progress[voter].match, -voter),
        )
        decision.raft = TransferLeadership(heir, reason)
        return True

    def _hold_back(
        self,
        member: Member,
        rest: Sequence[int],
        status: Status,
        now: float,
        decision: Decision,
    ) -> None:
        since = self._held_since.setdefault(member.raft_id, now)
        if now < since + HELD_BACK_NOTICE_S:
            return
        # Said once: the next time is far off.
        self._held_since[member.raft_id] = float("inf")
        reachable = sum(_active(status, voter) for voter in rest)
        decision.notices.append(
            f"manager {member.node_id} stays in the Raft group for now: without it {reachable} of "
            f"{len(rest)} managers would be reachable, which is no quorum; bring one back or "
            "promote another node"
        )


def _active(status: Status, raft_id: int) -> bool:
    if raft_id == status.id:
        return True
    progress = status.progress.get(raft_id)
    return progress is not None and progress.recent_active


def _caught_up(status: Status, raft_id: int) -> bool:
    progress = status.progress.get(raft_id)
    return (
        progress is not None
        and progress.recent_active
        # A new one counts as active before it was ever heard of: it must have answered.
        and progress.match > 0
        and progress.match + CAUGHT_UP_ENTRIES >= status.last_index
    )


def _has_quorum(status: Status, voters: Sequence[int]) -> bool:
    reachable = sum(_active(status, voter) for voter in voters)
    return bool(voters) and reachable > len(voters) // 2


def _conf_change(
    kind: ConfChangeType.ValueType, member: Member, reason: str, now_ns: int
) -> ProposeConfChange:
    context = MemberChange(member=member, proposed_at_ns=now_ns).SerializeToString()
    change = ConfChangeSingle(type=kind, node_id=member.raft_id)
    conf_change = ConfChange(changes=[change], context=context)
    return ProposeConfChange(conf_change, f"member {member.node_id}: {reason}")
