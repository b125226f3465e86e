"""What callers of a RawNode may rely on."""

import random

import pytest

from swarm.manager.core.raft import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    ConfChange,
    ConfChangeSingle,
    Config,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    ProgressState,
    ProposalDropped,
    RawNode,
    ReadOnlyOption,
    Role,
    Snapshot,
    SnapshotTemporarilyUnavailable,
    StepLocalMessage,
    StepPeerNotFound,
)


def change(*singles: tuple[int, int], **fields) -> ConfChange:
    return ConfChange(
        changes=[ConfChangeSingle(type=kind, node_id=node) for kind, node in singles], **fields
    )


ADD, REMOVE = CONF_CHANGE_ADD_NODE, CONF_CHANGE_REMOVE_NODE


def bootstrapped(voters, **hard_state) -> MemoryStorage:
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(index=1, term=1, conf_state=ConfState(voters=voters)))
    storage.set_hard_state(HardState(**hard_state))
    return storage


def single(**options) -> tuple[RawNode, MemoryStorage]:
    """The only voter, leading, all work done."""
    storage = bootstrapped([1])
    node = RawNode(Config(id=1, storage=storage, rng=random.Random(1), **options))
    node.campaign()
    work(node, storage)
    return node, storage


def work(node: RawNode, storage: MemoryStorage) -> list[Entry]:
    applied: list[Entry] = []
    while node.has_ready():
        ready = node.ready()
        storage.append(ready.entries)
        applied += ready.committed_entries
        node.advance(ready)
    return applied


class TestConfig:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"id": 0}, "raft id 0"),
            ({"id": 2**64}, "raft id"),
            ({"heartbeat_tick": 0}, "heartbeat_tick 0 must be greater than 0"),
            ({"election_tick": 1}, "election_tick 1 must be greater than heartbeat_tick 1"),
            ({"max_inflight_msgs": 0}, "max_inflight_msgs 0 must be"),
            ({"max_inflight_bytes": 5}, "max_inflight_bytes 5 must not be below"),
            ({"read_only": ReadOnlyOption.LEASE_BASED}, "LEASE_BASED needs check_quorum"),
        ],
    )
    def test_what_cannot_work_is_refused(self, options, reason):
        with pytest.raises(ValueError, match=reason):
            Config(**{"id": 1, "storage": MemoryStorage(), "rng": random.Random(1), **options})

    def test_ids_are_any_uint64(self):
        big = 2**64 - 1
        storage = bootstrapped([big])
        node = RawNode(Config(id=big, storage=storage, rng=random.Random(1)))
        node.campaign()
        work(node, storage)
        assert node.status().lead == big


class TestStart:
    def test_a_restart_goes_on_where_it_was(self):
        storage = bootstrapped([1, 2], term=4, vote=2, commit=3)
        storage.append([Entry(term=3, index=2), Entry(term=4, index=3, data=b"x")])
        node = RawNode(Config(id=1, storage=storage, rng=random.Random(1), applied=2))
        status = node.basic_status()
        assert (status.term, status.vote, status.commit, status.applied) == (4, 2, 3, 2)
        ready = node.ready()
        assert [entry.data for entry in ready.committed_entries] == [b"x"]
        assert ready.hard_state is None
        assert not ready.must_sync

    def test_a_commit_index_ahead_of_the_log_is_lowered(self):
        node = RawNode(
            Config(id=1, storage=bootstrapped([1, 2], term=4, commit=9), rng=random.Random(1))
        )
        assert node.basic_status().commit == 1

    def test_what_was_applied_is_committed(self):
        storage = bootstrapped([1, 2], term=4, commit=2)
        storage.append([Entry(term=4, index=2), Entry(term=4, index=3)])
        node = RawNode(Config(id=1, storage=storage, rng=random.Random(1), applied=3))
        assert (node.basic_status().commit, node.basic_status().applied) == (3, 3)

    def test_state_ahead_of_the_log_is_refused(self):
        with pytest.raises(ValueError, match="applied 5 is beyond the last entry 1"):
            RawNode(Config(id=1, storage=bootstrapped([1]), rng=random.Random(1), applied=5))

    def test_a_node_that_knows_nothing_waits(self):
        node = RawNode(Config(id=3, storage=MemoryStorage(), rng=random.Random(1)))
        for _ in range(50):
            node.tick()
        assert not node.has_ready()
        assert node.basic_status().role is Role.FOLLOWER

    def test_a_learner_does_not_campaign(self, make_group):
        group = make_group([1, 2], learners=[3])
        group.tick(3, 50)
        group[3].node.campaign()
        assert group[3].raft.role is Role.FOLLOWER


