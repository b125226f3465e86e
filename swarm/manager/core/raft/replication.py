"""What a leader sends: entries, snapshots, heartbeats (Raft, 5.3 and 7)."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.raft_pb2 import MSG_APP, MSG_APP_RESP, MSG_HEARTBEAT, MSG_SNAP, Entry, Message
from swarm.manager.core.raft.entries import payload_size
from swarm.manager.core.raft.errors import (
    Compacted,
    SnapshotTemporarilyUnavailable,
    Unavailable,
)
from swarm.manager.core.raft.progress import Progress, ProgressState
from swarm.manager.core.raft.raft import Raft


def append_entries(raft: Raft, entries: Sequence[Entry]) -> bool:
    """Append as the leader, giving terms and indexes. False when too much is uncommitted.

    Something of any size goes when nothing else is uncommitted, and empty entries always.
    """
    size = payload_size(entries)
    limit = raft.config.max_uncommitted_size
    if limit and size and raft.uncommitted_size and raft.uncommitted_size + size > limit:
        return False
    raft.uncommitted_size += size
    last = raft.log.last_index()
    raft.log.append(
        [
            Entry(term=raft.term, index=last + 1 + offset, type=entry.type, data=entry.data)
            for offset, entry in enumerate(entries)
        ]
    )
    # Counts the own log once this message comes back, after the write.
    raft.send(Message(type=MSG_APP_RESP, to=raft.id, index=last + len(entries)))
    return True


def broadcast_append(raft: Raft) -> None:
    """Send everybody what they lack, or the commit index if they lack nothing."""
    for node in raft.tracker.others(raft.id):
        send_append(raft, node, even_if_empty=True)


def send_append(raft: Raft, to: int, *, even_if_empty: bool) -> bool:
    """Send the next entries to one node, or a snapshot where the log doesn't reach back.

    A node whose window is full still gets an empty append when asked for: were all appends on
    their way lost, its answer to this one is what gets things going again.
    """
    progress = raft.tracker.progress[to]
    if progress.is_paused():
        return False
    log = raft.log
    previous = progress.next - 1
    entries: list[Entry] = []
    try:
        previous_term = log.term(previous)
        if progress.state is not ProgressState.REPLICATE or not progress.inflights.full():
            entries = log.entries_from(progress.next, raft.config.max_size_per_msg)
    except (Compacted, Unavailable):
        return _send_snapshot(raft, to, progress)
    if not entries and not even_if_empty:
        return False
    raft.send(
        Message(
            type=MSG_APP,
            to=to,
            index=previous,
            log_term=previous_term,
            entries=entries,
            commit=log.committed,
        )
    )
    progress.sent_entries(len(entries), payload_size(entries))
    progress.sent_commit = log.committed
    return True


def _send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    """Send the newest snapshot, unless the node is silent or none can be had now."""
    if not progress.recent_active:
        return False
    try:
        snapshot = raft.log.unstable.snapshot or raft.log.storage.snapshot()
    except SnapshotTemporarilyUnavailable:
        return False
    assert snapshot.index, "the log is compacted, but there is no snapshot of what is gone"
    progress.become_snapshot(snapshot.index)
    raft.send(Message(type=MSG_SNAP, to=to, snapshot=snapshot))
    return True


def broadcast_heartbeat(raft: Raft) -> None:
    """Tell everybody that the leader is here, with what confirms the reads that wait."""
    context = raft.reads.context()
    for node in raft.tracker.others(raft.id):
        progress = raft.tracker.progress[node]
        # Never beyond what the node has: it might hold other entries there.
        commit = min(progress.match, raft.log.committed)
        raft.send(Message(type=MSG_HEARTBEAT, to=node, commit=commit, context=context))
        progress.sent_commit = commit
