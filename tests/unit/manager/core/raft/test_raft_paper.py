"""The rules of the Raft paper and dissertation, by section."""

import random

import pytest

from swarm.manager.core.raft import (
    CONF_CHANGE_REMOVE_NODE,
    ENTRY_CONF_CHANGE,
    ConfChange,
    ConfChangeSingle,
    Config,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    RawNode,
    Role,
    StepLocalMessage,
)

APP, APP_RESP = MessageType.MSG_APP, MessageType.MSG_APP_RESP
VOTE, VOTE_RESP = MessageType.MSG_VOTE, MessageType.MSG_VOTE_RESP
HEARTBEAT = MessageType.MSG_HEARTBEAT


def node_with(
    *terms: int, id_: int = 1, voters=(1, 2, 3), hard_state: HardState | None = None, **options
) -> RawNode:
    """A node whose log holds entries of these terms."""
    storage = MemoryStorage()
    storage.initial_state = lambda: (  # type: ignore[method-assign]
        hard_state or HardState(term=max(terms, default=0)),
        ConfState(voters=voters),
    )
    storage.append([Entry(term=t, index=i) for i, t in enumerate(terms, start=1)])
    return RawNode(Config(id=id_, storage=storage, rng=random.Random(1), **options))


def drain(node: RawNode) -> list[Message]:
    """Work off everything; what was sent."""
    sent: list[Message] = []
    while node.has_ready():
        ready = node.ready()
        node.raft.config.storage.append(ready.entries)  # type: ignore[attr-defined]
        sent += [*ready.messages, *ready.messages_after_append]
        node.advance(ready)
    return sent


def lead(node: RawNode) -> list[Message]:
    """Make it the leader of its next term. What it sent then."""
    node.campaign()
    drain(node)
    term = node.raft.term
    for voter in (2, 3):
        node.step(Message(type=VOTE_RESP, from_=voter, to=1, term=term))
    assert node.raft.role is Role.LEADER
    return drain(node)


def log_of(node: RawNode) -> list[tuple[int, int]]:
    log = node.raft.log
    return [(e.term, e.index) for e in log.slice(log.first_index(), log.last_index() + 1)]


class TestTerms:
    """5.1"""

    @pytest.mark.parametrize("role", list(Role))
    def test_everybody_follows_a_leader_of_a_higher_term(self, role):
        node = node_with()
        if role in (Role.CANDIDATE, Role.LEADER):
            node.campaign()
        elif role is Role.PRE_CANDIDATE:
            node.raft.config.pre_vote = True
            node.campaign()
        if role is Role.LEADER:
            lead(node)
        assert node.raft.role is role
        node.step(Message(type=APP, from_=2, to=1, term=9))
        assert (node.raft.role, node.raft.term, node.raft.lead) == (Role.FOLLOWER, 9, 2)

    def test_a_message_of_an_earlier_term_changes_nothing(self):
        node = node_with(2, hard_state=HardState(term=5))
        node.step(
            Message(type=APP, from_=2, to=1, term=4, index=1, log_term=2, entries=[Entry(index=2)])
        )
        assert log_of(node) == [(2, 1)]
        assert node.raft.lead == 0

    def test_a_message_without_a_term_is_not_taken_for_one_of_ours(self):
        node = node_with(2, hard_state=HardState(term=5))
        with pytest.raises(StepLocalMessage):
            node.step(Message(type=APP, from_=2, to=1, index=1, log_term=2, commit=1))
        assert (node.raft.lead, node.raft.log.committed) == (0, 0)


