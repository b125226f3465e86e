"""Quorums against the slow, obvious definition."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.manager.core.raft import UNBOUNDED, JointConfig, MajorityConfig, VoteResult

IDS = st.integers(min_value=1, max_value=9)
CONFIGS = st.frozensets(IDS, max_size=7)
ACKS = st.dictionaries(IDS, st.integers(min_value=0, max_value=20))
VOTES = st.dictionaries(IDS, st.booleans())


def majorities(config: frozenset[int]) -> list[frozenset[int]]:
    return [
        frozenset(chosen)
        for size in range(len(config) + 1)
        for chosen in itertools.combinations(sorted(config), size)
        if 2 * size > len(config)
    ]


def slow_committed(config: frozenset[int], acked: dict[int, int]) -> int:
    """The best that some majority has as a whole; an index of 0 needs nobody."""
    if not config:
        return UNBOUNDED
    return max(min(acked.get(node, 0) for node in majority) for majority in majorities(config))


def slow_vote(config: frozenset[int], votes: dict[int, bool]) -> VoteResult:
    if not config:
        return VoteResult.WON
    if any(all(votes.get(node) is True for node in m) for m in majorities(config)):
        return VoteResult.WON
    if any(all(votes.get(node) is not False for node in m) for m in majorities(config)):
        return VoteResult.PENDING
    return VoteResult.LOST


@given(CONFIGS, ACKS)
def test_the_committed_index_is_what_the_best_majority_has(config, acked):
    assert MajorityConfig(config).committed_index(acked) == slow_committed(config, acked)


@given(CONFIGS, VOTES)
def test_a_vote_is_won_lost_or_open_by_majorities(config, votes):
    assert MajorityConfig(config).vote_result(votes) is slow_vote(config, votes)


@given(CONFIGS, CONFIGS, ACKS)
def test_a_joint_index_is_the_lower_of_both_halves(incoming, outgoing, acked):
    joint = JointConfig(incoming, outgoing)
    expected = min(slow_committed(incoming, acked), slow_committed(outgoing, acked))
    assert joint.committed_index(acked) == expected
    assert JointConfig(outgoing, incoming).committed_index(acked) == expected


@given(CONFIGS, CONFIGS, VOTES)
def test_a_joint_vote_needs_both_halves(incoming, outgoing, votes):
    halves = [slow_vote(incoming, votes), slow_vote(outgoing, votes)]
    expected = next(
        result
        for result in (VoteResult.LOST, VoteResult.PENDING, VoteResult.WON)
        if result in halves
    )
    assert JointConfig(incoming, outgoing).vote_result(votes) is expected


@given(CONFIGS, ACKS)
def test_an_empty_or_equal_half_changes_nothing(config, acked):
    alone = MajorityConfig(config).committed_index(acked)
    assert JointConfig(config).committed_index(acked) == alone
    assert JointConfig(config, config).committed_index(acked) == alone


@given(CONFIGS, CONFIGS, ACKS)
def test_acknowledgements_may_come_from_a_function(incoming, outgoing, acked):
    joint = JointConfig(incoming, outgoing)
    assert joint.committed_index(acked.get) == joint.committed_index(acked)


@given(CONFIGS.filter(bool), CONFIGS.filter(bool), ACKS, VOTES)
def test_who_is_in_no_half_has_no_say(incoming, outgoing, acked, votes):
    joint = JointConfig(incoming, outgoing)
    assert joint.committed_index({**acked, 99: 10**9}) == joint.committed_index(acked)
    assert joint.vote_result({**votes, 99: False}) is joint.vote_result(votes)


@pytest.mark.parametrize(
    ("voters", "acked", "expected"),
    [
        ([], {}, UNBOUNDED),
        ([1], {}, 0),
        ([1], {1: 12}, 12),
        ([1, 2], {1: 12}, 0),
        ([1, 2], {1: 12, 2: 5}, 5),
        ([1, 2, 3], {1: 12, 2: 5}, 5),
        ([1, 2, 3], {1: 12, 2: 5, 3: 6}, 6),
        ([1, 2, 3, 4], {1: 101, 2: 104, 3: 103, 4: 103}, 103),
        ([1, 2, 3, 4, 5], {1: 101, 2: 104, 3: 103, 4: 103}, 103),
    ],
)
def test_known_indexes(voters, acked, expected):
    assert MajorityConfig(voters).committed_index(acked) == expected


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ({}, VoteResult.PENDING),
        ({1: True, 2: False}, VoteResult.PENDING),
        ({1: True, 2: True, 3: False}, VoteResult.PENDING),
        ({1: True, 2: True}, VoteResult.PENDING),
        ({1: True, 2: True, 3: True}, VoteResult.WON),
        ({1: False, 2: False}, VoteResult.LOST),
    ],
)
def test_four_voters_need_three(votes, expected):
    assert MajorityConfig([1, 2, 3, 4]).vote_result(votes) is expected


def test_configurations_are_values():
    assert JointConfig([1, 2], [3]) == JointConfig([2, 1], [3])
    assert len({JointConfig([1, 2]), JointConfig([2, 1])}) == 1
    assert JointConfig([1, 2]) != JointConfig([1, 2], [1, 2])
    assert str(JointConfig([2, 1], [3])) == "(1 2)&&(3)"
    assert not JointConfig([1]).joint
    assert JointConfig([1], [2]).ids() == {1, 2}
