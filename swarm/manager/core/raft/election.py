"""Who leads: campaigns, votes and their outcome (Raft, 5.2 and 5.4.1; thesis, 4.2.3 and 9.6)."""

from __future__ import annotations

import enum

from swarm.api.v1.raft_pb2 import (
    ENTRY_CONF_CHANGE,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    Entry,
    Message,
)
from swarm.manager.core.raft.quorum import VoteResult
from swarm.manager.core.raft.raft import NOBODY, Raft
from swarm.manager.core.raft.ready import Role
from swarm.manager.core.raft.replication import append_entries, broadcast_append

CAMPAIGN_TRANSFER = b"CampaignTransfer"
"""Context of a vote request that the leader itself asked for: it goes past the lease."""

_RESPONSES = {MSG_VOTE: MSG_VOTE_RESP, MSG_PRE_VOTE: MSG_PRE_VOTE_RESP}


class Campaign(enum.Enum):
    """Why a node campaigns."""

    PRE_ELECTION = "pre-election"
    ELECTION = "election"
    TRANSFER = "transfer"


def start_election(raft: Raft) -> None:
    """Campaign because no leader was heard of, or because the caller wants it."""
    start_campaign(raft, Campaign.PRE_ELECTION if raft.config.pre_vote else Campaign.ELECTION)


def start_campaign(raft: Raft, kind: Campaign) -> None:
    """Campaign unless this node leads, is no voter, or has not applied its configuration."""
    if raft.role is not Role.LEADER and raft.promotable() and not _has_unapplied_change(raft):
        _campaign(raft, kind)


def _has_unapplied_change(raft: Raft) -> bool:
    """Whether a committed configuration change waits to be applied: who votes is not sure then.

    A campaign with the configuration before it could elect a second leader
    (etcd-io/etcd issue 7625).
    """
    log = raft.log
    lo, hi = log.applied + 1, log.committed + 1
    while lo < hi:
        page = log.slice(lo, hi, raft.config.max_size_per_msg)
        if any(entry.type == ENTRY_CONF_CHANGE for entry in page):
            return True
        lo += len(page)
    return False


def _campaign(raft: Raft, kind: Campaign) -> None:
    if kind is Campaign.PRE_ELECTION:
        raft.become_pre_candidate()
        request, response, term = MSG_PRE_VOTE, MSG_PRE_VOTE_RESP, raft.term + 1
    else:
        raft.become_candidate()
        request, response, term = MSG_VOTE, MSG_VOTE_RESP, raft.term
    last_index, last_term = raft.log.last_index(), raft.log.last_term()
    context = CAMPAIGN_TRANSFER if kind is Campaign.TRANSFER else b""
    for node in sorted(raft.tracker.config.voters.ids()):
        if node == raft.id:
            raft.send(Message(type=response, to=node, term=term))
        else:
            raft.send(
                Message(
                    type=request,
                    to=node,
                    term=term,
                    index=last_index,
                    log_term=last_term,
                    context=context,
                )
            )


def handle_vote_request(raft: Raft, message: Message) -> None:
    """Grant or reject a vote or a pre-vote.

    Learners vote too: one may have been promoted without knowing it yet, and be needed.
    """
    pre_vote = message.type == MSG_PRE_VOTE
    may_vote = (
        raft.vote == message.from_
        or (raft.vote == NOBODY and raft.lead == NOBODY)
        or (pre_vote and message.term > raft.term)
    )
    if not may_vote or not raft.log.up_to_date(message.index, message.log_term):
        reject_vote(raft, message)
        return
    # The term asked for, which a pre-candidate is not in yet, and this node may be behind of.
    raft.send(Message(type=_RESPONSES[message.type], to=message.from_, term=message.term))
    if not pre_vote:
        raft.election_elapsed = 0
        raft.vote = message.from_


def reject_vote(raft: Raft, message: Message) -> None:
    """Say no, and up to where this node knows the log to be committed.

    A configuration is in force when it is applied. So a voter that missed only the news of a
    commit may need the vote of a node that was removed or demoted by it, has the longer log, and
    may not campaign itself: without this word the group would be stuck (raft-rs does the same).
    """
    committed = raft.log.committed
    hint = (committed, raft.log.known_term(committed))
    raft.send(
        Message(
            type=_RESPONSES[message.type],
            to=message.from_,
            term=raft.term,
            reject=True,
            context=b"".join(number.to_bytes(8, "big") for number in hint),
        )
    )


def learn_commit(raft: Raft, rejection: Message) -> None:
    """Take what a rejection says is committed, if the log holds that very entry.

    True of any term, so also of a late rejection. A candidate that learns of a change of the
    configuration in this way gives up, and campaigns with the new one.
    """
    context = rejection.context
    if raft.role is Role.LEADER or len(context) != 16:
        return
    index, term = int.from_bytes(context[:8], "big"), int.from_bytes(context[8:], "big")
    learned = raft.log.maybe_commit(index, term)
    if learned and raft.role is not Role.FOLLOWER and _has_unapplied_change(raft):
        raft.become_follower(raft.term, NOBODY)


def handle_vote_response(raft: Raft, message: Message) -> None:
    """Count a vote as a candidate; a vote of the other kind is a stale one."""
    pre_candidate = raft.role is Role.PRE_CANDIDATE
    if message.type != (MSG_PRE_VOTE_RESP if pre_candidate else MSG_VOTE_RESP):
        return
    raft.tracker.record_vote(message.from_, not message.reject)
    result = raft.tracker.vote_result()
    if result is VoteResult.LOST:
        raft.become_follower(raft.term, NOBODY)
    elif result is VoteResult.WON:
        if pre_candidate:
            _campaign(raft, Campaign.ELECTION)
        elif raft.id in raft.tracker.votes:
            _lead(raft)
        # Else its own vote, and with it the term, is not durable. Leading now, it could append,
        # crash, forget the term, and win the same term once more with another log.


def _lead(raft: Raft) -> None:
    raft.become_leader()
    # There may be a configuration change somewhere in the log that was inherited; looking for it
    # could cost much. So the next one waits until all of that is applied. It need not wait for
    # this term's own first entry (Ongaro, raft-dev 2015, asks for that): here a change is in force
    # once applied, so nobody can win with one that isn't committed.
    raft.pending_conf_index = raft.log.last_index()
    # An entry of the own term: only with it can anything before it be committed (Raft, 8).
    append_entries(raft, [Entry()])
    broadcast_append(raft)