class TestElections:
    """5.2"""

    def test_everybody_starts_as_a_follower(self):
        assert node_with().raft.role is Role.FOLLOWER

    def test_a_leader_sends_heartbeats(self):
        node = node_with(heartbeat_tick=2)
        lead(node)
        node.tick()
        assert drain(node) == []
        node.tick()
        assert [(m.type, m.to) for m in drain(node)] == [(HEARTBEAT, 2), (HEARTBEAT, 3)]

    @pytest.mark.parametrize("candidate", [False, True])
    def test_an_election_starts_after_the_timeout_with_a_new_term_and_the_own_vote(self, candidate):
        node = node_with(hard_state=HardState(term=1))
        if candidate:
            node.campaign()
            drain(node)
        before = node.raft.term
        for _ in range(2 * node.raft.config.election_tick):
            node.tick()
            if node.raft.term > before:
                break
        assert (node.raft.role, node.raft.term) == (Role.CANDIDATE, before + 1)
        assert node.raft.vote == 1
        requests = drain(node)
        assert [(m.type, m.to, m.term) for m in requests] == [
            (VOTE, 2, before + 1),
            (VOTE, 3, before + 1),
        ]

    @pytest.mark.parametrize(
        ("voters", "answers", "role"),
        [
            (1, {}, Role.LEADER),
            (3, {2: True, 3: True}, Role.LEADER),
            (3, {2: True}, Role.LEADER),
            (5, {2: True, 3: True}, Role.LEADER),
            (3, {2: False, 3: False}, Role.FOLLOWER),
            (5, {2: False, 3: False, 4: False}, Role.FOLLOWER),
            (5, {2: True, 3: False, 4: False, 5: False}, Role.FOLLOWER),
            (3, {}, Role.CANDIDATE),
            (5, {2: True}, Role.CANDIDATE),
            (5, {2: False, 3: False}, Role.CANDIDATE),
        ],
    )
    def test_a_majority_decides(self, voters, answers, role):
        node = node_with(voters=range(1, voters + 1))
        node.campaign()
        drain(node)
        for voter, granted in answers.items():
            node.step(Message(type=VOTE_RESP, from_=voter, to=1, term=1, reject=not granted))
        assert node.raft.role is role

    def test_a_doubled_vote_counts_once(self):
        node = node_with(voters=range(1, 6))
        node.campaign()
        drain(node)
        for _ in range(3):
            node.step(Message(type=VOTE_RESP, from_=2, to=1, term=1))
        assert node.raft.role is Role.CANDIDATE

    def test_a_vote_of_a_former_term_does_not_count(self):
        node = node_with()
        node.campaign()
        drain(node)
        node.campaign()
        drain(node)
        node.step(Message(type=VOTE_RESP, from_=2, to=1, term=1))
        assert (node.raft.role, node.raft.term) == (Role.CANDIDATE, 2)

    def test_a_late_pre_vote_is_not_a_vote(self):
        node = node_with(pre_vote=True, voters=range(1, 6))
        node.campaign()
        drain(node)
        for voter in (2, 3):
            node.step(Message(type=MessageType.MSG_PRE_VOTE_RESP, from_=voter, to=1, term=1))
        assert node.raft.role is Role.CANDIDATE
        drain(node)
        for voter in (4, 5):
            node.step(Message(type=MessageType.MSG_PRE_VOTE_RESP, from_=voter, to=1, term=1))
        assert node.raft.role is Role.CANDIDATE

    @pytest.mark.parametrize(
        ("vote", "candidate", "rejected"),
        [(0, 2, False), (0, 3, False), (2, 2, False), (3, 3, False), (2, 3, True), (3, 2, True)],
    )
    def test_one_vote_a_term_also_after_a_restart(self, vote, candidate, rejected):
        node = node_with(hard_state=HardState(term=1, vote=vote))
        node.step(Message(type=VOTE, from_=candidate, to=1, term=1))
        (answer,) = drain(node)
        assert (answer.type, answer.to, answer.reject) == (VOTE_RESP, candidate, rejected)

    @pytest.mark.parametrize("request_type", [VOTE, MessageType.MSG_PRE_VOTE])
    def test_who_was_in_no_term_yet_refuses_too(self, request_type):
        node = node_with(1, hard_state=HardState())
        node.step(Message(type=request_type, from_=2, to=1, term=1))
        assert [m.reject for m in drain(node)] == [True]

    def test_a_vote_gives_the_candidate_a_whole_timeout(self):
        node = node_with(hard_state=HardState(term=1))
        timeout = node.raft.randomized_election_timeout
        for _ in range(timeout - 1):
            node.tick()
        node.step(Message(type=VOTE, from_=2, to=1, term=1))
        for _ in range(timeout - 1):
            node.tick()
            assert node.raft.role is Role.FOLLOWER
        node.tick()
        assert node.raft.role is Role.CANDIDATE

    def test_who_follows_the_leader_of_a_term_votes_for_nobody_else_in_it(self):
        node = node_with(1)
        node.step(Message(type=HEARTBEAT, from_=2, to=1, term=2))
        node.step(Message(type=VOTE, from_=3, to=1, term=2, index=5, log_term=1))
        assert [m.reject for m in drain(node) if m.type == VOTE_RESP] == [True]

    def test_a_candidate_that_learns_of_a_change_of_the_voters_gives_up(self):
        change = ConfChange(
            changes=[ConfChangeSingle(type=CONF_CHANGE_REMOVE_NODE, node_id=2)],
        )
        node = node_with(1)
        node.step(
            Message(
                type=APP, from_=2, to=1, term=1, index=1, log_term=1, commit=1,
                entries=[
                    Entry(term=1, index=2, type=ENTRY_CONF_CHANGE, data=change.SerializeToString())
                ],
            )
        )  # fmt: skip
        drain(node)
        node.campaign()
        committed = b"".join(number.to_bytes(8, "big") for number in (2, 1))
        node.step(Message(type=VOTE_RESP, from_=3, to=1, term=2, reject=True, context=committed))
        assert (node.raft.role, node.raft.term, node.raft.vote) == (Role.FOLLOWER, 2, 1)
        assert node.raft.log.committed == 2

    @pytest.mark.parametrize("kind", [APP, HEARTBEAT])
    @pytest.mark.parametrize("option", ["pre_vote", "check_quorum"])
    def test_a_leader_that_is_behind_is_told_the_term(self, kind, option):
        """Else it would never hear of it: no vote of a higher term may be asked for."""
        node = node_with(3, **{option: True})
        node.step(Message(type=kind, from_=2, to=1, term=2))
        (answer,) = drain(node)
        assert (answer.type, answer.to, answer.term) == (APP_RESP, 2, 3)

    def test_a_vote_waits_for_the_disk_an_answer_to_a_heartbeat_does_not(self):
        node = node_with(async_storage_writes=True)
        node.step(Message(type=VOTE, from_=2, to=1, term=1))
        ready = node.ready()
        assert ready.messages == []
        assert [m.type for m in ready.messages_after_append] == [VOTE_RESP]
        assert ready.hard_state == HardState(term=1, vote=2)
        assert ready.must_sync
        node.advance(ready)
        node.step(Message(type=HEARTBEAT, from_=2, to=1, term=1))
        ready = node.ready()
        assert [m.type for m in ready.messages] == [MessageType.MSG_HEARTBEAT_RESP]
        assert not ready.must_sync

    def test_a_candidate_yields_to_the_leader_of_its_term(self):
        node = node_with()
        node.campaign()
        drain(node)
        node.step(Message(type=APP, from_=2, to=1, term=1))
        assert (node.raft.role, node.raft.lead) == (Role.FOLLOWER, 2)

    def test_timeouts_are_drawn_between_once_and_twice(self):
        drawn: set[int] = set()
        for seed in range(300):
            storage = MemoryStorage()
            node = RawNode(Config(id=1, storage=storage, rng=random.Random(seed), election_tick=7))
            drawn.add(node.raft.randomized_election_timeout)
        assert drawn == set(range(7, 14))

    def test_a_timeout_is_drawn_anew_with_every_campaign(self):
        node = node_with(election_tick=50)
        drawn: set[int] = set()
        for _ in range(20):
            node.campaign()
            drain(node)
            drawn.add(node.raft.randomized_election_timeout)
        assert len(drawn) > 5