class TestStep:
    @pytest.mark.parametrize("name", ["HUP", "BEAT", "UNREACHABLE", "SNAP_STATUS", "CHECK_QUORUM"])
    def test_local_messages_come_from_no_peer(self, name):
        node, _ = single()
        with pytest.raises(StepLocalMessage):
            node.step(Message(type=MessageType.Value("MSG_" + name), from_=2, to=1, term=9))

    @pytest.mark.parametrize("name", ["APP", "HEARTBEAT", "SNAP", "VOTE", "PRE_VOTE"])
    @pytest.mark.parametrize("sender", [{"from_": 1, "term": 9}, {"from_": 2}, {"term": 9}])
    def test_what_leaders_and_candidates_send_has_a_sender_and_a_term(self, name, sender):
        node = RawNode(Config(id=1, storage=MemoryStorage(), rng=random.Random(1)))
        with pytest.raises(StepLocalMessage, match="must come from a peer in a term"):
            node.step(Message(type=MessageType.Value("MSG_" + name), to=1, **sender))
        assert not node.has_ready()

    def test_answers_of_strangers_are_refused(self):
        node, _ = single()
        with pytest.raises(StepPeerNotFound, match="77 is not in the configuration"):
            node.step(Message(type=MessageType.MSG_APP_RESP, from_=77, to=1, term=1))

    def test_an_unknown_kind_of_message_is_ignored(self):
        node, _ = single()
        message = Message(from_=2, to=1, term=1)
        message.type = 99
        node.step(message)
        assert not node.has_ready()


