"""What clients saw, against what was committed: strict serialisability of the whole store, no
acknowledged write lost, each request at most once.

Every operation is answered with the revision of the store that it made or saw. Operations that
do not overlap must have revisions in their order, and what was read at a revision must be what
the log made of it by then. With that, the revisions are the order that linearizability asks for
(Herlihy and Wing, 1990).

That trusts the answers' revisions. So the history is kept as well, as a client of real processes
would write it down, and checked by itself at the end (`linearizability`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from swarm.api.v1.service_pb2 import Service, ServiceRevision, ServiceSpec
from swarm.manager.core.store import StoreChange, revision_id
from swarm.simulation.api import Done, Outcome, Refused
from swarm.simulation.invariants.log import TookEffect
from swarm.simulation.linearizability import Op, Result, Value, check
from swarm.simulation.linearizability import Operation as Recorded
from swarm.simulation.loop import Loop
from swarm.simulation.violation import Violation

# The label by which a spec tells whose request wrote it.
WRITER = "writer"


@dataclass(slots=True)
class Operation:
    """`floor`: the highest revision that anybody had been answered with when it began."""

    client: str
    what: str
    began_at: float
    floor: int

    @property
    def name(self) -> str:
        return f"{self.client} {self.what}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a write makes of one service: who wrote it last, or None for its removal."""

    service: str
    written: Value
    # What it replaces; a removal replaces whatever is there.
    replaces: Value = None


def writer_of(spec: ServiceSpec) -> str | None:
    """Whose request wrote the spec; a spec that is gone back to keeps its writer."""
    return spec.annotations.labels.get(WRITER)


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
        self._written: dict[str, ServiceRevision] = {}
        self._recorded: list[Recorded] = []
        # Services that somebody has asked for, by name.
        self._named: dict[str, None] = {}
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
            if isinstance(change.new, ServiceRevision):
                self._written[change.new.id] = change.new
        for change in changes:
            row = change.new if change.new is not None else change.old
            if isinstance(change.old, Service) and isinstance(change.new, Service):
                self._rolled_back(change.old, change.new)
            if isinstance(row, Service):
                versions = self._services.setdefault(row.id, _Versions())
                versions.at.append(change.revision)
                versions.spec.append(row.revision if change.new is not None else 0)

    def _rolled_back(self, old: Service, new: Service) -> None:
        """The brain is a client too where it goes back to a spec of before; it may have asked for
        it at any time."""
        row = self._written.get(revision_id(new.id, new.revision))
        if row is None or row.who != "brain" or old.revision == new.revision:
            return
        before = writer_of(self._written[revision_id(old.id, old.revision)].spec)
        asked = Operation("brain", "rolls back", 0.0, 0)
        self._record(asked, Op.CAS, new.name, writer_of(row.spec), Result.OK, before)

    # From clients

    def begin(self, client: str, what: str, wish: Wish | None = None) -> Operation:
        if wish is not None:
            self._named.setdefault(wish.service)
        return Operation(client, what, self._loop.now, self._floor)

    def end_write(
        self, operation: Operation, request_id: str, outcome: Outcome, wish: Wish | None = None
    ) -> None:
        if wish is not None:
            self._record_write(operation, outcome, wish)
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

    def end_read(
        self,
        operation: Operation,
        revision: int,
        services: Mapping[str, int],
        writers: Mapping[str, Value],
    ) -> None:
        """The answer: spec revisions by service id, and who wrote each service, by name."""
        self.counts["reads"] += 1
        for name in self._named:
            self._record(operation, Op.READ, name, writers.get(name))
        self._in_order(operation, revision, is_write=False)
        for service_id, spec_revision in services.items():
            expected = self._spec_at(service_id, revision)
            if spec_revision != expected:
                raise Violation(
                    "a read sees what was written",
                    f"{operation.name}: service {service_id} in revision {spec_revision} at "
                    f"{revision}, the log says {expected}",
                )

    def end(self) -> None:
        """Nobody asks any more: can any order explain all answers?"""
        anomaly = check(self._recorded)
        if anomaly is not None:
            raise Violation("the history is linearizable", str(anomaly))

    def _record_write(self, operation: Operation, outcome: Outcome, wish: Wish) -> None:
        result = Result.OK
        if isinstance(outcome, Refused):
            result = Result.FAIL
        elif not isinstance(outcome, Done):
            result = Result.UNKNOWN
        op = Op.WRITE if wish.written is None else Op.CAS
        self._record(operation, op, wish.service, wish.written, result, wish.replaces)

    def _record(
        self,
        operation: Operation,
        op: Op,
        service: str,
        value: Value,
        result: Result = Result.OK,
        expected: Value = None,
    ) -> None:
        began, ended = operation.began_at, self._loop.now
        self._recorded.append(
            Recorded(operation.client, op, service, value, began, ended, result, expected)
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
