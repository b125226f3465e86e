"""The driver of Raft, where the simulator can't lead."""

import random

import pytest

from swarm.manager.core.consensus import Consensus
from swarm.manager.core.raft import (
    ConfState,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    RaftCorrupt,
    Role,
    Snapshot,
)
from swarm.manager.core.store import Store


def follower() -> Consensus:
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(index=1, term=1, conf_state=ConfState(voters=[1, 2])))
    storage.set_hard_state(HardState(term=1, commit=1))
    return Consensus(1, storage, Store(), random.Random(1), b"nonce")


def test_who_lost_a_part_of_its_log_does_not_go_on():
    heartbeat = Message(type=MessageType.MSG_HEARTBEAT, from_=2, to=1, term=1, commit=9)
    with pytest.raises(RaftCorrupt, match="lost a part of its log"):
        follower().received([heartbeat])


def test_what_cannot_be_of_a_peer_is_passed_over():
    consensus = follower()
    consensus.received(
        [
            Message(type=MessageType.MSG_HUP, from_=2, to=1),
            Message(type=MessageType.MSG_VOTE, from_=2, to=1),
            Message(type=MessageType.MSG_APP_RESP, from_=9, to=1, term=1),
            Message(type=MessageType.MSG_PROP, from_=2, to=1),
        ]
    )
    assert consensus.node.basic_status().role is Role.FOLLOWER