class TestProposals:
    def test_they_are_dropped_without_a_leader(self, make_group):
        group = make_group([1, 2, 3])
        with pytest.raises(ProposalDropped, match="no leader"):
            group[1].node.propose(b"x")
        group[1].node.campaign()
        with pytest.raises(ProposalDropped, match="no leader"):
            group[1].node.propose(b"x")

    def test_the_leader_says_where_they_are(self):
        node, storage = single()
        assert [node.propose(b"a"), node.propose(b"b")] == [3, 4]
        assert [(e.index, e.data) for e in work(node, storage)] == [(3, b"a"), (4, b"b")]

    def test_a_follower_forwards_them(self, make_group):
        group = make_group([1, 2, 3])
        group.elect(1)
        assert group[2].node.propose(b"from two") == 0
        group.settle()
        assert group[3].data() == [b"from two"]

    def test_unless_it_is_told_not_to(self, make_group):
        group = make_group([1, 2, 3], disable_proposal_forwarding=True)
        group.elect(1)
        with pytest.raises(ProposalDropped, match="forwards no proposals"):
            group[2].node.propose(b"x")

    def test_what_comes_back_to_its_sender_is_not_sent_round_again(self, make_group):
        """Two nodes may take each other for the leader."""
        group = make_group([1, 2, 3])
        group[1].raft.become_follower(1, 2)
        group[2].raft.become_follower(1, 1)
        group[1].node.propose(b"x")
        group[1].node.read_index(b"r")
        for _ in range(10):
            group.work()
            group.deliver()
        group.work()
        assert group.messages == []

    def test_too_much_uncommitted_drops_them_until_some_is_applied(self, make_group):
        group = make_group([1, 2, 3], max_uncommitted_size=100)
        leader = group.elect(1).node
        group.isolate(1)
        leader.propose(b"x" * 60)
        with pytest.raises(ProposalDropped, match="more than 100 bytes"):
            leader.propose(b"x" * 60)
        leader.propose(b"")
        group.heal()
        group.tick(1)
        group.settle()
        assert leader.propose(b"x" * 200)
        group.settle()
        assert [len(data) for data in group[3].data()] == [60, 200]

    def test_what_a_leader_inherited_is_no_credit(self, make_group):
        group = make_group([1, 2, 3], max_uncommitted_size=100)
        group.elect(1).node.propose(b"x" * 60)
        group.work(1)
        group.deliver()
        group.work(2, 3)
        group.messages.clear()
        leader = group.elect(2).node
        assert [len(data) for data in group[2].data()] == [60]
        group.isolate(2)
        leader.propose(b"y" * 90)
        with pytest.raises(ProposalDropped):
            leader.propose(b"y" * 60)

    def test_what_a_fallen_leader_proposed_is_not_held_against_it(self, make_group):
        group = make_group([1, 2, 3], max_uncommitted_size=100)
        leader = group.elect(1).node
        group.isolate(1)
        leader.propose(b"x" * 60)
        group.work()
        group.elect(2)
        group.heal()
        group.tick(2)
        group.settle()
        group.elect(1)
        assert leader.propose(b"y" * 60)
        group.settle()
        assert group[3].data() == [b"y" * 60]

    def test_a_dropped_change_leaves_no_change_pending(self, make_group):
        group = make_group([1, 2, 3], max_uncommitted_size=20)
        leader = group.elect(1).node
        leader.propose(b"x" * 30)
        add = change((ADD, 4), context=b"y" * 30)
        with pytest.raises(ProposalDropped):
            leader.propose_conf_change(add)
        assert leader.conf_change_obstacle(add) is None

    def test_a_change_that_cannot_be_read_is_dropped(self):
        node, _ = single()
        message = Message(
            type=MessageType.MSG_PROP, from_=1, entries=[Entry(type=1, data=b"\xff\xff")]
        )
        with pytest.raises(ProposalDropped, match="cannot be read"):
            node.step(message)

    def test_a_change_dropped_with_another_is_not_waited_for(self):
        node, storage = single()
        good = Entry(type=1, data=change((ADD, 2)).SerializeToString())
        message = Message(
            type=MessageType.MSG_PROP, from_=1, entries=[good, Entry(type=1, data=b"\xff\xff")]
        )
        with pytest.raises(ProposalDropped, match="cannot be read"):
            node.step(message)
        assert work(node, storage) == []
        assert node.conf_change_obstacle(change((ADD, 2))) is None

    def test_the_proposer_s_message_is_not_touched(self):
        node, _ = single()
        message = Message(type=MessageType.MSG_PROP, from_=9, entries=[Entry(data=b"x")])
        before = Message.FromString(message.SerializeToString())
        node.step(message)
        assert message == before


