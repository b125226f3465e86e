"""Changes of the configuration: known steps, refusals, and properties of any sequence."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.manager.core.raft import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_TRANSITION_JOINT_EXPLICIT,
    CONF_CHANGE_TRANSITION_JOINT_IMPLICIT,
    CONF_CHANGE_UPDATE_NODE,
    Changer,
    ConfChange,
    ConfChangeSingle,
    ConfState,
    ProgressTracker,
)
from swarm.manager.core.raft.confchange import restore

KINDS = {
    "v": CONF_CHANGE_ADD_NODE,
    "l": CONF_CHANGE_ADD_LEARNER_NODE,
    "r": CONF_CHANGE_REMOVE_NODE,
    "u": CONF_CHANGE_UPDATE_NODE,
}


def changes(words: str) -> list[ConfChangeSingle]:
    """'v1 l2 r3 u4': voter 1, learner 2, remove 3, update 4."""
    return [ConfChangeSingle(type=KINDS[word[0]], node_id=int(word[1:])) for word in words.split()]


class Config:
    """A configuration that changes step by step."""

    def __init__(self, *steps: str) -> None:
        self.tracker = ProgressTracker(max_inflight=10)
        for step in steps:
            self.simple(step)

    def _take(self, result) -> str:
        self.tracker.config, self.tracker.progress = result
        return str(self.tracker.config)

    def changer(self) -> Changer:
        return Changer(self.tracker, last_index=10)

    def simple(self, words: str) -> str:
        return self._take(self.changer().simple(changes(words)))

    def enter(self, words: str, *, auto_leave: bool = False) -> str:
        return self._take(self.changer().enter_joint(auto_leave, changes(words)))

    def leave(self) -> str:
        return self._take(self.changer().leave_joint())


def test_a_simple_change_moves_one_voter():
    config = Config("v1")
    assert config.simple("v2") == "voters=(1 2)"
    assert config.simple("l3") == "voters=(1 2) learners=(3)"
    assert config.simple("v3") == "voters=(1 2 3)"
    assert config.simple("l1") == "voters=(2 3) learners=(1)"
    assert config.simple("r1") == "voters=(2 3)"
    assert config.simple("r1") == "voters=(2 3)"
    assert config.simple("u2") == "voters=(2 3)"
    assert config.simple("v5 r5") == "voters=(2 3)"
    assert config.simple("l4 l5 l6") == "voters=(2 3) learners=(4 5 6)"


def test_a_new_node_is_probed_from_the_end_and_counts_as_active():
    config = Config("v1", "l2")
    assert config.tracker.progress[2].next == 10
    assert config.tracker.progress[2].match == 0
    assert config.tracker.progress[2].recent_active
    assert config.tracker.progress[2].is_learner
    assert not config.tracker.progress[1].is_learner


def test_a_node_added_to_an_empty_log_is_sent_its_first_entry():
    changes = [ConfChangeSingle(type=CONF_CHANGE_ADD_NODE, node_id=1)]
    _, progress = Changer(ProgressTracker(), 0).simple(changes)
    assert (progress[1].match, progress[1].next) == (0, 1)


def test_a_joint_change_keeps_the_old_voters_until_it_is_left():
    config = Config("v1", "v2", "v3")
    assert config.enter("r1 v4 l5") == "voters=(2 3 4)&&(1 2 3) learners=(5)"
    assert sorted(config.tracker.progress) == [1, 2, 3, 4, 5]
    assert config.leave() == "voters=(2 3 4) learners=(5)"
    assert sorted(config.tracker.progress) == [2, 3, 4, 5]


def test_a_demoted_voter_learns_only_after_the_joint_state():
    config = Config("v1", "v2")
    assert config.enter("l2 v3", auto_leave=True) == (
        "voters=(1 3)&&(1 2) learners_next=(2) autoleave"
    )
    assert not config.tracker.progress[2].is_learner
    assert config.leave() == "voters=(1 3) learners=(2)"
    assert config.tracker.progress[2].is_learner


def test_a_change_in_the_same_step_undoes_another():
    config = Config("v1", "v2")
    assert config.enter("l2 v2") == "voters=(1 2)&&(1 2)"
    assert config.leave() == "voters=(1 2)"
    config = Config("v1", "v2")
    assert config.enter("l2 r2") == "voters=(1)&&(1 2)"
    assert config.leave() == "voters=(1)"


def test_a_joint_state_may_be_entered_without_any_change():
    assert Config("v1").enter("") == "voters=(1)&&(1)"


@pytest.mark.parametrize(
    ("steps", "act", "reason"),
    [
        ([], lambda c: c.simple("l1"), "removed all voters"),
        (["v1"], lambda c: c.simple("r1"), "removed all voters"),
        (["v1"], lambda c: c.simple("l1"), "removed all voters"),
        (["v1"], lambda c: c.simple("v2 v3"), "more than one voter changed"),
        (["v1", "v2"], lambda c: c.simple("r2 v3"), "more than one voter changed"),
        ([], lambda c: c.enter("v1"), "can't make a zero-voter config joint"),
        (["v1"], lambda c: c.enter("r1"), "removed all voters"),
        (["v1"], lambda c: c.leave(), "can't leave a non-joint config"),
    ],
)
def test_a_refused_change_says_why_and_changes_nothing(steps, act, reason):
    config = Config(*steps)
    before, progress = config.tracker.config, dict(config.tracker.progress)
    described = {node: str(value) for node, value in progress.items()}
    with pytest.raises(ValueError, match=reason):
        act(config)
    assert config.tracker.config == before
    assert config.tracker.progress == progress
    assert {node: str(value) for node, value in progress.items()} == described


def test_a_joint_config_takes_nothing_but_being_left():
    config = Config("v1", "v2")
    config.enter("v3 v4")
    with pytest.raises(ValueError, match="can't apply simple config change in joint config"):
        config.simple("r1")
    with pytest.raises(ValueError, match="config is already joint"):
        config.enter("r1")
    assert str(config.tracker.config) == "voters=(1 2 3 4)&&(1 2)"


def test_a_refused_change_leaves_marks_on_nobody():
    config = Config("v1", "v2")
    with pytest.raises(ValueError, match="removed all voters"):
        config.simple("l2 l1")
    assert not config.tracker.progress[2].is_learner


def test_an_unknown_kind_is_refused():
    change = ConfChangeSingle(node_id=2)
    change.type = 77
    with pytest.raises(ValueError, match="unexpected conf change type 77"):
        Config("v1").changer().simple([change])


def test_a_change_without_a_node_is_passed_over():
    assert Config("v1").simple("v0") == "voters=(1)"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (ConfChange(changes=changes("v4")), "voters=(1 2 3 4)"),
        (ConfChange(changes=changes("v4 r1")), "voters=(2 3 4)&&(1 2 3) autoleave"),
        (
            ConfChange(changes=changes("v4"), transition=CONF_CHANGE_TRANSITION_JOINT_IMPLICIT),
            "voters=(1 2 3 4)&&(1 2 3) autoleave",
        ),
        (
            ConfChange(changes=changes("v4"), transition=CONF_CHANGE_TRANSITION_JOINT_EXPLICIT),
            "voters=(1 2 3 4)&&(1 2 3)",
        ),
    ],
)
def test_the_transition_decides_the_way(change, expected):
    config, _ = Config("v1", "v2", "v3").changer().change(change)
    assert str(config) == expected


def test_an_empty_change_leaves_the_joint_state():
    config = Config("v1", "v2", "v3")
    config.enter("r1")
    left, _ = config.changer().change(ConfChange(context=b"who"))
    assert str(left) == "voters=(2 3)"


@st.composite
def conf_states(draw) -> ConfState:
    """Any state that can be: learners_next are outgoing voters, learners are nobody's voters."""
    ids = draw(st.permutations(range(1, 10)))
    rng = random.Random(draw(st.integers()))
    voters = ids[: rng.randint(1, 5)]
    learners = ids[len(voters) : len(voters) + rng.randint(0, 2)]
    if rng.random() < 0.5:
        return ConfState(voters=sorted(voters), learners=sorted(learners))
    rest = ids[len(voters) + len(learners) :]
    kept = rng.sample(voters, rng.randint(0, len(voters)))
    leaving = rest[: rng.randint(0 if kept else 1, len(rest))]
    leaving = leaving or rest[:1]
    return ConfState(
        voters=sorted(voters),
        learners=sorted(learners),
        voters_outgoing=sorted([*kept, *leaving]),
        learners_next=sorted(rng.sample(leaving, rng.randint(0, len(leaving)))),
        auto_leave=rng.random() < 0.5,
    )