class TestReplication:
    """5.3"""

    def test_a_proposal_is_appended_and_sent_with_what_precedes_it(self):
        node = node_with(1)
        lead(node)
        for voter in (2, 3):
            node.step(Message(type=APP_RESP, from_=voter, to=1, term=2, index=2))
        drain(node)
        assert node.propose(b"data") == 3
        sent = drain(node)
        assert [(m.type, m.to, m.index, m.log_term) for m in sent] == [
            (APP, 2, 2, 2),
            (APP, 3, 2, 2),
        ]
        assert sent[0].entries[0] == Entry(term=2, index=3, data=b"data")

    def test_an_entry_is_committed_and_applied_once_a_majority_has_it(self):
        node = node_with()
        lead(node)
        node.propose(b"x")
        drain(node)
        node.step(Message(type=APP_RESP, from_=2, to=1, term=1, index=2))
        ready = node.ready()
        assert [e.index for e in ready.committed_entries] == [1, 2]
        assert {m.commit for m in ready.messages} == {2}

    @pytest.mark.parametrize(
        ("voters", "acks", "committed"),
        [(3, 0, False), (3, 1, True), (3, 2, True), (5, 1, False), (5, 2, True), (5, 4, True)],
    )
    def test_a_majority_commits(self, voters, acks, committed):
        node = node_with(voters=range(1, voters + 1))
        node.campaign()
        drain(node)
        for voter in range(2, voters + 1):
            node.step(Message(type=VOTE_RESP, from_=voter, to=1, term=1))
        drain(node)
        for voter in range(2, 2 + acks):
            node.step(Message(type=APP_RESP, from_=voter, to=1, term=1, index=1))
        assert (node.raft.log.committed == 1) is committed

    def test_committing_commits_all_before(self):
        node = node_with(1, 1)
        lead(node)
        node.step(Message(type=APP_RESP, from_=2, to=1, term=2, index=3))
        assert [e.term for e in node.ready().committed_entries] == [1, 1, 2]

    def test_a_follower_applies_what_the_leader_says_is_committed(self):
        node = node_with(1, 1)
        node.step(
            Message(
                type=APP, from_=2, to=1, term=1, index=2, log_term=1, commit=3,
                entries=[Entry(term=1, index=3)],
            )
        )  # fmt: skip
        assert [e.index for e in node.ready().committed_entries] == [1, 2, 3]

    @pytest.mark.parametrize(
        ("index", "term", "rejected", "hint"),
        [(0, 0, False, 0), (1, 1, False, 0), (2, 2, False, 0), (1, 2, True, 1), (3, 3, True, 2)],
    )
    def test_a_follower_checks_what_precedes(self, index, term, rejected, hint):
        node = node_with(1, 2)
        node.step(Message(type=APP, from_=2, to=1, term=2, index=index, log_term=term))
        (answer,) = drain(node)
        assert (answer.reject, answer.reject_hint) == (rejected, hint)

    @pytest.mark.parametrize(
        ("index", "term", "sent", "expected"),
        [
            (2, 2, [3], [1, 2, 3]),
            (1, 1, [3, 4], [1, 3, 4]),
            (0, 0, [1], [1, 2]),
            (0, 0, [3], [3]),
        ],
    )
    def test_a_follower_removes_what_conflicts_and_only_that(self, index, term, sent, expected):
        node = node_with(1, 2)
        entries = [Entry(term=t, index=index + 1 + i) for i, t in enumerate(sent)]
        node.step(
            Message(type=APP, from_=2, to=1, term=4, index=index, log_term=term, entries=entries)
        )
        assert [t for t, _ in log_of(node)] == expected

    @pytest.mark.parametrize(
        "follower",
        [
            [1, 1, 1, 4, 4, 5, 5, 6, 6],
            [1, 1, 1, 4],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
            [1, 1, 1, 4, 4, 4, 4],
            [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        ],
    )
    def test_the_leader_brings_any_log_of_figure_7_to_its_own(self, follower):
        leader = node_with(1, 1, 1, 4, 4, 5, 5, 6, 6, 6, hard_state=HardState(term=8))
        other = node_with(*follower, id_=2, hard_state=HardState(term=8))
        leader.campaign()
        drain(leader)
        leader.step(Message(type=VOTE_RESP, from_=3, to=1, term=9))
        messages = drain(leader)
        rejections = 0
        while messages:
            message = messages.pop(0)
            if message.to == 2:
                other.step(message)
                messages += drain(other)
            elif message.to == 1:
                rejections += message.reject
                leader.step(message)
                messages += drain(leader)
        assert log_of(other) == log_of(leader)
        assert rejections <= 2

    def test_a_long_foreign_tail_costs_a_probe_a_term(self):
        """A thousand entries of another term are skipped in one step, on either side."""
        for ours, theirs in (
            ([1, *[3] * 1000, *[5] * 1000], [1, 1, *[2] * 999]),
            ([1, *[3] * 10], [1, *[4] * 5, *[5] * 1000]),
        ):
            leader = node_with(*ours, hard_state=HardState(term=8), max_size_per_msg=1 << 30)
            other = node_with(*theirs, id_=2, hard_state=HardState(term=8))
            leader.campaign()
            drain(leader)
            leader.step(Message(type=VOTE_RESP, from_=3, to=1, term=9))
            messages = drain(leader)
            rejections = 0
            while messages:
                message = messages.pop(0)
                if message.to == 2:
                    other.step(message)
                    messages += drain(other)
                elif message.to == 1:
                    rejections += message.reject
                    leader.step(message)
                    messages += drain(leader)
            assert log_of(other) == log_of(leader)
            assert rejections <= 3


class TestSafety:
    """5.4"""

    @pytest.mark.parametrize(
        ("terms", "last_term", "last_index", "rejected"),
        [
            ([1], 1, 1, False),
            ([1], 1, 2, False),
            ([1, 1], 1, 1, True),
            ([1], 2, 1, False),
            ([1, 1], 2, 1, False),
            ([2], 1, 1, True),
            ([2], 1, 2, True),
        ],
    )
    def test_a_vote_needs_a_log_as_good_as_ones_own(self, terms, last_term, last_index, rejected):
        node = node_with(*terms)
        node.step(Message(type=VOTE, from_=2, to=1, term=3, index=last_index, log_term=last_term))
        (answer,) = drain(node)
        assert answer.reject is rejected

    @pytest.mark.parametrize(("index", "committed"), [(1, 0), (2, 0), (3, 3)])
    def test_entries_of_former_terms_are_not_committed_by_counting(self, index, committed):
        node = node_with(1, 2)
        lead(node)
        node.step(Message(type=APP_RESP, from_=2, to=1, term=3, index=index))
        assert node.raft.log.committed == committed


class TestPersistence:
    """3.8 of the dissertation, and 10.2.1"""

    def test_the_leader_counts_its_own_log_only_when_it_is_durable(self):
        node = node_with(async_storage_writes=True)
        node.campaign()
        node.persisted(node.ready())
        node.step(Message(type=VOTE_RESP, from_=2, to=1, term=1))
        first = node.ready()
        assert [m.type for m in first.messages] == [APP, APP]
        node.step(Message(type=APP_RESP, from_=2, to=1, term=1, index=0))
        assert node.raft.log.committed == 0
        assert node.raft.tracker.progress[1].match == 0
        node.raft.config.storage.append(first.entries)  # type: ignore[attr-defined]
        node.persisted(first)
        assert node.raft.tracker.progress[1].match == 1
        node.step(Message(type=APP_RESP, from_=2, to=1, term=1, index=1))
        assert node.raft.log.committed == 1

    def test_a_new_leader_commits_nothing_by_itself(self):
        node = node_with(1, 1)
        lead(node)
        assert node.raft.tracker.progress[1].match == 3
        assert node.raft.log.committed == 0

    def test_writes_of_a_former_term_count_nothing_in_the_next(self):
        node = node_with(async_storage_writes=True)
        node.campaign()
        node.persisted(node.ready())
        node.step(Message(type=VOTE_RESP, from_=2, to=1, term=1))
        old = node.ready()
        node.step(Message(type=APP, from_=3, to=1, term=2))
        node.raft.config.storage.append(old.entries)  # type: ignore[attr-defined]
        node.persisted(old)
        assert node.raft.role is Role.FOLLOWER
        assert node.raft.log.committed == 0
