"""What clients saw, against what was committed: strict serialisability of the whole store, no
acknowledged write lost, each request at most once.

Every operation is answered with the revision of the store that it made or saw. Operations that
do not overlap must have revisions in their order, and what was read at a revision must be what
the log made of it by then. With that, the revisions are the order that linearizability asks for
(Herlihy and Wing, 1990).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.api.v1.service_pb2 import Service
from swarm.manager.core.store import StoreChange
from swarm.simulation.api import Done, Outcome, Refused
from swarm.simulation.invariants.log import TookEffect
from swarm.simulation.loop import Loop
from swarm.simulation.violation import Violation


@dataclass(slots=True)
class Operation:
    """`floor`: the highest revision that anybody had been answered with when it began."""

    name: str
    began_at: float
    floor: int


@dataclass(slots=True)
class _Versions:
    """A service's revisions of the store, and its spec revision from each on (0: gone)."""

    at: list[int] = field(default_factory=list[int])
    spec: list[int] = field(default_factory=list[int])


class History:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._floor = 0
        self._effects: dict[str, int] = {}
        self._refused: dict[str, str] = {}
        self._services: dict[str, _Versions] = {}
        self.counts = {"writes": 0, "reads": 0, "refused": 0, "unknown": 0}

    # From the log

    def took_effect(self, effects: TookEffect) -> None:
        for attempt_id, revision in effects:
            request_id = attempt_id.partition("#")[0]
            if request_id in self._effects:
                raise Violation(
                    "a request takes effect once",
                    f"{attempt_id} made revision {revision}, before {self._effects[request_id]}",
                )
            if request_id in self._refused:
                raise Violation(
                    "a refused request has no effect",
                    f"{attempt_id} made revision {revision} after its client was told: "
                    f"{self._refused[request_id]}",
                )
            self._effects[request_id] = revision

    def applied(self, changes: Sequence[StoreChange]) -> None:
        for change in changes:
            row = change.new if change.new is not None else change.old
            if isinstance(row, Service):
                versions = self._services.setdefault(row.id, _Versions())
                versions.at.append(change.revision)
                versions.spec.append(row.revision if change.new is not None else 0)

    # From clients

    def begin(self, name: str) -> Operation:
        return Operation(name, self._loop.now, self._floor)

    def end_write(self, operation: Operation, request_id: str, outcome: Outcome) -> None:
        if isinstance(outcome, Refused):
            self.counts["refused"] += 1
            if request_id in self._effects:
                raise Violation(
                    "a refused request has no effect",
                    f"{operation.name} {request_id} made revision {self._effects[request_id]}, "
                    f"and its client was told: {outcome.message}",
                )
            self._refused[request_id] = outcome.message
        elif isinstance(outcome, Done):
            self.counts["writes"] += 1
            if self._effects.get(request_id) != outcome.revision:
                raise Violation(
                    "an acknowledged write is committed",
                    f"{operation.name} {request_id} was answered with revision "
                    f"{outcome.revision}, the log says {self._effects.get(request_id)}",
                )
            self._in_order(operation, outcome.revision, is_write=True)
        else:
            self.counts["unknown"] += 1

    def end_read(self, operation: Operation, outcome: Outcome) -> None:
        """The answer is a list of (service id, spec revision)."""
        if not isinstance(outcome, Done):
            return
        self.counts["reads"] += 1
        self._in_order(operation, outcome.revision, is_write=False)
        for service_id, spec_revision in outcome.answer:
            expected = self._spec_at(service_id, outcome.revision)
            if spec_revision != expected:
                raise Violation(
                    "a read sees what was written",
                    f"{operation.name}: service {service_id} in revision {spec_revision} at "
                    f"{outcome.revision}, the log says {expected}",
                )

    def _in_order(self, operation: Operation, revision: int, *, is_write: bool) -> None:
        if revision < operation.floor + is_write:
            raise Violation(
                "operations are linearizable",
                f"{operation.name}, begun at {operation.began_at:.4f}, was answered with revision "
                f"{revision}; somebody had been answered with {operation.floor} before it began",
            )
        self._floor = max(self._floor, revision)

    def _spec_at(self, service_id: str, revision: int) -> int:
        versions = self._services.get(service_id)
        if versions is None:
            return 0
        position = bisect_right(versions.at, revision)
        return versions.spec[position - 1] if position else 0
