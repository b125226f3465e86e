"""Wanted roles against Raft's members: what is decided, step by step, until nothing is left."""

import pytest

from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER, Member, Node, NodeSpec
from swarm.api.v1.raft_pb2 import (
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    ConfState,
)
from swarm.api.v1.store_pb2 import MemberChange
from swarm.manager.core.membership.decide import (
    Membership,
    ProposeConfChange,
    SetRole,
    TransferLeadership,
)
from swarm.manager.core.raft import PeerStatus, ProgressState, Role, Status

MANAGER, WORKER = NODE_ROLE_MANAGER, NODE_ROLE_WORKER


class Group:
    """Nodes and members of a Raft group, and what its leader (member 1) sees of it."""

    def __init__(self, voters: int = 3) -> None:
        self.rows: dict[str, Node] = {}
        self.all_members: dict[int, Member] = {}
        self.away: set[int] = set()
        self.match: dict[int, int] = {}
        self.now = 0.0
        self.membership = Membership()
        for number in range(1, voters + 1):
            self.node(f"m{number}", MANAGER, MANAGER)
            self.member(number, f"m{number}")

    # A View, as far as it is asked.

    def node(self, name, spec=None, role=None):
        if spec is not None:
            self.rows[name] = Node(id=name, spec=NodeSpec(role=spec), role=role)
            self.membership.node_changed(name, self.rows[name])
        return self.rows.get(name)

    def members(self):
        return list(self.all_members.values())

    def member(self, raft_id, node_id, learner=False):
        self.all_members[raft_id] = Member(
            id=str(raft_id), raft_id=raft_id, node_id=node_id, learner=learner, address="h:2378"
        )
        self.match[raft_id] = 1_000

    def want(self, name, role):
        self.node(name, role, self.rows[name].role)

    def status(self) -> Status:
        there = [m for m in self.members() if not m.removed]
        voters = [m.raft_id for m in there if not m.learner]
        learners = [m.raft_id for m in there if m.learner]
        progress = {
            m.raft_id: PeerStatus(
                match=self.match[m.raft_id],
                next=self.match[m.raft_id] + 1,
                state=ProgressState.REPLICATE,
                recent_active=m.raft_id not in self.away,
                is_learner=m.learner,
                paused=False,
            )
            for m in there
        }
        conf_state = ConfState(voters=voters, learners=learners)
        return Status(1, Role.LEADER, 2, 1, 1, 0, 1_000, 1_000, 1_000, conf_state, progress)

    def decide(self):
        return self.membership.decide(self, self.status(), self.now, 0)

    def step(self):
        """Decide and carry it out."""
        decision = self.decide()
        for change in decision.roles:
            self.node(change.node_id, self.rows[change.node_id].spec.role, change.role)
        if isinstance(decision.raft, ProposeConfChange):
            member = Member()
            context = MemberChange.FromString(decision.raft.conf_change.context)
            member.CopyFrom(context.member)
            (change,) = decision.raft.conf_change.changes
            assert change.node_id == member.raft_id
            assert member.removed == (change.type == CONF_CHANGE_REMOVE_NODE)
            self.all_members[member.raft_id] = member
            self.membership.settled()
        return decision

    def rest(self):
        return [m.node_id for m in self.members() if not m.removed]


@pytest.fixture
def group():
    return Group()


def kind(decision):
    return decision.raft.conf_change.changes[0].type


def test_nothing_to_do(group):
    decision = group.decide()
    assert (decision.roles, decision.raft, decision.again_at) == ([], None, None)


def test_promotion_role_first_vote_when_caught_up(group):
    group.node("w", WORKER, WORKER)
    group.want("w", MANAGER)
    assert group.step().roles == [SetRole("w", MANAGER)]
    group.member(9, "w", learner=True)
    group.match[9] = 800
    decision = group.step()
    assert decision.raft is None
    assert decision.again_at == group.now + 1, "its progress is no store change"
    group.match[9] = 900
    decision = group.step()
    assert kind(decision) == CONF_CHANGE_ADD_NODE
    assert not group.all_members[9].learner
    assert group.all_members[9].address == "h:2378"
    assert group.decide().raft is None


