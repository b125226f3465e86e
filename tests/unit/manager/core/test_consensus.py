"""The driver of Raft, where the simulator can't lead."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.node_pb2 import Member
from swarm.api.v1.raft_pb2 import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    ENTRY_CONF_CHANGE,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HUP,
    MSG_PROP,
    MSG_VOTE,
    ConfChange,
    ConfChangeSingle,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)
from swarm.api.v1.store_pb2 import Change, LogPayload, MemberChange, Transaction
from swarm.manager.core.consensus import Consensus, Timing, storage_from
from swarm.manager.core.effects import CompactLog, Effect, Persist, SaveSnapshot, SendSnapshot
from swarm.manager.core.raft import MemoryStorage, RaftCorrupt, Role
from swarm.manager.core.store import Store, wrap


def follower() -> Consensus:
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(index=1, term=1, conf_state=ConfState(voters=[1, 2])))
    storage.set_hard_state(HardState(term=1, commit=1))
    return Consensus(1, storage, Store(), random.Random(1), b"nonce")


def test_who_lost_a_part_of_its_log_does_not_go_on():
    heartbeat = Message(type=MSG_HEARTBEAT, from_=2, to=1, term=1, commit=9)
    with pytest.raises(RaftCorrupt, match="lost a part of its log"):
        follower().received([heartbeat])


def test_what_cannot_be_of_a_peer_is_passed_over():
    consensus = follower()
    consensus.received(
        [
            Message(type=MSG_HUP, from_=2, to=1),
            Message(type=MSG_VOTE, from_=2, to=1),
            Message(type=MSG_APP_RESP, from_=9, to=1, term=1),
            Message(type=MSG_PROP, from_=2, to=1),
        ]
    )
    assert consensus.node.basic_status().role is Role.FOLLOWER


EMPTY = LogPayload(proposed_at_ns=1).SerializeToString()


@dataclass
class Driven:
    """A consensus whose disk is quick, and whose messages nobody gets."""

    consensus: Consensus
    effects: list[Effect] = field(default_factory=list[Effect])

    def turn(self) -> None:
        """Until nothing is left to do."""
        while True:
            out: list[Effect] = []
            self.consensus.drain(0.0, out)
            for effect in out:
                if isinstance(effect, Persist):
                    self.consensus.persisted(effect.number, self.effects)
                elif isinstance(effect, SaveSnapshot):
                    self.consensus.snapshot_saved(effect.index, self.effects)
            self.effects += out
            if not out:
                return

    def tick(self) -> None:
        self.consensus.tick(0.0, 0.1)
        self.turn()

    def propose(self, count: int) -> None:
        for _ in range(count):
            assert self.consensus.propose(EMPTY) is not None
            self.turn()

    def saved(self) -> list[int]:
        return [effect.index for effect in self.effects if isinstance(effect, SaveSnapshot)]

    def compacted(self) -> list[int]:
        return [effect.index for effect in self.effects if isinstance(effect, CompactLog)]


def driven(
    voters: Sequence[int] = (1,),
    *,
    timing: Timing | None = None,
    store: Store | None = None,
    entries: Sequence[Entry] = (),
    committed: int = 1,
) -> Driven:
    snapshot = Snapshot(index=1, term=1, conf_state=ConfState(voters=voters))
    storage = storage_from(snapshot, HardState(term=1, commit=committed), entries)
    consensus = Consensus(
        1, storage, store or Store(), random.Random(1), b"nonce123", timing or Timing()
    )
    return Driven(consensus)


def test_the_only_voter_leads_at_once() -> None:
    alone = driven()
    alone.tick()
    assert alone.consensus.leads_and_knows


@pytest.mark.parametrize("voters", [(1, 2), (2,), (1, 2, 3)])
def test_others_wait_for_an_election(voters: Sequence[int]) -> None:
    one_of = driven(voters)
    one_of.tick()
    assert one_of.consensus.term == 1
    assert not one_of.consensus.leading


def test_whoever_votes_by_a_committed_entry_is_heard_first() -> None:
    """The snapshot says that it is alone, the log behind it does not."""
    change = ConfChange(changes=[ConfChangeSingle(node_id=2)])
    entry = Entry(index=2, term=1, type=ENTRY_CONF_CHANGE, data=change.SerializeToString())
    not_alone = driven(entries=[entry], committed=2)
    not_alone.consensus.tick(0.0, 0.1)
    not_alone.turn()
    not_alone.tick()
    assert list(not_alone.consensus.conf_state.voters) == [1, 2]
    assert not not_alone.consensus.leading


def with_snapshots_every(entries: int) -> Store:
    store = Store()
    cluster = Cluster(id="c")
    cluster.spec.snapshot_interval = entries
    transaction = Transaction(changes=[Change(create=wrap(cluster))])
    store.apply(1, 1, LogPayload(proposed_at_ns=1, transactions=[transaction]))
    return store


def test_the_log_below_a_snapshot_goes() -> None:
    alone = driven(store=with_snapshots_every(20), timing=Timing(kept_entries=5))
    alone.tick()
    alone.propose(50)
    assert alone.saved() == [21, 41]
    assert alone.compacted() == [16, 36]
    assert alone.consensus.storage.first_index() == 37


def test_the_log_behind_a_snapshot_that_is_on_its_way_is_kept_for_two_intervals() -> None:
    alone = driven(store=with_snapshots_every(20), timing=Timing(kept_entries=5))
    alone.tick()
    alone.propose(25)
    with_learner(alone)
    (sent,) = [effect for effect in alone.effects if isinstance(effect, SendSnapshot)]
    assert sent.message.snapshot.index == 21
    alone.propose(40)
    assert alone.saved() == [21, 41, 61]
    assert alone.consensus.storage.first_index() == 22
    alone.propose(20)
    assert alone.saved()[-1] == 81
    assert alone.consensus.storage.first_index() == 81 - 2 * 20 + 1
    # What it lacks is gone: it will need another snapshot, and holds nothing up any more.
    alone.propose(20)
    assert alone.saved()[-1] == 101
    assert alone.consensus.storage.first_index() == 101 - 5 + 1


def with_learner(alone: Driven) -> None:
    """A member joins that has nothing."""
    member = Member(id="2", raft_id=2, node_id="n", learner=True)
    change = ConfChange(
        changes=[ConfChangeSingle(type=CONF_CHANGE_ADD_LEARNER_NODE, node_id=2)],
        context=MemberChange(member=member, proposed_at_ns=1).SerializeToString(),
    )
    assert alone.consensus.propose_conf_change(change) is None
    alone.turn()
    term, probed = alone.consensus.term, alone.consensus.node.status().progress[2].next - 1
    nothing = Message(type=MSG_APP_RESP, from_=2, to=1, term=term, reject=True, index=probed)
    alone.consensus.received([nothing])
    alone.turn()
