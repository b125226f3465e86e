"""Why a task has no node, in Docker Swarm's words.

Source: moby/swarmkit manager/scheduler: Explain in filter.go, pipeline.go, scheduler.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from swarm.manager.core.scheduler.filters import Reason

_ONE = {
    Reason.NOT_AVAILABLE: "1 node not available for new tasks",
    Reason.RESOURCES: "insufficient resources on 1 node",
    Reason.CONSTRAINTS: "scheduling constraints not satisfied on 1 node",
    Reason.PLATFORM: "unsupported platform on 1 node",
    Reason.HOST_PORT: "host-mode port already in use on 1 node",
    Reason.MAX_REPLICAS: "max replicas per node limit exceed",
}
_MANY = {
    Reason.NOT_AVAILABLE: "{} nodes not available for new tasks",
    Reason.RESOURCES: "insufficient resources on {} nodes",
    Reason.CONSTRAINTS: "scheduling constraints not satisfied on {} nodes",
    Reason.PLATFORM: "unsupported platform on {} nodes",
    Reason.HOST_PORT: "host-mode port already in use on {} nodes",
    Reason.MAX_REPLICAS: "max replicas per node limit exceed",
}
_NUMBERS = re.compile(r"\b\d+ nodes?\b")


def count_reasons(reasons: Iterable[Reason]) -> dict[Reason, int]:
    """How many nodes each filter rejected, in the filters' order."""
    counts = dict.fromkeys(Reason, 0)
    for reason in reasons:
        counts[reason] += 1
    return {reason: count for reason, count in counts.items() if count}


def explain(counts: Mapping[Reason, int]) -> str:
    """One line: the filters that rejected most nodes first, equals in the filters' order."""
    ordered = sorted(counts, key=lambda reason: (-counts[reason], reason))
    if not ordered:
        return "no suitable node"
    parts = [
        _ONE[reason] if counts[reason] == 1 else _MANY[reason].format(counts[reason])
        for reason in ordered
    ]
    return f"no suitable node ({'; '.join(parts)})"


def same_kinds(message: str, other: str) -> bool:
    """Do two explanations name the same filters, whatever the numbers and the order?"""
    return _kinds(message) == _kinds(other)


def _kinds(message: str) -> list[str]:
    inside = message.partition("(")[2].rstrip(")")
    return sorted(_NUMBERS.sub("N", part) for part in inside.split("; "))
