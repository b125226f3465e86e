"""The configuration in force, and everybody's progress and votes in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm.api.v1.raft_pb2 import ConfState
from swarm.manager.core.raft.inflights import Inflights
from swarm.manager.core.raft.progress import Progress
from swarm.manager.core.raft.quorum import JointConfig, VoteResult


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Who votes and who learns.

    `learners_next` are voters of the outgoing half that become learners once the joint state is
    left; until then they can't be both. `auto_leave`: the leader leaves the joint state by itself.
    """

    voters: JointConfig = field(default_factory=JointConfig)
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()
    auto_leave: bool = False

    def conf_state(self) -> ConfState:
        """The same as a message, ids in ascending order."""
        return ConfState(
            voters=sorted(self.voters.incoming),
            learners=sorted(self.learners),
            voters_outgoing=sorted(self.voters.outgoing),
            learners_next=sorted(self.learners_next),
            auto_leave=self.auto_leave,
        )

    def __str__(self) -> str:
        words = [f"voters={self.voters}"]
        if self.learners:
            words.append(f"learners={_ids(self.learners)}")
        if self.learners_next:
            words.append(f"learners_next={_ids(self.learners_next)}")
        if self.auto_leave:
            words.append("autoleave")
        return " ".join(words)


def _ids(ids: frozenset[int]) -> str:
    return f"({' '.join(str(node) for node in sorted(ids))})"


def _no_progress() -> dict[int, Progress]:
    return {}


def _no_votes() -> dict[int, bool]:
    return {}


@dataclass(slots=True)
class ProgressTracker:
    """What a leader or candidate keeps about the group.

    `votes` holds one answer per node, the first: a repeated or late one changes nothing.
    """

    config: TrackerConfig = field(default_factory=TrackerConfig)
    progress: dict[int, Progress] = field(default_factory=_no_progress)
    votes: dict[int, bool] = field(default_factory=_no_votes)
    max_inflight: int = 256
    max_inflight_bytes: int = 0

    def new_inflights(self) -> Inflights:
        """An empty window of the size in force."""
        return Inflights(self.max_inflight, self.max_inflight_bytes)

    def committed(self) -> int:
        """The highest index that the configuration in force has acknowledged."""
        matches = {node: progress.match for node, progress in self.progress.items()}
        return self.config.voters.committed_index(matches)

    def quorum_active(self) -> bool:
        """Whether a quorum was heard of since the last check."""
        votes = {node: progress.recent_active for node, progress in self.progress.items()}
        return self.config.voters.vote_result(votes) is VoteResult.WON

    def record_vote(self, node: int, granted: bool) -> None:
        """Remember a node's first answer."""
        self.votes.setdefault(node, granted)

    def vote_result(self) -> VoteResult:
        """Where the election stands; only voters' answers count."""
        return self.config.voters.vote_result(self.votes)

    def others(self, own: int) -> list[int]:
        """Everybody tracked but `own`, in ascending order, so that runs repeat exactly."""
        return sorted([node for node in self.progress if node != own])
