"""When an entry is committed, and what follows from it."""

from __future__ import annotations

from swarm.manager.core.raft.raft import Raft
from swarm.manager.core.raft.reads import release_held_reads
from swarm.manager.core.raft.replication import broadcast_append


def advance_commit(raft: Raft) -> bool:
    """Commit, as the leader, what a quorum holds by now, and tell everybody. False if nothing new.

    Only an entry of the own term is committed by counting; older ones are with it (Raft, 5.4.2).
    """
    if not raft.log.maybe_commit(raft.tracker.committed(), raft.term):
        return False
    release_held_reads(raft)
    broadcast_append(raft)
    return True
