"""Whether what the clients saw can be, and the figures of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from swarm.simulation.linearizability import Op, Operation, Result, TooComplexError, check
from tests.torture.clients import LAST_READER, REGISTERS


@dataclass(slots=True)
class Verdict:
    violations: list[str]
    figures: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> str:
        return json.dumps({**self.figures, "violations": len(self.violations)})


def judge(history: Sequence[Operation], violations: Sequence[str] = ()) -> Verdict:
    """`violations` are what was found already."""
    missing = missing_creations(history)
    found = [*violations, *(f"acknowledged, and not there at the end: {key}" for key in missing)]
    try:
        problem = check(history)
    except TooComplexError as error:
        problem = error
    if problem is not None:
        found.append(str(problem))
    return Verdict(
        found,
        {
            "operations": _outcomes(history),
            "acknowledged_writes": len(_acknowledged(history)),
            "missing_writes": len(missing),
            "linearizable": problem is None,
            "longest_without_write_s": round(_longest_without_write(history), 1),
        },
    )


def missing_creations(history: Sequence[Operation]) -> list[str]:
    """Services whose creation was acknowledged, that one of the last readers did not find. What
    a register must hold at the end follows from its history alone."""
    created = {o.key for o in _acknowledged(history) if o.key not in REGISTERS}
    last = [o for o in history if o.client.startswith(LAST_READER)]
    return sorted({o.key for o in last if o.value is None} & created)


def _acknowledged(history: Sequence[Operation]) -> list[Operation]:
    return [o for o in history if o.op is not Op.READ and o.outcome is Result.OK]


def _outcomes(history: Sequence[Operation]) -> dict[str, dict[str, int]]:
    counts = Counter(
        ("read" if o.op is Op.READ else "write", str(o.outcome))
        for o in history
        if not o.client.startswith(LAST_READER)
    )
    return {
        op: {str(outcome): counts[op, str(outcome)] for outcome in Result}
        for op in ("read", "write")
    }


def _longest_without_write(history: Sequence[Operation]) -> float:
    """Seconds in which no client at any manager had a write acknowledged."""
    answered = sorted(o.returned_at for o in _acknowledged(history) if o.returned_at is not None)
    return max((b - a for a, b in pairwise(answered)), default=0.0)