class TestReady:
    def test_numbers_count_up_and_an_empty_one_is_empty(self):
        node, _ = single()
        first = node.ready()
        node.advance(first)
        second = node.ready()
        assert second.number == first.number + 1
        assert [second.entries, second.messages, second.committed_entries] == [[], [], []]
        assert second.hard_state is None
        assert second.soft_state is None

    def test_one_at_a_time_unless_writes_are_asynchronous(self):
        node, _ = single()
        node.propose(b"x")
        node.ready()
        with pytest.raises(AssertionError):
            node.ready()

    def test_a_new_commit_alone_needs_no_sync(self):
        node, storage = single()
        node.propose(b"x")
        ready = node.ready()
        assert ready.must_sync
        storage.append(ready.entries)
        node.advance(ready)
        ready = node.ready()
        assert ready.hard_state == HardState(term=1, vote=1, commit=3)
        assert not ready.must_sync

    def test_what_is_given_out_to_apply_is_limited(self):
        node, storage = single(max_committed_size_per_ready=250)
        for _ in range(5):
            node.propose(b"x" * 100)
        sizes: list[int] = []
        while node.has_ready():
            ready = node.ready()
            storage.append(ready.entries)
            sizes.append(len(ready.committed_entries))
            node.advance(ready)
        assert [size for size in sizes if size] == [2, 2, 1]

    def test_one_entry_above_the_limit_still_comes(self):
        node, storage = single(max_committed_size_per_ready=10)
        node.propose(b"x" * 100)
        assert [len(e.data) for e in work(node, storage)] == [100]

    def test_several_share_a_sync(self):
        node, storage = single(async_storage_writes=True)
        readys = []
        for data in (b"a", b"b", b"c"):
            node.propose(data)
            readys.append(node.ready())
        assert node.raft.log.committed == 2
        for ready in readys:
            storage.append(ready.entries)
        node.persisted(readys[-1])
        assert node.raft.log.committed == 5
        node.persisted(readys[0])
        assert [e.data for e in node.ready().committed_entries] == [b"a", b"b", b"c"]

    def test_applying_falls_behind_without_holding_up_writing(self):
        node, storage = single(async_storage_writes=True)
        given: list[int] = []
        for data in (b"a", b"b", b"c"):
            node.propose(data)
            while node.has_ready():
                ready = node.ready()
                storage.append(ready.entries)
                given += [entry.index for entry in ready.committed_entries]
                node.persisted(ready)
        assert given == [3, 4, 5]
        assert node.basic_status().applied == 2
        node.applied(4)
        node.applied(5)
        assert node.basic_status().applied == 5

    def test_an_older_word_of_what_is_applied_changes_nothing(self):
        node, _ = single()
        node.applied(1)
        assert node.basic_status().applied == 2


