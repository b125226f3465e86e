"""The functions of text/template and those that Docker's client adds to them.

Each gets the values of its arguments (a missing one is None) and returns a value; what it can't do
is a ValueError in Go's words, which the evaluator places.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote_plus

from swarm.gotemplate.formatting import Formatter
from swarm.gotemplate.values import (
    as_mapping,
    as_sequence,
    is_mapping,
    is_nil,
    is_sequence,
    truth,
    type_name,
)

_HTML = str.maketrans(
    {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
)
_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"'} | {c: f"\\u{ord(c):04X}" for c in "<>&="}
_INCOMPATIBLE = "incompatible types for comparison"
_BAD_TYPE = "invalid type for comparison"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes: one letter an argument (s string, i int, l list, a any).

    `variadic`: the last may be repeated, or left out.
    """

    arguments: str
    variadic: bool = False

    @property
    def required(self) -> int:
        return len(self.arguments) - self.variadic

    def kind(self, index: int) -> str:
        return self.arguments[min(index, len(self.arguments) - 1)]


@dataclass(frozen=True, slots=True)
class GoFunction:
    """A function, and what its arguments must be; without a signature anything goes."""

    call: Callable[..., Any]
    signature: Signature | None = None


def standard_functions(formatter: Formatter) -> dict[str, GoFunction]:
    """All functions by name; `formatter` counts the text that they make."""
    printers = _Printers(formatter)
    texts = _Texts(formatter)
    one_string, any_values = Signature("s"), Signature("a", variadic=True)
    return {
        "eq": GoFunction(_eq, Signature("aa", variadic=True)),
        "ne": GoFunction(_ne, Signature("aa")),
        "lt": GoFunction(_lt, Signature("aa")),
        "le": GoFunction(_le, Signature("aa")),
        "gt": GoFunction(_gt, Signature("aa")),
        "ge": GoFunction(_ge, Signature("aa")),
        "not": GoFunction(_not, Signature("a")),
        "len": GoFunction(_len, Signature("a")),
        "index": GoFunction(_index, Signature("aa", variadic=True)),
        "slice": GoFunction(_slice, Signature("aa", variadic=True)),
        "print": GoFunction(printers.print, any_values),
        "println": GoFunction(printers.println, any_values),
        "printf": GoFunction(printers.printf, Signature("sa", variadic=True)),
        "html": GoFunction(partial(printers.escaped, _escape_html), any_values),
        "js": GoFunction(partial(printers.escaped, _escape_js), any_values),
        "urlquery": GoFunction(partial(printers.escaped, _escape_query), any_values),
        "json": GoFunction(texts.json, Signature("a")),
        "split": GoFunction(texts.split, Signature("ss")),
        "join": GoFunction(texts.join, Signature("ls")),
        "title": GoFunction(texts.title, one_string),
        "lower": GoFunction(str.lower, one_string),
        "upper": GoFunction(str.upper, one_string),
        "pad": GoFunction(texts.pad, Signature("sii")),
        "truncate": GoFunction(texts.truncate, Signature("si")),
    }


# Comparison


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float | str):
        return type_name(value)
    raise ValueError(_INCOMPATIBLE if is_nil(value) else _BAD_TYPE)


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def _equal(first: Any, other: Any) -> bool:
    if is_nil(first) or is_nil(other):
        return is_nil(first) and is_nil(other)
    for value in (first, other):
        if is_sequence(value) or is_mapping(value):
            raise ValueError(f"non-comparable type {_shown(value)}: {type_name(value)}")
    if _kind(first) != _kind(other):
        raise ValueError(_INCOMPATIBLE)
    return first == other


def _shown(value: Any) -> str:
    return Formatter(1 << 20).format(value)


def _ne(first: Any, other: Any) -> bool:
    return not _equal(first, other)


def _lt(first: Any, other: Any) -> bool:
    kind = _kind(first)
    if kind != _kind(other):
        raise ValueError(_INCOMPATIBLE)
    if kind == "bool":
        raise ValueError(_BAD_TYPE)
    return first < other


def _le(first: Any, other: Any) -> bool:
    return _lt(first, other) or _equal(first, other)


def _gt(first: Any, other: Any) -> bool:
    return not _le(first, other)


def _ge(first: Any, other: Any) -> bool:
    return not _lt(first, other)


def _not(value: Any) -> bool:
    return not truth(value)


# Parts of values


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if is_sequence(value) or is_mapping(value):
        return len(value)
    if is_nil(value):
        raise ValueError("len of untyped nil")
    raise ValueError(f"len of type {type_name(value)}")


def _index(value: Any, *keys: Any) -> Any:
    if is_nil(value):
        raise ValueError("index of untyped nil")
    for key in keys:
        value = _item(value, key)
    return value


