"""Where every message and every tick enters: the rules of terms, then the role's own."""

from __future__ import annotations

from swarm.api.v1.raft_pb2 import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    Message,
)
from swarm.manager.core.raft.election import (
    CAMPAIGN_TRANSFER,
    handle_vote_request,
    learn_commit,
    reject_vote,
    start_election,
)
from swarm.manager.core.raft.follower import step_candidate, step_follower
from swarm.manager.core.raft.leader import abandon_transfer, check_quorum, step_leader
from swarm.manager.core.raft.raft import NOBODY, Raft
from swarm.manager.core.raft.ready import Role
from swarm.manager.core.raft.replication import broadcast_heartbeat

_VOTE_REQUESTS = (MSG_VOTE, MSG_PRE_VOTE)
_VOTE_RESPONSES = (MSG_VOTE_RESP, MSG_PRE_VOTE_RESP)
_FROM_LEADER = (MSG_APP, MSG_HEARTBEAT, MSG_SNAP)
_WITHOUT_TERM = (MSG_PROP, MSG_READ_INDEX)


def step(raft: Raft, message: Message) -> None:
    """Take one message. Raises ProposalDropped for a proposal that could not be taken."""
    if message.type in _VOTE_RESPONSES and message.reject:
        learn_commit(raft, message)
    if message.type not in _WITHOUT_TERM:
        if message.term > raft.term:
            if not _take_higher_term(raft, message):
                return
        elif message.term < raft.term:
            _answer_lower_term(raft, message)
            return
    if message.type in _VOTE_REQUESTS:
        handle_vote_request(raft, message)
    elif raft.role is Role.LEADER:
        step_leader(raft, message)
    elif raft.role is Role.FOLLOWER:
        step_follower(raft, message)
    else:
        step_candidate(raft, message)


def _take_higher_term(raft: Raft, message: Message) -> bool:
    """Enter the message's term where it calls for that; False when it is to be ignored."""
    kind = message.type
    if kind in _VOTE_REQUESTS and message.context != CAMPAIGN_TRANSFER and raft.in_lease():
        return False
    if kind == MSG_PRE_VOTE or (kind == MSG_PRE_VOTE_RESP and not message.reject):
        return True  # these speak of a term that nobody has entered
    raft.become_follower(message.term, message.from_ if kind in _FROM_LEADER else NOBODY)
    return True


def _answer_lower_term(raft: Raft, message: Message) -> None:
    """Tell a sender that is behind, where silence would leave somebody stuck."""
    if message.type == MSG_PRE_VOTE:
        reject_vote(raft, message)
    elif message.type in (MSG_APP, MSG_HEARTBEAT) and (
        raft.config.check_quorum or raft.config.pre_vote
    ):
        # With leases or pre-votes, this node's higher term would never reach that leader through
        # a vote request, and the two would ignore one another for ever.
        raft.send(Message(type=MSG_APP_RESP, to=message.from_))


def tick(raft: Raft) -> None:
    """One tick of the clock."""
    raft.election_elapsed += 1
    if raft.role is Role.LEADER:
        _tick_leader(raft)
    elif raft.election_elapsed >= raft.randomized_election_timeout and raft.promotable():
        raft.election_elapsed = 0
        start_election(raft)


def _tick_leader(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    if raft.election_elapsed >= raft.config.election_tick:
        raft.election_elapsed = 0
        if raft.config.check_quorum:
            check_quorum(raft)
        if raft.role is Role.LEADER:
            abandon_transfer(raft)  # it had its time
    if raft.role is Role.LEADER and raft.heartbeat_elapsed >= raft.config.heartbeat_tick:
        raft.heartbeat_elapsed = 0
        broadcast_heartbeat(raft)