@given(conf_states())
def test_every_state_is_restored_as_it_was(state):
    config, progress = restore(ProgressTracker(), 20, state)
    assert config.conf_state() == state
    members = {*state.voters, *state.learners, *state.voters_outgoing}
    assert set(progress) == members
    assert {node for node in progress if progress[node].is_learner} == set(state.learners)


WORDS = st.lists(st.tuples(st.sampled_from("vlr"), st.integers(1, 6)), max_size=5).map(
    lambda pairs: " ".join(f"{kind}{node}" for kind, node in pairs)
)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(["simple", "enter", "leave"]), WORDS), max_size=8))
def test_any_sequence_keeps_the_rules(steps):
    config = Config("v1")
    for kind, words in steps:
        before = config.tracker.config
        try:
            if kind == "simple":
                config.simple(words)
            elif kind == "enter":
                config.enter(words)
            else:
                config.leave()
        except ValueError:
            assert config.tracker.config is before
            continue
        after = config.tracker.config
        voters, learners = after.voters, after.learners
        assert voters.incoming
        assert not learners & voters.ids()
        assert after.learners_next <= voters.outgoing - voters.incoming
        assert set(config.tracker.progress) == voters.ids() | learners
        if kind == "simple":
            assert len(before.voters.incoming ^ voters.incoming) <= 1
        if kind == "enter":
            assert voters.outgoing == before.voters.incoming


@settings(max_examples=100)
@given(WORDS, WORDS)
def test_a_joint_change_comes_to_the_same_as_simple_ones(start, words):
    """Entering and leaving with several changes equals making them one by one."""
    one_by_one, joint = Config("v1", "v2"), Config("v1", "v2")
    for word in start.split():
        try:
            one_by_one.simple(word)
        except ValueError:
            continue
        joint.simple(word)
    for word in words.split():
        try:
            one_by_one.simple(word)
        except ValueError:
            return
    joint.enter(words)
    joint.leave()
    assert joint.tracker.config == one_by_one.tracker.config
    assert set(joint.tracker.progress) == set(one_by_one.tracker.progress)