class TestMembership:
    def test_an_invalid_change_raises_everywhere_and_changes_nothing(self):
        node, _ = single()
        before = node.status().conf_state
        with pytest.raises(ValueError, match="removed all voters"):
            node.apply_conf_change(change((REMOVE, 1)))
        assert node.status().conf_state == before

    @pytest.mark.parametrize("steps_down", [True, False])
    def test_a_leader_that_is_demoted_steps_down_if_it_is_to(self, make_group, steps_down):
        group = make_group([1, 2, 3], step_down_on_removal=steps_down)
        leader = group.elect(1).node
        leader.propose_conf_change(change((CONF_CHANGE_ADD_LEARNER_NODE, 1)))
        group.settle()
        assert list(leader.status().conf_state.learners) == [1]
        assert group.leaders() == ([] if steps_down else [1])

    def test_obstacles_are_told(self, make_group):
        group = make_group([1, 2, 3])
        assert group[1].node.conf_change_obstacle(change((ADD, 4))) == "this node does not lead"
        leader = group.elect(1).node
        assert leader.conf_change_obstacle(change((ADD, 4))) is None
        assert "nothing to leave" in leader.conf_change_obstacle(change())
        gone = leader.conf_change_obstacle(change((REMOVE, 1), (REMOVE, 2), (REMOVE, 3)))
        assert gone == "removed all voters"

    def test_a_new_leader_waits_for_what_it_inherited(self, make_group):
        """It may hold a change: one on top of an unapplied one could make two majorities."""
        group = make_group([1, 2, 3])
        group.elect(1)
        group[1].node.propose_conf_change(change((ADD, 4)))
        inherited = group[1].raft.log.last_index()
        group.work(1)
        group.deliver()
        group.work(2, 3)
        group.isolate(1)
        group.deliver()
        leader = group[2]
        leader.node.campaign()
        while leader.raft.role is not Role.LEADER:
            group.work(2, 3)
            group.deliver()
        obstacle = leader.node.conf_change_obstacle(change((ADD, 5)))
        assert f"may wait at index {inherited}" in obstacle
        group.settle()
        assert list(leader.conf_state.voters) == [1, 2, 3, 4]
        assert leader.node.conf_change_obstacle(change((ADD, 5))) is None

    def test_a_new_leader_with_everything_applied_changes_at_once(self, make_group):
        group = make_group([1, 2, 3])
        leader = group[1]
        leader.node.campaign()
        while leader.raft.role is not Role.LEADER:
            group.work()
            group.deliver()
        assert leader.raft.log.applied == 1
        leader.node.propose_conf_change(change((ADD, 4)))
        group.settle()
        assert list(leader.conf_state.voters) == [1, 2, 3, 4]

    def test_unchecked_when_the_caller_checks(self):
        node, _ = single(disable_conf_change_validation=True)
        node.propose_conf_change(change((ADD, 2)))
        node.propose_conf_change(change((ADD, 3)))
        entries = node.ready().entries
        assert [entry.type for entry in entries] == [1, 1]

    def test_a_group_grows_from_one_to_five_and_shrinks_to_one(self, make_group):
        group = make_group([1], check_quorum=True, pre_vote=True, step_down_on_removal=True)
        group.elect(1)
        for id_ in (2, 3, 4, 5):
            group.add(id_)
            group[1].node.propose_conf_change(change((ADD, id_)))
            group.settle()
        assert list(group[5].conf_state.voters) == [1, 2, 3, 4, 5]
        group[1].node.propose_conf_change(change(*[(REMOVE, id_) for id_ in (1, 2, 3, 4)]))
        group.settle()
        assert group.leaders() == []
        for _ in range(20):
            group.tick(5)
            group.settle()
        assert group.leaders() == [5]
        group[5].node.propose(b"alone")
        group.settle()
        assert group[5].data()[-1] == b"alone"
        assert list(group[5].node.status().conf_state.voters) == [5]

    def test_a_removed_transferee_ends_the_transfer(self, make_group):
        group = make_group([1, 2, 3])
        leader = group.elect(1).node
        group.isolate(3)
        leader.propose_conf_change(change((REMOVE, 3)))
        leader.transfer_leader(3)
        group.settle()
        assert leader.basic_status().lead_transferee == 0
        assert leader.propose(b"again")

    def test_leaving_waits_while_leadership_is_transferred(self, make_group):
        group = make_group([1, 2, 3], election_tick=3)
        leader = group.elect(1)
        group.isolate(3)
        leader.node.propose_conf_change(change((ADD, 4), (REMOVE, 2)))
        group.add(4)
        leader.node.transfer_leader(3)
        group.settle()
        assert leader.node.status().conf_state.auto_leave
        group.tick(1, 3)
        group.settle()
        assert list(leader.node.status().conf_state.voters) == [1, 3, 4]
        assert not leader.node.status().conf_state.voters_outgoing


