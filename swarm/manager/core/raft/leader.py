"""How a leader takes what it is told (Raft, 5.3; thesis, 3.10 and 10.2)."""

from __future__ import annotations

from collections.abc import Callable

from swarm.api.v1.raft_pb2 import (
    MSG_APP_RESP,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_TIMEOUT_NOW,
    MSG_TRANSFER_LEADER,
    Message,
)
from swarm.manager.core.raft.commit import advance_commit
from swarm.manager.core.raft.progress import Progress, ProgressState
from swarm.manager.core.raft.proposals import handle_proposal, propose_leaving_joint
from swarm.manager.core.raft.raft import NOBODY, Raft
from swarm.manager.core.raft.reads import answer_confirmed_reads, request_read
from swarm.manager.core.raft.replication import send_append


def step_leader(raft: Raft, message: Message) -> None:
    """Handle a message of the leader's own term. Raises ProposalDropped."""
    if message.type == MSG_PROP:
        handle_proposal(raft, message)
    elif message.type == MSG_READ_INDEX:
        request_read(raft, message)
    else:
        progress = raft.tracker.progress.get(message.from_)
        handler = _FROM_MEMBERS.get(message.type)
        if progress is not None and handler is not None:
            handler(raft, message, progress)


def _handle_append_response(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    if message.reject:
        _handle_rejection(raft, message, progress)
    else:
        _handle_acknowledgement(raft, message, progress)


def _handle_rejection(raft: Raft, message: Message, progress: Progress) -> None:
    """The logs don't meet there: go back, past everything that cannot match.

    The follower names the last entry that it could share. Where the leader's terms are higher
    than that entry's, its log cannot match either, so one probe per term is enough.
    """
    next_probe = message.reject_hint
    if message.log_term:
        next_probe, _ = raft.log.find_conflict_by_term(next_probe, message.log_term)
    if progress.maybe_decrease(message.index, next_probe):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, message.from_, even_if_empty=True)


def _handle_acknowledgement(raft: Raft, message: Message, progress: Progress) -> None:
    node, index = message.from_, message.index
    found_by_probe = progress.state is ProgressState.PROBE and progress.match == index
    if not progress.maybe_update(index) and not found_by_probe:
        return
    if progress.state is ProgressState.REPLICATE:
        progress.inflights.free_le(index)
    elif progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.match + 1 >= raft.log.first_index():
        # Wherever it got a snapshot from: the log reaches it again.
        progress.become_probe()
        progress.become_replicate()
    told = advance_commit(raft)
    if node == raft.id:
        return
    if not told and progress.can_bump_commit(raft.log.committed):
        send_append(raft, node, even_if_empty=True)
    while send_append(raft, node, even_if_empty=False):
        pass  # the window has room again for several messages
    if node == raft.lead_transferee and progress.match == raft.log.last_index():
        raft.send(Message(type=MSG_TIMEOUT_NOW, to=node))


def _handle_heartbeat_response(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    progress.paused = False
    if progress.match < raft.log.last_index() or progress.state is ProgressState.PROBE:
        send_append(raft, message.from_, even_if_empty=True)
    if message.context:
        raft.reads.acknowledge(message.from_, message.context)
        answer_confirmed_reads(raft)


def _handle_transfer(raft: Raft, message: Message, progress: Progress) -> None:
    """Hand leadership to the sender: first its log, then the word to campaign at once.

    Handed to the leader itself, it is taken back from who was to have it.
    """
    transferee = message.from_
    if progress.is_learner or transferee == raft.lead_transferee:
        return
    if transferee == raft.id:
        abandon_transfer(raft)
        return
    raft.election_elapsed = 0  # it has one election timeout
    raft.lead_transferee = transferee
    if progress.match == raft.log.last_index():
        raft.send(Message(type=MSG_TIMEOUT_NOW, to=transferee))
    else:
        send_append(raft, transferee, even_if_empty=True)


def abandon_transfer(raft: Raft) -> None:
    """Lead on, and take proposals again; the first may be one that had to wait."""
    if raft.lead_transferee != NOBODY:
        raft.lead_transferee = NOBODY
        propose_leaving_joint(raft)


_FROM_MEMBERS: dict[int, Callable[[Raft, Message, Progress], None]] = {
    MSG_APP_RESP: _handle_append_response,
    MSG_HEARTBEAT_RESP: _handle_heartbeat_response,
    MSG_TRANSFER_LEADER: _handle_transfer,
}


def check_quorum(raft: Raft) -> None:
    """Step down when no quorum was heard of since the last check (thesis, 6.2)."""
    if not raft.tracker.quorum_active():
        raft.become_follower(raft.term, NOBODY)
    for node, progress in raft.tracker.progress.items():
        progress.recent_active = node == raft.id


def peer_unreachable(raft: Raft, peer: int) -> None:
    """Messages to the peer were lost: stop pipelining and probe."""
    progress = raft.tracker.progress.get(peer)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def snapshot_finished(raft: Raft, peer: int, *, delivered: bool) -> None:
    """A snapshot arrived, or did not: probe, after the peer's next answer or a heartbeat."""
    progress = raft.tracker.progress.get(peer)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if not delivered:
        progress.pending_snapshot = 0
    progress.become_probe()
    progress.paused = True
