"""What the leader knows of one follower's log, and how it sends to it."""

from __future__ import annotations

import copy
import enum
from dataclasses import dataclass, field

from swarm.manager.core.raft.inflights import Inflights, default_inflights


class ProgressState(enum.Enum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    """One message at a time, to find where the logs meet."""
    REPLICATE = "replicate"
    """Pipelined: the next entries go before the former are acknowledged."""
    SNAPSHOT = "snapshot"
    """Nothing is sent until the snapshot on its way has arrived or failed."""


@dataclass(slots=True)
class Progress:
    """One follower in the leader's eyes.

    `match` is the highest index known to be durable there, `next` the one to send next
    (match < next always). `sent_commit` is the commit index last told to it. `paused` stops the
    flow until an answer comes: set after a probe, and when the window is full.
    """

    match: int = 0
    next: int = 1
    state: ProgressState = ProgressState.PROBE
    pending_snapshot: int = 0
    recent_active: bool = False
    is_learner: bool = False
    paused: bool = False
    inflights: Inflights = field(default_factory=default_inflights)
    sent_commit: int = 0

    def become_probe(self) -> None:
        """Go back to one message at a time, behind the snapshot if one was under way."""
        after_snapshot = self.pending_snapshot if self.state is ProgressState.SNAPSHOT else 0
        self._enter(ProgressState.PROBE)
        self.next = max(self.match, after_snapshot) + 1
        self._cap_sent_commit()

    def become_replicate(self) -> None:
        """The logs met: send as fast as the window allows."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """A snapshot at `index` is on its way."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def sent_entries(self, count: int, size_bytes: int) -> None:
        """Account for an append of `count` entries that was just sent."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size_bytes)
            self.paused = self.inflights.full()
        elif count:
            self.paused = True

    def can_bump_commit(self, commit: int) -> bool:
        """Whether telling `commit` could advance the follower's commit index."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """Take an acknowledgement up to `index`; False when it says nothing new."""
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        self.paused = False
        return True

    def maybe_decrease(self, rejected: int, match_hint: int) -> bool:
        """Take a rejection of an append that followed `rejected`; False when it is a stale one.

        `match_hint` is the highest index at which the logs may meet. While replicating, only
        rejections above `match` are believed, and all fall back to `match`, so several rejections
        of pipelined appends end in the same place.
        """
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
            self._cap_sent_commit()
            return True
        if self.next - 1 != rejected:
            return False
        self.next = max(min(rejected, match_hint + 1), self.match + 1)
        self._cap_sent_commit()
        self.paused = False
        return True

    def is_paused(self) -> bool:
        """Whether nothing is to be sent until an answer comes."""
        return self.paused or self.state is ProgressState.SNAPSHOT

    def clone(self) -> Progress:
        """A copy whose own fields can change; the window stays shared."""
        return copy.copy(self)

    def _enter(self, state: ProgressState) -> None:
        self.paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.reset()

    def _cap_sent_commit(self) -> None:
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def __str__(self) -> str:
        words = [f"{self.state.name} match={self.match} next={self.next}"]
        if self.is_learner:
            words.append("learner")
        if self.is_paused():
            words.append("paused")
        if self.pending_snapshot:
            words.append(f"pending_snapshot={self.pending_snapshot}")
        if not self.recent_active:
            words.append("inactive")
        if count := self.inflights.count():
            words.append(f"inflight={count}{'[full]' if self.inflights.full() else ''}")
        return " ".join(words)
