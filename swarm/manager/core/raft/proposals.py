"""What enters the log through the leader."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from swarm.api.v1.raft_pb2 import ENTRY_CONF_CHANGE, ConfChange, Entry, Message
from swarm.manager.core.raft.confchange import Changer
from swarm.manager.core.raft.errors import ProposalDropped
from swarm.manager.core.raft.raft import NOBODY, Raft
from swarm.manager.core.raft.ready import Role
from swarm.manager.core.raft.replication import append_entries, broadcast_append


def handle_proposal(raft: Raft, message: Message) -> None:
    """Append proposed entries as the leader and send them. Raises ProposalDropped.

    A configuration change that cannot be made now is logged as an empty entry, so that positions
    in the log stay what the proposer expects.
    """
    if raft.own_progress is None:
        raise ProposalDropped("this leader was removed from the group")
    if raft.lead_transferee != NOBODY:
        raise ProposalDropped("leadership is being transferred")
    if not message.entries:
        return
    pending_before = raft.pending_conf_index
    try:
        _append_checked(raft, message.entries)
    except ProposalDropped:
        raft.pending_conf_index = pending_before
        raise
    broadcast_append(raft)


def _append_checked(raft: Raft, proposed: Sequence[Entry]) -> None:
    next_index = raft.log.last_index() + 1
    entries = [_checked(raft, entry, next_index + offset) for offset, entry in enumerate(proposed)]
    if not append_entries(raft, entries):
        raise ProposalDropped(
            f"more than {raft.config.max_uncommitted_size} bytes wait to be committed"
        )


def _checked(raft: Raft, entry: Entry, index: int) -> Entry:
    if entry.type != ENTRY_CONF_CHANGE:
        return entry
    try:
        change = ConfChange.FromString(entry.data)
    except DecodeError as error:
        raise ProposalDropped("the configuration change cannot be read") from error
    if not raft.config.disable_conf_change_validation and conf_change_obstacle(raft, change):
        return Entry()
    raft.pending_conf_index = index
    return entry


def conf_change_obstacle(raft: Raft, change: ConfChange) -> str | None:
    """Why this leader would not log the change now, None if nothing is in its way.

    Only one change is under way at a time (thesis, 4.1), and what could not be applied to the
    configuration in force is not logged either.
    """
    if raft.pending_conf_index > raft.log.applied:
        return (
            f"a configuration change may wait at index {raft.pending_conf_index} "
            f"(applied up to {raft.log.applied})"
        )
    joint = raft.tracker.config.voters.joint
    if joint and change.changes:
        return "must leave the joint configuration first"
    if not joint and not change.changes:
        return "not in a joint configuration, there is nothing to leave"
    try:
        Changer(raft.tracker, raft.log.last_index()).change(change)
    except ValueError as error:
        return str(error)
    return None


def propose_leaving_joint(raft: Raft) -> None:
    """Leave a joint configuration that is to be left by itself, once it is applied.

    Asked after each apply, so a successor goes on where a fallen leader stopped. While leadership
    is being transferred nothing may be proposed; then it is asked again.
    """
    if (
        raft.role is Role.LEADER
        and raft.tracker.config.auto_leave
        and raft.log.applied >= raft.pending_conf_index
    ):
        entry = Entry(type=ENTRY_CONF_CHANGE)
        try:
            handle_proposal(raft, Message(entries=[entry]))
        except ProposalDropped:
            return