def test_demotion_vote_first_role_last(group):
    group.want("m2", WORKER)
    decision = group.step()
    assert decision.roles == []
    assert kind(decision) == CONF_CHANGE_REMOVE_NODE
    assert group.step().roles == [SetRole("m2", WORKER)]
    assert group.rest() == ["m1", "m3"]


def test_the_leader_hands_over_before_it_goes(group):
    group.want("m1", WORKER)
    group.match[2] = 990
    decision = group.decide()
    assert decision.raft == TransferLeadership(3, "its node was demoted")


def test_several_demotions_go_one_by_one_the_leader_last():
    group = Group(voters=5)
    for name in ("m1", "m4", "m5"):
        group.want(name, WORKER)
    assert kind(group.step()) == CONF_CHANGE_REMOVE_NODE
    assert group.rest() == ["m1", "m2", "m3", "m5"]
    group.step()
    assert group.rest() == ["m1", "m2", "m3"]
    assert isinstance(group.decide().raft, TransferLeadership)


def test_a_removal_that_would_leave_no_quorum_is_held_back_and_said_once(group):
    group.away = {3}
    group.want("m2", WORKER)
    assert group.decide().raft is None
    group.now = 6.0
    (notice,) = group.decide().notices
    assert "manager m2 stays in the Raft group" in notice
    assert "1 of 2 managers would be reachable" in notice
    group.now = 20.0
    assert group.decide().notices == []
    group.away = set()
    assert kind(group.decide()) == CONF_CHANGE_REMOVE_NODE


def test_a_dead_manager_can_be_demoted(group):
    group.away = {3}
    group.want("m3", WORKER)
    group.step()
    assert group.rest() == ["m1", "m2"]


def test_the_last_manager_stays():
    group = Group(voters=1)
    group.want("m1", WORKER)
    assert group.decide().raft is None
    assert group.decide().roles == []


def test_a_removed_nodes_member_is_removed(group):
    del group.rows["m3"]
    group.membership.node_changed("m3", None)
    decision = group.step()
    assert "its node was removed" in decision.raft.reason
    assert group.rest() == ["m1", "m2"]


def test_a_node_that_came_back_under_another_id_loses_the_old_one_first(group):
    group.away = {3}
    group.member(8, "m3", learner=True)
    decision = group.step()
    assert kind(decision) == CONF_CHANGE_REMOVE_NODE
    assert group.all_members[3].removed
    assert kind(group.step()) == CONF_CHANGE_ADD_NODE
    assert not group.all_members[8].learner


def test_a_silent_learner_is_removed_after_a_minute(group):
    group.node("w", MANAGER, MANAGER)
    group.member(9, "w", learner=True)
    group.away = {9}
    for group.now in (1.0, 30.0, 60.9):
        assert group.decide().raft is None
    group.away = set()
    group.match[9] = 1
    assert group.decide().raft is None
    group.away = {9}
    group.now = 119.0
    assert group.decide().raft is None, "it was active in between"
    group.now = 121.0
    assert "silent for 60 s" in group.decide().raft.reason


def test_no_voter_is_added_that_would_cost_the_quorum(group):
    group.node("w", MANAGER, MANAGER)
    group.member(9, "w", learner=True)
    group.away = {2, 3}
    assert group.decide().raft is None


def test_one_change_at_a_time_and_again_when_nothing_is_heard(group):
    group.want("m2", WORKER)
    assert group.decide().raft is not None
    group.now = 9.0
    decision = group.decide()
    assert (decision.raft, decision.again_at) == (None, 10.0)
    group.now = 10.0
    assert group.decide().raft is not None


def test_nothing_in_a_joint_configuration(group):
    group.want("m2", WORKER)
    status = group.status()
    status.conf_state.voters_outgoing.extend([1, 2, 3])
    assert group.membership.decide(group, status, 0.0, 0).raft is None
