"""The configuration in force, and what a new one changes at once (thesis, chapter 4)."""

from __future__ import annotations

from swarm.api.v1.raft_pb2 import ConfChange, ConfState, Snapshot
from swarm.manager.core.raft import confchange
from swarm.manager.core.raft.commit import advance_commit
from swarm.manager.core.raft.confchange import Changer, ConfigAndProgress
from swarm.manager.core.raft.raft import NOBODY, Raft, Restoring
from swarm.manager.core.raft.reads import answer_confirmed_reads
from swarm.manager.core.raft.ready import Role
from swarm.manager.core.raft.replication import send_append
from swarm.manager.core.raft.tracker import ProgressTracker


def apply_conf_change(raft: Raft, change: ConfChange) -> ConfState:
    """Put a committed change in force. ValueError says why not, and nothing has changed then."""
    return _switch(raft, Changer(raft.tracker, raft.log.last_index()).change(change))


def begin_restore(raft: Raft, snapshot: Snapshot) -> None:
    """A snapshot replaces the log; its configuration is put in force once it is applied.

    Not before: changes that came out before the snapshot may still be on their way to
    `apply_conf_change`, and belong to the configuration that they were made for. Until then this
    node does not campaign. Raises ValueError for a configuration that cannot be.
    """
    fresh = ProgressTracker(
        max_inflight=raft.tracker.max_inflight, max_inflight_bytes=raft.tracker.max_inflight_bytes
    )
    config, progress = confchange.restore(fresh, snapshot.index, snapshot.conf_state)
    raft.restoring = Restoring(snapshot.index, config, progress)
    raft.log.restore(snapshot)


def finish_restore(raft: Raft) -> None:
    """The restored snapshot was applied, if one was: put its configuration in force."""
    restoring = raft.restoring
    if restoring is not None and raft.log.applied >= restoring.index:
        raft.restoring = None
        _switch(raft, (restoring.config, restoring.progress))


def _switch(raft: Raft, new: ConfigAndProgress) -> ConfState:
    raft.tracker.config, raft.tracker.progress = new
    state = raft.tracker.config.conf_state()
    if raft.role is not Role.LEADER:
        return state
    own = raft.own_progress
    if own is None or own.is_learner:
        # It leads on, without a voice, until it is told to or somebody else is elected.
        if raft.config.step_down_on_removal:
            raft.become_follower(raft.term, NOBODY)
        return state
    if not advance_commit(raft):
        # New nodes need not wait for a heartbeat or a proposal.
        for node in raft.tracker.others(raft.id):
            send_append(raft, node, even_if_empty=False)
    answer_confirmed_reads(raft)
    if raft.lead_transferee not in raft.tracker.config.voters.ids():
        raft.lead_transferee = NOBODY
    return state
