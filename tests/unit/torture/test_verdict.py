"""A history that can't be is found, whatever way it went wrong."""

from __future__ import annotations

from swarm.simulation.linearizability import Op, Operation, Result
from tests.torture.clients import LAST_READER, REGISTERS
from tests.torture.verdict import judge

KEY = REGISTERS[0]


def cas(at: float, expected: str | None, value: str, key: str = KEY, **fields: Result) -> Operation:
    outcome = fields.get("outcome", Result.OK)
    returned_at = None if outcome is Result.UNKNOWN else at + 0.5
    return Operation(f"writer-{at}", Op.CAS, key, value, at, returned_at, outcome, expected)


def read(at: float, value: str | None, client: str = "reader", key: str = KEY) -> Operation:
    return Operation(client, Op.READ, key, value, at, at + 0.5)


def test_a_history_in_order_is_in_order() -> None:
    verdict = judge([cas(1, None, "a"), read(2, "a"), cas(3, "a", "b"), read(4, "b")])
    assert verdict.violations == []
    assert verdict.figures["linearizable"]
    assert verdict.figures["acknowledged_writes"] == 2
    assert verdict.figures["longest_without_write_s"] == 2.0


def test_a_stale_read_is_found() -> None:
    verdict = judge([cas(1, None, "a"), cas(2, "a", "b"), read(3, "a")])
    assert len(verdict.violations) == 1
    assert not verdict.figures["linearizable"]


def test_a_lost_update_is_found() -> None:
    """Both changed what they had read, and both were told that they had."""
    both = [cas(1, None, "a"), cas(2, "a", "b"), cas(2.1, "a", "c"), read(3, "c")]
    assert not judge(both).figures["linearizable"]


def test_a_write_of_unknown_outcome_may_have_happened_or_not() -> None:
    unknown = cas(2, "a", "b", outcome=Result.UNKNOWN)
    assert judge([cas(1, None, "a"), unknown, read(5, "a"), read(6, "b")]).violations == []
    assert judge([cas(1, None, "a"), unknown, read(5, "a")]).violations == []
    # But not both, one after the other.
    assert judge([cas(1, None, "a"), unknown, read(5, "b"), read(6, "a")]).violations


def test_a_write_that_failed_and_is_seen_is_found() -> None:
    failed = cas(2, "a", "b", outcome=Result.FAIL)
    assert judge([cas(1, None, "a"), failed, read(3, "b")]).violations


def test_an_acknowledged_creation_that_is_gone_is_named() -> None:
    created = cas(1, None, "writer-1", key="writer-1")
    last = read(9, None, client=f"{LAST_READER}-2", key="writer-1")
    verdict = judge([created, last])
    assert "acknowledged, and not there at the end: writer-1" in verdict.violations
    assert verdict.figures["missing_writes"] == 1


def test_a_creation_of_unknown_outcome_need_not_be_there() -> None:
    unknown = cas(1, None, "writer-1", key="writer-1", outcome=Result.UNKNOWN)
    last = read(9, None, client=f"{LAST_READER}-2", key="writer-1")
    assert judge([unknown, last]).violations == []
