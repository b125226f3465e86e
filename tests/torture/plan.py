"""What is done to the managers, and when: drawn from a seed before anything starts.

Who leads when a fault begins is not known in advance, so a fault that aims at the leader says just
that. All else of a plan is the same for the same seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# After so long with faults everything is healed, for as long as a cluster may need to go on.
STORM_S = 25.0
CALM_S = 5.0
_FIRST_S = 1.0
_GAP_S = 2.0


class Kind(StrEnum):
    KILL = "kill"
    KILL_ALL = "kill-all"
    PAUSE = "pause"
    PARTITION = "partition"
    ONE_WAY = "one-way"
    BRIDGE = "bridge"
    FULL_DISK = "full-disk"


_WEIGHTS = {
    Kind.KILL: 8,
    Kind.KILL_ALL: 1,
    Kind.PAUSE: 4,
    Kind.PARTITION: 3,
    Kind.ONE_WAY: 3,
    Kind.BRIDGE: 2,
    Kind.FULL_DISK: 3,
}
_LASTS_S = {
    Kind.KILL: (0.0, 5.0),
    Kind.KILL_ALL: (0.0, 3.0),
    Kind.PAUSE: (0.5, 15.0),
    Kind.PARTITION: (1.0, 12.0),
    Kind.ONE_WAY: (1.0, 12.0),
    Kind.BRIDGE: (2.0, 12.0),
    Kind.FULL_DISK: (2.0, 15.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`order` are the managers' numbers; the first `size` are those it happens to (a bridge: the
    first one sees all, the two halves of the others do not see each other). `at_s` counts
    from the beginning."""

    kind: Kind
    at_s: float
    lasts_s: float
    order: tuple[int, ...]
    size: int
    # The leader of that moment comes first, whatever `order` says.
    at_leader: bool
    # One-way: what is sent to the first ones is lost, not what they send. Full disk: the
    # daemon is killed meanwhile, and has to start on it.
    other_way: bool

    @property
    def ends_s(self) -> float:
        return self.at_s + self.lasts_s

    def aimed(self, leader: int | None) -> tuple[int, ...]:
        """`order`, with the leader first where it aims at that."""
        if not self.at_leader or leader is None:
            return self.order
        return (leader, *(number for number in self.order if number != leader))

    def __str__(self) -> str:
        who = ",".join(map(str, self.order[: self.size]))
        aim = "the leader" if self.at_leader else f"m{who}"
        ways = {Kind.ONE_WAY: ", the other way", Kind.FULL_DISK: ", killed meanwhile"}
        way = ways.get(self.kind, "") if self.other_way else ""
        return f"{self.at_s:6.1f} s  {self.kind} {aim} for {self.lasts_s:.1f} s{way}"


def at_once_max(managers: int) -> int:
    """So many faults overlap at most."""
    return (managers + 1) // 2


def draw(seed: int, managers: int, seconds: float, kinds: Sequence[Kind]) -> list[Fault]:
    """Faults in the order of their beginnings; all have ended after `seconds`."""
    rng = random.Random(f"torture {seed}")
    plan: list[Fault] = []
    at_s = _FIRST_S
    while True:
        at_s += rng.expovariate(1 / _GAP_S)
        at_s = _when_allowed(at_s, plan, at_once_max(managers))
        storm_ends_s = min(_storm_of(at_s) + STORM_S, seconds)
        if at_s >= storm_ends_s:
            if at_s >= seconds:
                return plan
            at_s = _storm_of(at_s) + STORM_S + CALM_S
            continue
        plan.append(_draw_one(rng, at_s, storm_ends_s - at_s, managers, kinds))


def _when_allowed(at_s: float, plan: Sequence[Fault], at_once: int) -> float:
    while True:
        ends = sorted(fault.ends_s for fault in plan if fault.ends_s > at_s)
        if len(ends) < at_once:
            return at_s
        at_s = ends[0]


def _storm_of(at_s: float) -> float:
    """When the storm began that is on, or over, at this time."""
    return at_s - at_s % (STORM_S + CALM_S)


def _draw_one(
    rng: random.Random, at_s: float, longest_s: float, managers: int, kinds: Sequence[Kind]
) -> Fault:
    (kind,) = rng.choices(kinds, [_WEIGHTS[kind] for kind in kinds])
    size = 1
    if kind in (Kind.PARTITION, Kind.ONE_WAY):
        size = rng.randrange(1, managers)
    elif kind is Kind.PAUSE:
        size = rng.choice((1, 1, managers // 2 + 1))
    elif kind is Kind.KILL_ALL:
        size = managers
    return Fault(
        kind=kind,
        at_s=at_s,
        lasts_s=min(rng.uniform(*_LASTS_S[kind]), longest_s),
        order=tuple(rng.sample(range(1, managers + 1), managers)),
        size=size,
        at_leader=rng.random() < 0.5,
        other_way=rng.random() < 0.5,
    )
