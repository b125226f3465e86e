"""How a node that does not lead takes what it is told (Raft, 5.3 and 7)."""

from __future__ import annotations

from collections.abc import Callable

from swarm.api.v1.raft_pb2 import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_TIMEOUT_NOW,
    MSG_TRANSFER_LEADER,
    MSG_VOTE_RESP,
    Message,
    Snapshot,
)
from swarm.manager.core.raft.config import ReadOnlyOption
from swarm.manager.core.raft.election import Campaign, handle_vote_response, start_campaign
from swarm.manager.core.raft.errors import ProposalDropped
from swarm.manager.core.raft.membership import begin_restore
from swarm.manager.core.raft.raft import NOBODY, Raft
from swarm.manager.core.raft.ready import ReadState, Role


def step_candidate(raft: Raft, message: Message) -> None:
    """Handle a message of the own term as a candidate or pre-candidate. Raises ProposalDropped."""
    if message.type in _FROM_LEADER:
        # Somebody else won this term.
        raft.become_follower(message.term, message.from_)
        _FROM_LEADER[message.type](raft, message)
    elif message.type in (MSG_VOTE_RESP, MSG_PRE_VOTE_RESP):
        handle_vote_response(raft, message)
    elif message.type == MSG_PROP:
        raise ProposalDropped("there is no leader")


def step_follower(raft: Raft, message: Message) -> None:
    """Handle a message of the own term as a follower. Raises ProposalDropped."""
    kind = message.type
    if kind in _FROM_LEADER:
        raft.election_elapsed = 0
        raft.lead = message.from_
        _FROM_LEADER[kind](raft, message)
    elif kind == MSG_PROP:
        if raft.lead == NOBODY:
            raise ProposalDropped("there is no leader")
        if raft.config.disable_proposal_forwarding:
            raise ProposalDropped("this node does not lead, and forwards no proposals")
        _forward(raft, message)
    elif kind in (MSG_READ_INDEX, MSG_TRANSFER_LEADER):
        _forward(raft, message)
    elif kind == MSG_READ_INDEX_RESP:
        raft.read_states.append(ReadState(message.index, message.context))
    elif kind == MSG_TIMEOUT_NOW:
        # No pre-vote: the leader itself asks for it.
        start_campaign(raft, Campaign.TRANSFER)


def forget_leader(raft: Raft) -> None:
    """Follow nobody, in the same term and with the same vote, until a leader is heard of again.

    Not where reads are answered on a lease: the leader's lease is this node's word not to help
    anybody else.
    """
    if raft.role is Role.FOLLOWER and raft.config.read_only is ReadOnlyOption.SAFE:
        raft.lead = NOBODY


def _forward(raft: Raft, message: Message) -> None:
    """Pass a request on to the leader, in the name of who asked first.

    Dropped when it is this node's own and came back: two nodes take each other for the leader.
    """
    if raft.lead == NOBODY or (message.to == raft.id and message.from_ == raft.id):
        return
    forwarded = Message()
    forwarded.CopyFrom(message)
    forwarded.term = 0
    forwarded.to = raft.lead
    raft.send(forwarded)


def _handle_append(raft: Raft, message: Message) -> None:
    log = raft.log
    if message.index < log.committed:
        # An old one: everything up to the commit index is known to match.
        raft.send(Message(type=MSG_APP_RESP, to=message.from_, index=log.committed))
        return
    last_new = log.maybe_append(message.index, message.log_term, message.entries, message.commit)
    if last_new is not None:
        raft.send(Message(type=MSG_APP_RESP, to=message.from_, index=last_new))
        return
    # The last entry that could be the leader's: no later than what it tried, of no higher term.
    hint, hint_term = log.find_conflict_by_term(
        min(message.index, log.last_index()), message.log_term
    )
    raft.send(
        Message(
            type=MSG_APP_RESP,
            to=message.from_,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=hint_term,
        )
    )


def _handle_heartbeat(raft: Raft, message: Message) -> None:
    raft.log.commit_to(message.commit)
    raft.send(Message(type=MSG_HEARTBEAT_RESP, to=message.from_, context=message.context))


def _handle_snapshot(raft: Raft, message: Message) -> None:
    restored = _restore(raft, message.snapshot)
    index = raft.log.last_index() if restored else raft.log.committed
    raft.send(Message(type=MSG_APP_RESP, to=message.from_, index=index))


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Replace the log by the snapshot. False when it brings nothing new.

    This node need not be in its configuration: it may have been added after it, and the entries
    that follow say so.
    """
    if snapshot.index <= raft.log.committed:
        return False
    if raft.log.matches(snapshot.index, snapshot.term):
        # The entries are here already; only the commit index was behind.
        raft.log.commit_to(snapshot.index)
        return False
    begin_restore(raft, snapshot)
    return True


_FROM_LEADER: dict[int, Callable[[Raft, Message], None]] = {
    MSG_APP: _handle_append,
    MSG_HEARTBEAT: _handle_heartbeat,
    MSG_SNAP: _handle_snapshot,
}
