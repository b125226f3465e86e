"""Changes of the configuration: from one to the next, or a reason why not.

Raft dissertation, sections 4.1 to 4.3. Nothing here acts: a Changer computes the configuration
and the progress map that would follow, on copies.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarm.api.v1.raft_pb2 import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_TRANSITION_AUTO,
    CONF_CHANGE_TRANSITION_JOINT_EXPLICIT,
    CONF_CHANGE_UPDATE_NODE,
    ConfChange,
    ConfChangeSingle,
    ConfState,
)
from swarm.manager.core.raft.progress import Progress
from swarm.manager.core.raft.quorum import JointConfig
from swarm.manager.core.raft.tracker import ProgressTracker, TrackerConfig

ConfigAndProgress = tuple[TrackerConfig, dict[int, Progress]]


def leaves_joint(change: ConfChange) -> bool:
    """Whether the change asks to leave a joint configuration."""
    return change.transition == CONF_CHANGE_TRANSITION_AUTO and not change.changes


def enters_joint(change: ConfChange) -> bool:
    """Whether the change goes through a joint configuration: asked for, or several at once."""
    return change.transition != CONF_CHANGE_TRANSITION_AUTO or len(change.changes) > 1


class Changer:
    """Computes what follows from the tracker's configuration.

    `last_index` is where probing of a new node starts. Each method returns the new configuration
    and progress map; ValueError says why a change is refused, and nothing has changed then.
    """

    def __init__(self, tracker: ProgressTracker, last_index: int) -> None:
        self.tracker = tracker
        self.last_index = last_index

    def change(self, change: ConfChange) -> ConfigAndProgress:
        """Do what the change asks for: leave a joint state, enter one, or change simply."""
        if leaves_joint(change):
            return self.leave_joint()
        if enters_joint(change):
            auto_leave = change.transition != CONF_CHANGE_TRANSITION_JOINT_EXPLICIT
            return self.enter_joint(auto_leave, change.changes)
        return self.simple(change.changes)

    def simple(self, changes: Iterable[ConfChangeSingle]) -> ConfigAndProgress:
        """Apply changes that together move at most one voter in or out."""
        draft = self._draft()
        if draft.outgoing:
            raise ValueError("can't apply simple config change in joint config")
        before = frozenset(draft.incoming)
        draft.apply(changes)
        if len(before ^ draft.incoming) > 1:
            raise ValueError("more than one voter changed without entering joint config")
        return draft.checked()

    def enter_joint(
        self, auto_leave: bool, changes: Iterable[ConfChangeSingle]
    ) -> ConfigAndProgress:
        """Keep the voters as the outgoing half and apply the changes to the incoming one."""
        draft = self._draft()
        if draft.outgoing:
            raise ValueError("config is already joint")
        if not draft.incoming:
            raise ValueError("can't make a zero-voter config joint")
        draft.outgoing = set(draft.incoming)
        draft.apply(changes)
        draft.auto_leave = auto_leave
        return draft.checked()

    def leave_joint(self) -> ConfigAndProgress:
        """Let the incoming half decide alone; staged learners become learners."""
        draft = self._draft()
        if not draft.outgoing:
            raise ValueError("can't leave a non-joint config")
        draft.leave()
        return draft.checked()

    def _draft(self) -> _Draft:
        draft = _Draft(self.tracker, self.last_index)
        draft.checked()
        return draft


class _Draft:
    """A configuration being changed: copies, so that a refusal leaves no trace."""

    def __init__(self, tracker: ProgressTracker, last_index: int) -> None:
        config = tracker.config
        self.incoming = set(config.voters.incoming)
        self.outgoing = set(config.voters.outgoing)
        self.learners = set(config.learners)
        self.learners_next = set(config.learners_next)
        self.auto_leave = config.auto_leave
        self.progress = {node: progress.clone() for node, progress in tracker.progress.items()}
        self._tracker = tracker
        self._last_index = last_index

    def apply(self, changes: Iterable[ConfChangeSingle]) -> None:
        for change in changes:
            if not change.node_id:
                continue  # a change that was blanked out above Raft
            if change.type == CONF_CHANGE_ADD_NODE:
                self._make_voter(change.node_id)
            elif change.type == CONF_CHANGE_ADD_LEARNER_NODE:
                self._make_learner(change.node_id)
            elif change.type == CONF_CHANGE_REMOVE_NODE:
                self._remove(change.node_id)
            elif change.type != CONF_CHANGE_UPDATE_NODE:
                raise ValueError(f"unexpected conf change type {change.type}")
        if not self.incoming:
            raise ValueError("removed all voters")

    def leave(self) -> None:
        for node in self.learners_next:
            self.learners.add(node)
            self.progress[node].is_learner = True
        self.learners_next.clear()
        for node in self.outgoing - self.incoming - self.learners:
            self.progress.pop(node, None)
        self.outgoing.clear()
        self.auto_leave = False

    def checked(self) -> ConfigAndProgress:
        """The result, once it holds together."""
        self._check()
        config = TrackerConfig(
            voters=JointConfig(self.incoming, self.outgoing),
            learners=frozenset(self.learners),
            learners_next=frozenset(self.learners_next),
            auto_leave=self.auto_leave,
        )
        return config, self.progress

    def _make_voter(self, node: int) -> None:
        progress = self.progress.get(node)
        if progress is None:
            self._add_progress(node, is_learner=False)
        else:
            progress.is_learner = False
            self.learners.discard(node)
            self.learners_next.discard(node)
        self.incoming.add(node)

    def _make_learner(self, node: int) -> None:
        progress = self.progress.get(node)
        if progress is None:
            self._add_progress(node, is_learner=True)
            self.learners.add(node)
            return
        if progress.is_learner:
            return
        self._remove(node)
        self.progress[node] = progress
        if node in self.outgoing:
            self.learners_next.add(node)
        else:
            progress.is_learner = True
            self.learners.add(node)

    def _remove(self, node: int) -> None:
        if node not in self.progress:
            return
        self.incoming.discard(node)
        self.learners.discard(node)
        self.learners_next.discard(node)
        if node not in self.outgoing:
            del self.progress[node]

    def _add_progress(self, node: int, *, is_learner: bool) -> None:
        # Active at first, or CheckQuorum could depose the leader before the node ever answered.
        self.progress[node] = Progress(
            match=0,
            next=max(self._last_index, 1),
            is_learner=is_learner,
            recent_active=True,
            inflights=self._tracker.new_inflights(),
        )

    def _check(self) -> None:
        for node in sorted(self.incoming | self.outgoing | self.learners | self.learners_next):
            if node not in self.progress:
                raise ValueError(f"no progress for {node}")
        for node in sorted(self.learners_next):
            if node not in self.outgoing:
                raise ValueError(f"{node} is in learners_next, but not in the outgoing voters")
            if self.progress[node].is_learner:
                raise ValueError(f"{node} is in learners_next, but already marked as learner")
        for node in sorted(self.learners):
            if node in self.outgoing:
                raise ValueError(f"{node} is in learners and in the outgoing voters")
            if node in self.incoming:
                raise ValueError(f"{node} is in learners and in the incoming voters")
            if not self.progress[node].is_learner:
                raise ValueError(f"{node} is in learners, but not marked as learner")
        if not self.outgoing and self.auto_leave:
            raise ValueError("auto_leave is set in a config that is not joint")


def restore(tracker: ProgressTracker, last_index: int, state: ConfState) -> ConfigAndProgress:
    """The configuration that `state` describes; `tracker` must hold an empty one.

    Raises ValueError for a state that no sequence of changes leads to.
    """
    work = ProgressTracker(
        config=tracker.config,
        progress=tracker.progress,
        max_inflight=tracker.max_inflight,
        max_inflight_bytes=tracker.max_inflight_bytes,
    )
    for node in state.voters_outgoing or state.voters:
        change = ConfChangeSingle(type=CONF_CHANGE_ADD_NODE, node_id=node)
        work.config, work.progress = Changer(work, last_index).simple([change])
    if state.voters_outgoing:
        work.config, work.progress = Changer(work, last_index).enter_joint(
            state.auto_leave, _incoming_changes(state)
        )
        return work.config, work.progress
    for node in state.learners:
        change = ConfChangeSingle(type=CONF_CHANGE_ADD_LEARNER_NODE, node_id=node)
        work.config, work.progress = Changer(work, last_index).simple([change])
    return work.config, work.progress


def _incoming_changes(state: ConfState) -> list[ConfChangeSingle]:
    """From the outgoing voters to the joint state: all out, then everybody in their new place."""
    removed = [(CONF_CHANGE_REMOVE_NODE, node) for node in state.voters_outgoing]
    voters = [(CONF_CHANGE_ADD_NODE, node) for node in state.voters]
    learners = [
        (CONF_CHANGE_ADD_LEARNER_NODE, node) for node in [*state.learners, *state.learners_next]
    ]
    return [
        ConfChangeSingle(type=kind, node_id=node) for kind, node in [*removed, *voters, *learners]
    ]


def conf_state_after(state: ConfState, change: ConfChange) -> ConfState:
    """The group after a change in the log, for who has no Raft node to apply it. ValueError."""
    tracker = ProgressTracker()
    tracker.config, tracker.progress = restore(tracker, 0, state)
    config, _ = Changer(tracker, 0).change(change)
    return config.conf_state()