class TestReads:
    def test_fewer_voters_answer_reads_that_wait(self, make_group):
        group = make_group([1, 2, 3], index=2)
        leader = group.elect(1)
        leader.node.propose_conf_change(change((REMOVE, 2), (REMOVE, 3), transition=2))
        group.settle()
        leader.node.propose_conf_change(change())
        group.work(1)
        group.deliver()
        group.work(2, 3)
        leader.node.read_index(b"r")
        group.cut = {(2, 1), (3, 1)}  # what they answer from now on
        group.messages, acknowledged = [], group.messages
        for message in acknowledged:
            leader.node.step(message)
        group.settle()
        assert not leader.node.status().conf_state.voters_outgoing
        assert [read.request_ctx for read in leader.read_states] == [b"r"]

    def test_an_echo_confirms_no_read_that_was_asked_after_it(self, make_group):
        """However large the number that it carries."""
        group = make_group([1, 2, 3])
        leader = group.elect(1)
        leader.node.read_index(b"first")
        leader.node.step(
            Message(
                type=MessageType.MSG_HEARTBEAT_RESP, from_=2, to=1, term=1,
                context=(100).to_bytes(8, "big"),
            )
        )  # fmt: skip
        group.isolate(1)
        leader.node.read_index(b"second")
        group.settle()
        assert [read.request_ctx for read in leader.read_states] == [b"first"]

    def test_a_read_is_not_answered_by_learners(self, make_group):
        group = make_group([1, 2, 3], learners=[4, 5])
        leader = group.elect(1)
        group.isolate(2, 3)
        leader.node.read_index(b"r")
        group.settle()
        assert leader.read_states == []

    def test_a_read_sees_what_was_acknowledged_before_it(self, make_group):
        group = make_group([1, 2, 3])
        leader = group.elect(1)
        index = leader.node.propose(b"x")
        group.settle()
        group[3].node.read_index(b"r")
        group.settle()
        assert group[3].read_states[0].index >= index

    def test_a_lost_round_is_made_good_by_the_next_heartbeat(self, make_group):
        group = make_group([1, 2, 3])
        leader = group.elect(1)
        group.isolate(1)
        leader.node.read_index(b"r")
        group.settle()
        group.heal()
        assert leader.read_states == []
        group.tick(1)
        group.settle()
        assert [read.request_ctx for read in leader.read_states] == [b"r"]

    def test_a_deposed_leader_answers_nothing_from_before_when_it_leads_again(self, make_group):
        """It may have been asked after another had committed more."""
        group = make_group([1, 2, 3])
        old = group.elect(1)
        group.isolate(1)
        old.node.read_index(b"asked of the old leader")
        group.work(1)
        group.elect(2).node.propose(b"new")
        group.settle()
        group.heal()
        group.tick(2)
        group.settle()
        group.elect(1)
        group.tick(1)
        old.node.read_index(b"asked of the new one")
        group.settle()
        assert [read.request_ctx for read in old.read_states] == [b"asked of the new one"]

    def test_without_a_leader_nothing_comes(self, make_group):
        group = make_group([1, 2, 3])
        group[1].node.read_index(b"r")
        assert not group[1].node.has_ready()

    def test_a_single_voter_waits_for_its_own_commit_too(self):
        """After a restart its commit index may be behind what it had acknowledged."""
        storage = bootstrapped([1], term=1, commit=1)
        storage.append([Entry(term=1, index=2, data=b"acknowledged")])
        node = RawNode(Config(id=1, storage=storage, rng=random.Random(1)))
        node.campaign()
        node.advance(node.ready())
        assert node.basic_status().role is Role.LEADER
        node.read_index(b"r")
        states = []
        while node.has_ready():
            ready = node.ready()
            storage.append(ready.entries)
            states += ready.read_states
            node.advance(ready)
        assert [state.index for state in states] == [3]

    def test_a_lease_answers_at_once(self, make_group):
        group = make_group([1, 2, 3], check_quorum=True, read_only=ReadOnlyOption.LEASE_BASED)
        leader = group.elect(1)
        leader.node.read_index(b"r")
        ready = leader.node.ready()
        assert [read.request_ctx for read in ready.read_states] == [b"r"]
        assert ready.messages == []


