"""The checker against small histories with a known answer, and against trying every order."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from swarm.simulation.linearizability import (
    Op,
    Operation,
    Result,
    TooComplexError,
    Value,
    check,
    load,
)


def read(value: Value, called: float, returned: float) -> Operation:
    return Operation("r", Op.READ, "k", value, called, returned)


def write(
    value: Value, called: float, returned: float | None, outcome: Result = Result.OK
) -> Operation:
    return Operation("w", Op.WRITE, "k", value, called, returned, outcome)


def cas(
    expected: Value, value: Value, called: float, returned: float, outcome: Result = Result.OK
) -> Operation:
    return Operation("c", Op.CAS, "k", value, called, returned, outcome, expected)


GOOD = {
    "nothing": [],
    "one after the other": [write("a", 1, 2), read("a", 3, 4)],
    "a read beside a write sees old or new": [
        write("a", 1, 5), read(None, 2, 3), read("a", 3, 4),
    ],
    "a write of unknown outcome that never happens": [
        write("a", 1, 2), write("b", 3, None, Result.UNKNOWN), read("a", 4, 5),
    ],
    "one that happens late": [
        write("a", 1, 2), write("b", 3, None, Result.UNKNOWN), read("a", 4, 5), read("b", 6, 7),
    ],
    "one that hides in the wake of another": [
        write("a", 1, 9), write("b", 2, 3), read("b", 4, 5), read("b", 10, 11),
    ],
    "a swap of what is there": [write("a", 1, 2), cas("a", "b", 3, 4), read("b", 5, 6)],
    "a swap that failed": [write("a", 1, 2), cas("x", "b", 3, 4, Result.FAIL), read("a", 5, 6)],
}  # fmt: skip

BAD = {
    "a stale read": [write("a", 1, 2), write("b", 3, 4), read("a", 5, 6)],
    "a lost write": [write("a", 1, 2), read(None, 3, 4)],
    "back in time": [write("a", 1, 9), read("a", 2, 3), read(None, 4, 5)],
    "a failed write that is seen": [write("a", 1, 2, Result.FAIL), read("a", 3, 4)],
    "a value from nowhere": [write("a", 1, 2), read("x", 3, 4)],
    "an unknown write that is seen before it was asked": [
        read("a", 1, 2), write("a", 3, None, Result.UNKNOWN),
    ],
    "an unknown write that happens twice": [
        write("b", 1, None, Result.UNKNOWN), read("b", 2, 3), write("a", 4, 5), read("a", 6, 7),
        read("b", 8, 9),
    ],
    "two swaps of one value": [write("a", 1, 2), cas("a", "b", 3, 5), cas("a", "c", 4, 6)],
}  # fmt: skip


@pytest.mark.parametrize("name", list(GOOD))
def test_a_history_that_can_be_explained(name: str) -> None:
    assert check(GOOD[name]) is None


@pytest.mark.parametrize("name", list(BAD))
def test_a_history_that_can_not(name: str) -> None:
    assert check(BAD[name]) is not None


def test_keys_are_independent_and_may_begin_with_something() -> None:
    other = Operation("r", Op.READ, "other", "x", 1, 2)
    assert check([write("a", 1, 2), other], {"other": "x"}) is None
    assert check([write("a", 1, 2), other]) is not None


def test_an_anomaly_names_the_operation_and_what_was_there() -> None:
    anomaly = check([write("a", 1, 2), write("b", 3, 4), read("a", 5, 6)])
    assert anomaly is not None
    assert anomaly.operation == read("a", 5, 6)
    assert anomaly.possible == ("b",)
    assert "no order explains [5.0000..6.0000] r read k 'a' ok: the value was 'b'" in str(anomaly)


@pytest.mark.parametrize("seed", range(8))
def test_it_agrees_with_trying_every_order(seed: int) -> None:
    rng = random.Random(seed)
    verdicts = {True: 0, False: 0}
    for _ in range(250):
        history = random_history(rng)
        expected = any_order_explains(history)
        assert (check(history) is None) == expected, "\n".join(map(str, history))
        verdicts[expected] += 1
    assert min(verdicts.values()) > 20


def random_history(rng: random.Random) -> list[Operation]:
    history: list[Operation] = []
    values = (None, "a", "b", "c")
    for number in range(rng.randint(2, 6)):
        called = rng.randrange(8)
        returned = float(called + rng.randrange(1, 5))
        op = rng.choice((Op.READ, Op.READ, Op.WRITE, Op.CAS))
        outcome = Result.OK if rng.random() < 0.75 else rng.choice((Result.FAIL, Result.UNKNOWN))
        end = None if outcome is Result.UNKNOWN else returned
        value, expected = rng.choice(values), rng.choice(values) if op is Op.CAS else None
        history.append(Operation(f"c{number}", op, "k", value, called, end, outcome, expected))
    return history


def any_order_explains(history: Sequence[Operation]) -> bool:
    ok = [o for o in history if o.outcome is Result.OK]
    maybe = [o for o in history if o.outcome is Result.UNKNOWN and o.op is not Op.READ]
    return any(
        _is_legal(order)
        for count in range(len(maybe) + 1)
        for happened in itertools.combinations(maybe, count)
        for order in itertools.permutations([*ok, *happened])
    )


def _is_legal(order: Sequence[Operation]) -> bool:
    value: Value = None
    latest_call = float("-inf")
    for operation in order:
        end = operation.returned_at
        if end is not None and end < latest_call:
            return False
        latest_call = max(latest_call, operation.called_at)
        if operation.op is Op.READ and operation.value != value:
            return False
        if operation.op is Op.CAS and operation.expected != value:
            return False
        if operation.op is not Op.READ:
            value = operation.value
    return True


def test_a_long_history_of_many_clients_is_checked_in_one_pass() -> None:
    rng = random.Random(1)
    history, value = list[Operation](), None
    for number in range(20_000):
        at = number * 1.0
        if rng.random() < 0.3:
            history.append(cas(value, number, at, at + 0.9))
            value = number
        else:
            history.append(read(value, at, at + 0.9))
        if rng.random() < 0.1:
            history.append(write(f"lost {number}", at, None, Result.UNKNOWN))
    assert check(history) is None
    history.append(read(history[0].value, 20_001, 20_002))
    assert check(history) is not None


def test_too_many_writes_at_once_are_said_to_be_too_many() -> None:
    crowd = [write(f"v{number}", 1, 10 + number) for number in range(24)]
    with pytest.raises(TooComplexError, match="24 writes overlap"):
        check([*crowd, read("v3", 2, 50)])


def test_a_history_is_a_file_of_lines(tmp_path: Path) -> None:
    operations = [write("a", 1, 2), cas("a", "b", 3, 4), write("c", 5, None, Result.UNKNOWN)]
    file = tmp_path / "history.jsonl"
    file.write_text("".join(operation.to_json() + "\n" for operation in operations))
    assert load(file) == operations


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "Expecting property name"),
        ('{"op": "read"}', "outcome"),
        (json.dumps({**json.loads(read("a", 1, 2).to_json()), "returned_at": None}), "returned"),
    ],
)
def test_what_is_no_history_is_refused_with_its_line(tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(read("a", 1, 2).to_json() + "\n" + line + "\n")
    with pytest.raises(ValueError, match=f"line 2: .*{why}"):
        load(file)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    command = [sys.executable, "-m", "swarm.simulation.linearizability", str(file)]
    file.write_text(write("a", 1, 2).to_json() + "\n")
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout) == (0, "linearizable: 1 operations\n")
    file.write_text(read("a", 1, 2).to_json() + "\n")
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert bad.stdout.startswith("no order explains")
