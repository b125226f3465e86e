"""What an observer may know of a node."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm.api.v1.raft_pb2 import ConfState
from swarm.manager.core.raft.inflights import Inflights, default_inflights
from swarm.manager.core.raft.progress import ProgressState
from swarm.manager.core.raft.raft import Raft
from swarm.manager.core.raft.ready import Role


@dataclass(frozen=True, slots=True)
class BasicStatus:
    """A node's own state; cheap enough for every tick."""

    id: int
    role: Role
    term: int
    vote: int
    lead: int
    lead_transferee: int
    commit: int
    applied: int
    last_index: int


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A follower in the leader's eyes.

    `recent_active`: heard of within an election timeout. `pending_snapshot`: index of the snapshot
    that is on its way there, 0 when none is. `inflights` is a copy of the window.
    """

    match: int
    next: int
    state: ProgressState
    recent_active: bool
    is_learner: bool
    paused: bool
    pending_snapshot: int = 0
    inflights: Inflights = field(default_factory=default_inflights)


@dataclass(frozen=True, slots=True)
class Status(BasicStatus):
    """The same with the configuration in force and, on the leader, everybody's progress."""

    conf_state: ConfState
    progress: dict[int, PeerStatus]


def basic_status(raft: Raft) -> BasicStatus:
    """The node's own state."""
    return BasicStatus(*_own(raft))


def status(raft: Raft) -> Status:
    """Everything; `progress` is empty on a node that does not lead."""
    progress: dict[int, PeerStatus] = {}
    if raft.role is Role.LEADER:
        progress = {
            node: PeerStatus(
                match=peer.match,
                next=peer.next,
                state=peer.state,
                recent_active=peer.recent_active,
                is_learner=peer.is_learner,
                paused=peer.is_paused(),
                pending_snapshot=peer.pending_snapshot,
                inflights=peer.inflights.clone(),
            )
            for node, peer in sorted(raft.tracker.progress.items())
        }
    return Status(*_own(raft), raft.tracker.config.conf_state(), progress)


def _own(raft: Raft) -> tuple[int, Role, int, int, int, int, int, int, int]:
    return (
        raft.id,
        raft.role,
        raft.term,
        raft.vote,
        raft.lead,
        raft.lead_transferee,
        raft.log.committed,
        raft.log.applied,
        raft.log.last_index(),
    )
