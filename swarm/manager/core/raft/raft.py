"""One node's state, and the few transitions that everything else is made of.

The rules are in the modules beside this one, as functions on a `Raft`: election, replication,
commit, proposals, leader, follower, reads, membership, and step, which leads messages to them.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.api.v1.raft_pb2 import (
    MSG_APP_RESP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_VOTE,
    MSG_VOTE_RESP,
    Message,
)
from swarm.manager.core.raft import confchange
from swarm.manager.core.raft.config import Config
from swarm.manager.core.raft.log import RaftLog
from swarm.manager.core.raft.progress import Progress
from swarm.manager.core.raft.readonly import ReadOnly
from swarm.manager.core.raft.ready import ReadState, Role, SoftState
from swarm.manager.core.raft.tracker import ProgressTracker, TrackerConfig

NOBODY = 0
"""The id that no node has: no leader, no vote."""

_WITH_OWN_TERM = frozenset({MSG_VOTE, MSG_VOTE_RESP, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP})
_WITHOUT_TERM = frozenset({MSG_PROP, MSG_READ_INDEX})
_AFTER_APPEND = frozenset({MSG_APP_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP})


@dataclass(frozen=True, slots=True)
class Restoring:
    """The configuration of a snapshot that is not applied yet."""

    index: int
    config: TrackerConfig
    progress: dict[int, Progress]


class Raft:
    """The state of one node.

    `pending_conf_index` is at or above the index of the newest configuration change in the log:
    the next one waits until that is applied. `uncommitted_size` estimates the payload proposed
    here and not applied yet. `messages_after_append` promise something that must be durable
    first; some are to this node itself: that is how it counts its own vote and its own log.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.id = config.id
        self.log = RaftLog(
            config.storage, config.max_committed_size_per_ready or config.max_size_per_msg
        )
        self.tracker = ProgressTracker(
            max_inflight=config.max_inflight_msgs, max_inflight_bytes=config.max_inflight_bytes
        )
        self.term = 0
        self.vote = NOBODY
        self.lead = NOBODY
        self.role = Role.FOLLOWER
        self.lead_transferee = NOBODY
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = 0
        self.restoring: Restoring | None = None
        self.reads = ReadOnly(config.read_only)
        self.read_states: list[ReadState] = []
        self.messages: list[Message] = []
        self.messages_after_append: list[Message] = []
        self._load()

    def _load(self) -> None:
        hard_state, conf_state = self.config.storage.initial_state()
        self.term = hard_state.term
        self.vote = hard_state.vote
        # The commit index is volatile in the paper. One that ran ahead of the log on the disk is
        # lowered, and the leader tells it again; one that fell behind what was applied is raised.
        applied, last_index = self.config.applied, self.log.last_index()
        if applied > last_index:
            raise ValueError(
                f"applied {applied} is beyond the last entry {last_index}: "
                "state and log are not of the same node, or the log was lost"
            )
        self.log.committed = max(self.log.committed, min(hard_state.commit, last_index), applied)
        self.log.applying = self.log.applied = max(self.log.applied, applied)
        self.tracker.config, self.tracker.progress = confchange.restore(
            self.tracker, self.log.last_index(), conf_state
        )
        self.become_follower(self.term, NOBODY)

    @property
    def own_progress(self) -> Progress | None:
        """This node in its own configuration, None when it is no member."""
        return self.tracker.progress.get(self.id)

    def soft_state(self) -> SoftState:
        """Who leads and what this node is."""
        return SoftState(self.lead, self.role)

    def promotable(self) -> bool:
        """Whether this node may campaign: a voter whose log is not being replaced."""
        progress = self.own_progress
        return (
            progress is not None
            and not progress.is_learner
            and self.restoring is None
            and self.log.unstable.snapshot is None
        )

    def in_lease(self) -> bool:
        """Whether a leader was heard of so lately that nobody else may be voted for."""
        return (
            self.config.check_quorum
            and self.lead != NOBODY
            and self.election_elapsed < self.config.election_tick
        )

    def send(self, message: Message) -> None:
        """Queue a message; what promises something durable waits for the write.

        Requests that a follower passes on keep the sender that they came from.
        """
        if not message.from_:
            message.from_ = self.id
        kind = message.type
        if kind in _WITH_OWN_TERM:
            assert message.term or message.reject, "a campaign message says for which term"
        elif kind not in _WITHOUT_TERM:
            message.term = self.term
        if kind in _AFTER_APPEND:
            self.messages_after_append.append(message)
        else:
            assert message.to != self.id, "only promises are sent to oneself"
            self.messages.append(message)

    def reset(self, term: int) -> None:
        """Forget everything that belongs to a role or to an earlier term."""
        if self.term != term:
            self.term = term
            self.vote = NOBODY
        self.lead = NOBODY
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = self.config.election_tick + self.config.rng.randrange(
            self.config.election_tick
        )
        self.lead_transferee = NOBODY
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.reads = ReadOnly(self.config.read_only)
        self.tracker.votes = {}
        last_index = self.log.last_index()
        for node, progress in self.tracker.progress.items():
            self.tracker.progress[node] = Progress(
                match=last_index if node == self.id else 0,
                next=last_index + 1,
                is_learner=progress.is_learner,
                inflights=self.tracker.new_inflights(),
            )

    def become_follower(self, term: int, lead: int) -> None:
        """Follow `lead`, or wait for somebody to (NOBODY)."""
        self.reset(term)
        self.lead = lead
        self.role = Role.FOLLOWER

    def become_pre_candidate(self) -> None:
        """Ask whether a campaign would succeed; term and vote stay as they are (thesis, 9.6)."""
        assert self.role is not Role.LEADER
        self.tracker.votes = {}
        self.lead = NOBODY
        self.role = Role.PRE_CANDIDATE

    def become_candidate(self) -> None:
        """Campaign in a new term with the own vote."""
        assert self.role is not Role.LEADER
        self.reset(self.term + 1)
        self.vote = self.id
        self.role = Role.CANDIDATE

    def become_leader(self) -> None:
        """Lead this term. The caller appends the term's first entry and tells everybody."""
        assert self.role is not Role.FOLLOWER
        self.reset(self.term)
        self.lead = self.id
        self.role = Role.LEADER
        progress = self.own_progress
        assert progress is not None
        progress.become_replicate()
        progress.recent_active = True
