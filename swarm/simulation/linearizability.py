"""Is a history linearizable? (Herlihy and Wing, 1990.) For histories of the simulator, and for
those that clients of real processes wrote down.

Each key is a register that holds a value, or None while nothing is there. A history is the file
format too, one JSON object a line:

    {"client": "c1", "op": "cas", "key": "web", "expected": "a", "value": "b",
     "called_at": 1.25, "returned_at": 1.31, "outcome": "ok"}

op            read (`value` is what it saw), write (sets `value` whatever was there), or cas (sets
              `value` if `expected` was there; a create expects null). A removal writes null.
called_at, returned_at    seconds, all of one clock that never goes back (CLOCK_MONOTONIC is
              the same for all processes of a machine). `returned_at` is null where unknown.
outcome       ok; fail: it certainly had no effect; unknown: it may take effect at any time
              after `called_at`, or never.

Values that are written once only make the check sharpest. From a shell:
`python -m swarm.simulation.linearizability FILE...` says what is wrong, and ends with 1.

A key is checked by itself, because a history is linearizable if every key's is. The algorithm is
Lowe's just-in-time linearization ("Testing for linearizability", 2017): what is carried through
time is every possible (value, operations that took effect before they returned). An operation takes
effect no earlier than some return needs it, reads as soon as they can. No possibility left: a
violation.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from pathlib import Path

Value = str | int | None

# So many possibilities at once mean far too many clients that write one key at the same time.
_POSSIBILITIES_MAX = 40_000


class Op(StrEnum):
    READ = "read"
    WRITE = "write"
    CAS = "cas"


class Result(StrEnum):
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """What one client asked of one key. The fields are those of the file format, above."""

    client: str
    op: Op
    key: str
    value: Value
    called_at: float
    returned_at: float | None = None
    outcome: Result = Result.OK
    expected: Value = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(line: str) -> Operation:
        """ValueError: the line is none."""
        try:
            fields = json.loads(line)
            fields["op"], fields["outcome"] = Op(fields["op"]), Result(fields["outcome"])
            operation = Operation(**fields)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"not an operation ({error}): {line.strip()[:80]}") from error
        if operation.outcome is Result.OK and operation.returned_at is None:
            raise ValueError(f"an operation that is ok has returned: {line.strip()[:80]}")
        return operation

    def __str__(self) -> str:
        end = "" if self.returned_at is None else f"{self.returned_at:.4f}"
        what = f"{self.op} {self.key} {self.value!r}"
        if self.op is Op.CAS:
            what = f"{self.op} {self.key} {self.expected!r} to {self.value!r}"
        return f"[{self.called_at:.4f}..{end}] {self.client} {what} {self.outcome}"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """`operation` can't have been answered so: `possible` are the values of the key at the last
    moment that can be explained, `around` are the operations that overlap it or came last."""

    operation: Operation
    possible: tuple[Value, ...]
    around: tuple[Operation, ...]

    def __str__(self) -> str:
        values = ", ".join(map(repr, self.possible))
        around = "; ".join(map(str, self.around))
        return (
            f"no order explains {self.operation}: the value was {values} before. Around: {around}"
        )


class TooComplexError(Exception):
    """Too many clients write one key at the same time for it to be decided."""


def check(
    history: Iterable[Operation], initial: Mapping[str, Value] | None = None
) -> Anomaly | None:
    """What can't be explained, or None. `initial`: what keys hold before; None unless said."""
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for key, operations in by_key.items():
        anomaly = _Register(operations, (initial or {}).get(key)).check()
        if anomaly is not None:
            return anomaly
    return None


