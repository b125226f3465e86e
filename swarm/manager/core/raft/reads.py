"""Linearizable reads through an index of the log (Raft dissertation, section 6.4)."""

from __future__ import annotations

from swarm.api.v1.raft_pb2 import MSG_READ_INDEX_RESP, Message
from swarm.manager.core.raft.config import ReadOnlyOption
from swarm.manager.core.raft.raft import NOBODY, Raft
from swarm.manager.core.raft.ready import ReadState
from swarm.manager.core.raft.replication import broadcast_heartbeat


def request_read(raft: Raft, request: Message) -> None:
    """Take a read request as the leader: answer, ask the quorum, or hold it.

    Until an entry of the own term is committed, the leader may not know the newest commit index
    of its predecessors; requests wait for that.
    """
    if not _may_answer(raft):
        raft.reads.held.append(request)
    else:
        _confirm(raft, [request])


def release_held_reads(raft: Raft) -> None:
    """The own term has a commit: take the requests that waited for it, in one round."""
    if raft.reads.held and _may_answer(raft):
        held, raft.reads.held = raft.reads.held, []
        _confirm(raft, held)


def _confirm(raft: Raft, requests: list[Message]) -> None:
    if raft.config.read_only is ReadOnlyOption.LEASE_BASED:
        for request in requests:
            _answer(raft, request, raft.log.committed)
        return
    for request in requests:
        raft.reads.add(request, raft.log.committed, raft.id)
    answer_confirmed_reads(raft)  # a single voter is its own quorum
    if raft.reads.context():
        broadcast_heartbeat(raft)


def answer_confirmed_reads(raft: Raft) -> None:
    """Answer all requests that a quorum has confirmed by now."""
    for request, index in raft.reads.confirmed(raft.tracker.config.voters):
        _answer(raft, request, index)


def _may_answer(raft: Raft) -> bool:
    return raft.log.known_term(raft.log.committed) == raft.term


def _answer(raft: Raft, request: Message, index: int) -> None:
    if request.from_ in (NOBODY, raft.id):
        raft.read_states.append(ReadState(index, request.context))
    else:
        raft.send(
            Message(
                type=MSG_READ_INDEX_RESP, to=request.from_, index=index, context=request.context
            )
        )
