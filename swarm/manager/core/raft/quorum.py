"""Counting: what a majority, or both majorities of a joint configuration, have agreed on.

Pure arithmetic on sets of ids (Raft dissertation, sections 3.3 and 4.3); it knows neither logs
nor messages.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import cast

Acked = Mapping[int, int] | Callable[[int], int | None]
"""What voters have acknowledged: a mapping, or a function that gives a voter's index or None."""

UNBOUNDED = 2**64 - 1
"""The committed index of a configuration without voters: it holds nothing back."""


def _as_function(acked: Acked) -> Callable[[int], int | None]:
    if isinstance(acked, Mapping):
        return cast("Mapping[int, int]", acked).get
    return acked


class VoteResult(enum.Enum):
    """Where an election stands."""

    PENDING = "pending"
    LOST = "lost"
    WON = "won"


class MajorityConfig(frozenset[int]):
    """A set of voter ids that decides by simple majority."""

    __slots__ = ()

    def committed_index(self, acked: Acked) -> int:
        """The largest index that a majority has acknowledged; who is missing in `acked` is at 0.

        UNBOUNDED without voters, so that the empty half of a joint configuration never decides.
        """
        if not self:
            return UNBOUNDED
        acked_index = _as_function(acked)
        indexes = sorted([acked_index(voter) or 0 for voter in self], reverse=True)
        return indexes[len(indexes) // 2]

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """The outcome given the votes so far (True: granted). Without voters every vote is won."""
        if not self:
            return VoteResult.WON
        granted = missing = 0
        for voter in self:
            vote = votes.get(voter)
            if vote is None:
                missing += 1
            elif vote:
                granted += 1
        needed = len(self) // 2 + 1
        if granted >= needed:
            return VoteResult.WON
        return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST

    def __str__(self) -> str:
        return f"({' '.join(str(voter) for voter in sorted(self))})"


class JointConfig:
    """Two majorities that must both agree; with an empty `outgoing` a plain majority.

    Immutable. `incoming` is the configuration to come, `outgoing` the one being left.
    """

    __slots__ = ("incoming", "outgoing")

    def __init__(self, incoming: Iterable[int] = (), outgoing: Iterable[int] = ()) -> None:
        self.incoming = MajorityConfig(incoming)
        self.outgoing = MajorityConfig(outgoing)

    @property
    def joint(self) -> bool:
        """Whether two halves decide."""
        return bool(self.outgoing)

    def ids(self) -> frozenset[int]:
        """Everybody who votes in either half."""
        return self.incoming | self.outgoing if self.outgoing else self.incoming

    def committed_index(self, acked: Acked) -> int:
        """The largest index that both halves have committed."""
        committed = self.incoming.committed_index(acked)
        return min(committed, self.outgoing.committed_index(acked)) if self.outgoing else committed

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Won when both halves are won, lost as soon as one is lost."""
        halves = {self.incoming.vote_result(votes), self.outgoing.vote_result(votes)}
        if VoteResult.LOST in halves:
            return VoteResult.LOST
        return VoteResult.PENDING if VoteResult.PENDING in halves else VoteResult.WON

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JointConfig):
            return NotImplemented
        return self.incoming == other.incoming and self.outgoing == other.outgoing

    def __hash__(self) -> int:
        return hash((self.incoming, self.outgoing))

    def __str__(self) -> str:
        return f"{self.incoming}&&{self.outgoing}" if self.outgoing else str(self.incoming)

    def __repr__(self) -> str:
        return f"JointConfig{self}"