def _item(value: Any, key: Any) -> Any:
    if is_nil(value):
        raise ValueError("index of nil pointer")
    if is_mapping(value):
        if is_nil(key):
            raise ValueError("value is nil; should be of type string")
        if not isinstance(key, str):
            raise ValueError(f"value has type {type_name(key)}; should be string")
        return as_mapping(value).get(key)
    if is_sequence(value):
        return as_sequence(value)[_position(key, len(value) - 1)]
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        return data[_position(key, len(data) - 1)]
    raise ValueError(f"can't index item of type {type_name(value)}")


def _position(key: Any, last: int) -> int:
    if is_nil(key):
        raise ValueError("cannot index slice/array with nil")
    if isinstance(key, bool) or not isinstance(key, int):
        raise ValueError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key <= last:
        raise ValueError(f"index out of range: {key}")
    return key


def _slice(value: Any, *bounds: Any) -> Any:
    if is_nil(value):
        raise ValueError("slice of untyped nil")
    if len(bounds) > 3:
        raise ValueError(f"too many slice indexes: {len(bounds)}")
    if not isinstance(value, str) and not is_sequence(value):
        raise ValueError(f"can't slice item of type {type_name(value)}")
    if isinstance(value, str) and len(bounds) == 3:
        raise ValueError("cannot 3-index slice a string")
    whole: Any = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    positions = [_position(bound, len(whole)) for bound in bounds]
    start, end = (*positions, *(0, len(whole))[len(positions) :])[:2]
    if start > end:
        raise ValueError(f"invalid slice index: {start} > {end}")
    part = whole[start:end]
    return part.decode("utf-8", "replace") if isinstance(value, str) else part


# Text


class _Printers:
    """The functions that print values."""

    def __init__(self, formatter: Formatter) -> None:
        self._formatter = formatter

    def print(self, *operands: Any) -> str:
        return self._formatter.sprint(operands)

    def println(self, *operands: Any) -> str:
        return self._formatter.sprintln(operands)

    def printf(self, template: str, *operands: Any) -> str:
        return self._formatter.sprintf(template, operands)

    def escaped(self, escape: Callable[[str], str], *operands: Any) -> str:
        """The operands as `print` shows them (nothing is "<no value>"), escaped."""
        shown = ["<no value>" if is_nil(operand) else operand for operand in operands]
        return self._formatter.take(escape(self._formatter.sprint(shown)))


def _escape_html(text: str) -> str:
    return text.translate(_HTML)


def _escape_js(text: str) -> str:
    return "".join(_JS.get(char) or _escape_unprintable(char) for char in text)


def _escape_unprintable(char: str) -> str:
    return char if char.isprintable() else f"\\u{ord(char):04X}"


def _escape_query(text: str) -> str:
    return quote_plus(text, safe="", errors="replace")


class _Texts:
    """What Docker adds (docker/cli templates/templates.go)."""

    def __init__(self, formatter: Formatter) -> None:
        self._formatter = formatter

    def json(self, value: Any) -> str:
        try:
            return self._formatter.take(to_json(value))
        except (TypeError, ValueError, RecursionError):
            return ""

    def split(self, text: str, separator: str) -> Sequence[str]:
        parts = text.split(separator) if separator else list(text)
        self._formatter.reserve(len(parts))
        return parts

    def join(self, parts: Sequence[Any], separator: str) -> str:
        texts = [self._formatter.format(part) for part in parts]
        self._formatter.reserve(len(separator) * len(texts))
        return separator.join(texts)

    def title(self, text: str) -> str:
        previous = " "
        made: list[str] = []
        for char in text:
            starts_word = not (previous.isalnum() or previous == "_")
            if not previous.isascii():
                starts_word = previous.isspace()
            made.append(char.title() if starts_word else char)
            previous = char
        return self._formatter.take("".join(made))

    def pad(self, text: str, before: int, after: int) -> str:
        if not text:
            return text
        if before < 0 or after < 0:
            raise ValueError("strings: negative Repeat count")
        self._formatter.reserve(before + after)
        return " " * before + text + " " * after

    def truncate(self, text: str, length: int) -> str:
        if length < 0:
            raise ValueError(f"slice bounds out of range [:{length}]")
        return text[:length]


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON as Go's encoder writes it, keys in the order of the mapping, on one line or indented."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        value, ensure_ascii=False, separators=separators, indent=indent, default=_plain
    )


def _plain(value: Any) -> Any:
    """What the JSON encoder does not know: other mappings, and methods, which it leaves out."""
    if is_mapping(value):
        return dict(as_mapping(value))
    return None if is_nil(value) or callable(value) else str(value)