def load(path: Path) -> list[Operation]:
    """ValueError: not a history, with the line's number."""
    operations: list[Operation] = []
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                operations.append(Operation.from_json(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    return operations


class _Moment(IntEnum):
    """In the order in which those of one instant are taken."""

    CALL = 0
    RETURN = 1
    FORGOTTEN = 2


# (value, numbers of operations that took effect and have not returned)
_Possibility = tuple[Value, frozenset[int]]


class _Register:
    """One key's history. Operations are called by their number in the order of their calls."""

    def __init__(self, operations: list[Operation], initial: Value) -> None:
        self._operations = sorted(_relevant(operations), key=lambda o: o.called_at)
        self._reads: dict[int, Operation] = {}
        # Under way, or of unknown outcome.
        self._writes: dict[int, Operation] = {}
        self._unknown: set[int] = set()
        self._possible: set[_Possibility] = {(initial, frozenset())}

    def check(self) -> Anomaly | None:
        for _, moment, number in self._moments():
            if moment is _Moment.CALL:
                self._called(number)
            elif moment is _Moment.FORGOTTEN:
                self._forget(number)
            else:
                before = self._possible
                self._returned(number)
                if not self._possible:
                    return self._anomaly(number, before)
                self._reads.pop(number, None)
                self._writes.pop(number, None)
        return None

    def _moments(self) -> list[tuple[float, _Moment, int]]:
        """In order; what happens at the same time overlaps. An operation of unknown outcome is of
        no more use once nobody is left who may have seen it."""
        last_seen: dict[Value, float] = {}
        for operation in self._operations:
            seen = operation.value if operation.op is Op.READ else operation.expected
            if operation.op is not Op.WRITE:
                end = operation.returned_at if operation.outcome is Result.OK else None
                last = max(last_seen.get(seen, 0.0), float("inf") if end is None else end)
                last_seen[seen] = last
        moments: list[tuple[float, _Moment, int]] = []
        for number, operation in enumerate(self._operations):
            if operation.outcome is Result.UNKNOWN:
                end = last_seen.get(operation.value)
                if end is None or end < operation.called_at:
                    continue
                self._unknown.add(number)
                moments.append((end, _Moment.FORGOTTEN, number))
            else:
                assert operation.returned_at is not None, "it is ok"
                moments.append((operation.returned_at, _Moment.RETURN, number))
            moments.append((operation.called_at, _Moment.CALL, number))
        return sorted(moments)

    def _called(self, number: int) -> None:
        operation = self._operations[number]
        if operation.op is not Op.READ:
            self._writes[number] = operation
            return
        self._reads[number] = operation
        self._possible = {self._with_reads(*possibility) for possibility in self._possible}

    def _forget(self, number: int) -> None:
        del self._writes[number]
        self._possible = {(value, done - {number}) for value, done in self._possible}

    def _returned(self, number: int) -> None:
        """Only what lets it take effect by now is possible still."""
        reached: set[_Possibility] = set()
        seen = set(self._possible)
        open_ends = list(self._possible)
        while open_ends:
            value, done = open_ends.pop()
            if number in done:
                reached.add((value, done - {number}))
                continue
            for other, operation in self._writes.items():
                if other in done or (operation.op is Op.CAS and operation.expected != value):
                    continue
                next_one = self._with_reads(operation.value, done | {other})
                if next_one not in seen:
                    seen.add(next_one)
                    open_ends.append(next_one)
            if len(seen) > _POSSIBILITIES_MAX:
                raise TooComplexError(
                    f"key {self._operations[number].key}: {len(self._writes)} writes overlap at "
                    f"{self._operations[number].returned_at}; let fewer clients write one key"
                )
        self._possible = self._undominated(reached)

    def _with_reads(self, value: Value, done: frozenset[int]) -> _Possibility:
        """A read that can take effect does: that takes nothing away from anybody."""
        read = [n for n, o in self._reads.items() if o.value == value and n not in done]
        return value, (done.union(read) if read else done)

    def _undominated(self, possible: set[_Possibility]) -> set[_Possibility]:
        """Where all else is the same, a possibility that has used fewer of the operations
        of unknown outcome can do all that another one can."""
        if not self._unknown or len(possible) < 2:
            return possible
        alike: defaultdict[_Possibility, list[frozenset[int]]] = defaultdict(list)
        for value, done in possible:
            alike[value, done - self._unknown].append(done & self._unknown)
        best: set[_Possibility] = set()
        for (value, done), used in alike.items():
            used.sort(key=len)
            kept: list[frozenset[int]] = []
            for one in used:
                if not any(other <= one for other in kept):
                    kept.append(one)
            best.update((value, done | one) for one in kept)
        return best

    def _anomaly(self, number: int, before: set[_Possibility]) -> Anomaly:
        values = sorted({value for value, _ in before}, key=repr)
        operation = self._operations[number]
        assert operation.returned_at is not None, "it returned"
        earlier = [o for o in self._operations if o.called_at <= operation.returned_at]
        around = [o for o in earlier if o is not operation][-6:]
        return Anomaly(operation, tuple(values), tuple(around))


def _relevant(operations: Iterable[Operation]) -> Iterable[Operation]:
    """A read that was not answered says nothing, a write that failed did nothing."""
    for operation in operations:
        if operation.outcome is Result.OK or (
            operation.outcome is Result.UNKNOWN and operation.op is not Op.READ
        ):
            yield operation


def main(arguments: list[str]) -> int:
    if not arguments:
        print("usage: python -m swarm.simulation.linearizability FILE...", file=sys.stderr)
        return 2
    try:
        history = [operation for name in arguments for operation in load(Path(name))]
        anomaly = check(history)
    except (OSError, ValueError, TooComplexError) as error:
        print(error, file=sys.stderr)
        return 2
    if anomaly is not None:
        print(anomaly)
        return 1
    print(f"linearizable: {len(history)} operations")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