class TestSnapshots:
    def test_one_that_is_being_made_is_asked_for_again(self, make_group):
        group = make_group([1, 2, 3])
        leader = group.elect(1)
        group.isolate(3)
        leader.node.propose(b"x")
        group.settle()
        leader.storage.compact(3)

        def not_yet():
            raise SnapshotTemporarilyUnavailable

        leader.storage.snapshot = not_yet
        group.heal()
        group.tick(1)
        group.settle()
        assert leader.node.status().progress[3].state is ProgressState.PROBE
        del leader.storage.snapshot
        group.tick(1)
        group.settle()
        assert leader.node.status().progress[3].match == 3

    def test_a_silent_follower_is_sent_none(self, make_group):
        group = make_group([1, 2, 3], check_quorum=True, election_tick=4)
        leader = group.elect(1)
        group.isolate(3)
        leader.node.propose(b"x")
        for _ in range(10):
            group.tick(1)
            group.settle()
        leader.storage.compact(3)
        leader.node.report_unreachable(3)
        leader.node.propose(b"y")
        group.settle()
        assert not any(m.type == MessageType.MSG_SNAP for m in group.lost)

    def test_an_older_one_is_answered_with_what_is_there(self, make_group):
        group = make_group([1, 2])
        group.elect(1)
        old = Snapshot(index=1, term=1, conf_state=ConfState(voters=[1, 2]))
        group[2].node.step(Message(type=MessageType.MSG_SNAP, from_=1, to=2, term=1, snapshot=old))
        (answer,) = group[2].work()
        assert (answer.type, answer.index) == (MessageType.MSG_APP_RESP, 2)

    def test_an_older_one_acknowledges_no_more_than_is_committed(self):
        storage = bootstrapped([1, 2], term=2)
        storage.append([Entry(term=2, index=2), Entry(term=2, index=3)])
        node = RawNode(Config(id=2, storage=storage, rng=random.Random(1)))
        old = Snapshot(index=1, term=1, conf_state=ConfState(voters=[1, 2]))
        node.step(Message(type=MessageType.MSG_SNAP, from_=1, to=2, term=2, snapshot=old))
        assert [m.index for m in node.ready().messages] == [1]

    def test_an_append_from_below_one_is_answered_with_what_is_committed(self):
        storage = MemoryStorage()
        state = ConfState(voters=[1, 2])
        storage.apply_snapshot(Snapshot(index=5, term=2, conf_state=state))
        storage.set_hard_state(HardState(term=2, commit=5))
        node = RawNode(Config(id=2, storage=storage, rng=random.Random(1)))
        node.step(
            Message(type=MessageType.MSG_APP, from_=1, to=2, term=2, index=3, log_term=1, commit=4)
        )
        (answer,) = node.ready().messages
        assert (answer.index, answer.reject) == (5, False)

    def test_one_whose_entries_are_there_only_moves_the_commit_index(self, make_group):
        group = make_group([1, 2, 3])
        group.elect(1)
        group[1].node.propose(b"x")
        group.work(1)
        group.deliver()
        group.work(2)
        assert group[2].raft.log.committed == 2
        group[2].node.step(
            Message(
                type=MessageType.MSG_SNAP, from_=1, to=2, term=1,
                snapshot=Snapshot(index=3, term=1, conf_state=ConfState(voters=[1, 2, 3])),
            )
        )  # fmt: skip
        ready = group[2].node.ready()
        assert ready.snapshot is None
        assert [entry.data for entry in ready.committed_entries] == [b"x"]

    def test_a_node_may_be_sent_one_from_before_it_was_added(self, make_group):
        group = make_group([1], index=2)
        leader = group.elect(1)
        before = leader.storage.latest
        leader.node.propose_conf_change(change((ADD, 2)))
        leader.node.propose(b"x")
        group.settle()
        leader.storage.latest = before
        leader.storage.compact(3)
        group.add(2)
        leader.node.report_snapshot(2, ok=False)
        group.tick(1)
        group.settle()
        assert list(group[2].conf_state.voters) == [1, 2]
        assert group[2].data()[-1] == b"x"

    def test_a_conflicting_tail_does_not_survive_one(self):
        """hashicorp/raft#704: an entry at the snapshot's index that is not the snapshot's."""
        storage = bootstrapped([1, 2], term=2)
        storage.append([Entry(term=1, index=index) for index in range(2, 8)])
        node = RawNode(Config(id=2, storage=storage, rng=random.Random(1)))
        snapshot = Snapshot(index=5, term=2, conf_state=ConfState(voters=[1, 2]))
        node.step(Message(type=MessageType.MSG_SNAP, from_=1, to=2, term=2, snapshot=snapshot))
        ready = node.ready()
        assert ready.snapshot == snapshot
        storage.apply_snapshot(snapshot)
        node.advance(ready)
        assert (storage.last_index(), node.basic_status().applied) == (5, 5)
        assert [m.index for m in ready.messages] == [5]

    @pytest.mark.parametrize("written_first", [True, False])
    def test_nobody_campaigns_while_one_is_being_written_or_applied(self, written_first):
        storage = bootstrapped([1, 2])
        node = RawNode(
            Config(id=2, storage=storage, rng=random.Random(1), async_storage_writes=True)
        )
        snapshot = Snapshot(index=5, term=2, conf_state=ConfState(voters=[1, 2]))
        node.step(Message(type=MessageType.MSG_SNAP, from_=1, to=2, term=2, snapshot=snapshot))
        ready = node.ready()
        node.campaign()
        assert node.basic_status().role is Role.FOLLOWER
        storage.apply_snapshot(snapshot)
        done = [lambda: node.persisted(ready), lambda: node.applied(5)]
        first, second = done if written_first else reversed(done)
        first()
        node.campaign()
        assert node.basic_status().role is Role.FOLLOWER
        second()
        node.campaign()
        assert node.basic_status().role is Role.CANDIDATE

    def test_entries_after_one_may_come_in_the_same_ready(self):
        storage = bootstrapped([1, 2])
        node = RawNode(Config(id=2, storage=storage, rng=random.Random(1)))
        snapshot = Snapshot(index=5, term=2, conf_state=ConfState(voters=[1, 2]))
        node.step(Message(type=MessageType.MSG_SNAP, from_=1, to=2, term=2, snapshot=snapshot))
        node.step(
            Message(
                type=MessageType.MSG_APP, from_=1, to=2, term=2, index=5, log_term=2, commit=6,
                entries=[Entry(term=2, index=6)],
            )
        )  # fmt: skip
        ready = node.ready()
        assert (ready.snapshot, [e.index for e in ready.entries]) == (snapshot, [6])
        assert ready.committed_entries == []
        storage.apply_snapshot(snapshot)
        storage.append(ready.entries)
        node.advance(ready)
        assert [e.index for e in node.ready().committed_entries] == [6]

    def test_a_report_for_nobody_or_by_nobody_changes_nothing(self):
        node, _ = single()
        node.report_snapshot(9, ok=True)
        node.report_unreachable(9)
        follower = RawNode(Config(id=2, storage=bootstrapped([1, 2]), rng=random.Random(1)))
        follower.report_snapshot(1, ok=False)
        follower.report_unreachable(1)
        assert not follower.has_ready()


