"""What JSON-like Python values are to a Go template: their types, truth, order and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

_LARGE_EXPONENT = 6


class Missing:
    """The type of `MISSING`, what a key that isn't there evaluates to."""

    def __repr__(self) -> str:
        return "<no value>"


MISSING = Missing()


def is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def is_sequence(value: object) -> bool:
    return isinstance(value, list | tuple)


def is_nil(value: object) -> bool:
    return value is None or value is MISSING


def type_name(value: object) -> str:
    """The Go type that a value of JSON has."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    if is_sequence(value):
        return "[]interface {}"
    if is_mapping(value):
        return "map[string]interface {}"
    return "<nil>" if is_nil(value) else "func"


def truth(value: object) -> bool:
    """Whether Go's `if` takes the value for true: it is not empty and not zero."""
    return value is not MISSING and bool(value)


def sorted_items(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Pairs of a map by key, as Go prints and ranges over it."""
    try:
        return sorted(value.items(), key=_first)
    except TypeError:
        return sorted(value.items(), key=_first_as_text)


def _first(item: tuple[Any, Any]) -> Any:
    return item[0]


def _first_as_text(item: tuple[Any, Any]) -> tuple[str, str]:
    return type(item[0]).__name__, str(item[0])


def as_mapping(value: object) -> Mapping[Any, Any]:
    return cast("Mapping[Any, Any]", value)


def as_sequence(value: object) -> Sequence[Any]:
    return cast("Sequence[Any]", value)


def float_text(number: float, precision: int | None = None) -> str:
    """A float as Go's %g: the shortest text that reads back, an exponent from 1e+06 on."""
    if number != number:
        return "NaN"
    if number in (float("inf"), float("-inf")):
        return "+Inf" if number > 0 else "-Inf"
    if precision is not None:
        return f"{number:.{precision}g}"
    mantissa, _, exponent = f"{number!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0"
    if not -4 <= point - 1 < _LARGE_EXPONENT:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{point - 1:+03d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if point >= len(digits):
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"