class TestStatus:
    def test_the_leader_knows_everybody(self, make_group):
        group = make_group([1, 2], learners=[3])
        group.elect(1)
        status = group[1].node.status()
        assert (status.role, status.lead, status.term, status.commit) == (Role.LEADER, 1, 1, 2)
        assert list(status.conf_state.learners) == [3]
        assert status.progress[3].is_learner
        assert status.progress[2].match == 2
        assert status.progress[2].recent_active
        assert group[2].node.status().progress == {}


class TestTransfer:
    def test_a_transfer_shows(self, make_group):
        group = make_group([1, 2, 3])
        leader = group.elect(1).node
        leader.transfer_leader(2)
        assert leader.basic_status().lead_transferee == 2
        leader.transfer_leader(3)
        assert leader.basic_status().lead_transferee == 3

    def test_a_transfer_back_to_the_leader_ends_the_one_under_way(self, make_group):
        group = make_group([1, 2, 3])
        leader = group.elect(1).node
        group.isolate(3)
        leader.transfer_leader(3)
        group.settle()
        leader.transfer_leader(1)
        assert leader.basic_status().lead_transferee == 0
        assert leader.propose(b"taken again")
        leader.transfer_leader(1)
        assert leader.basic_status().role is Role.LEADER

    def test_learners_are_given_no_leadership(self, make_group):
        group = make_group([1, 2], learners=[3])
        leader = group.elect(1).node
        leader.transfer_leader(3)
        assert leader.basic_status().lead_transferee == 0

    def test_it_has_an_election_timeout_from_when_it_was_asked_for(self, make_group):
        group = make_group([1, 2, 3], election_tick=5)
        leader = group.elect(1).node
        group.isolate(3)
        group.tick(1, 4)
        leader.transfer_leader(3)
        group.tick(1, 4)
        assert leader.basic_status().lead_transferee == 3
        group.tick(1)
        assert leader.basic_status().lead_transferee == 0
