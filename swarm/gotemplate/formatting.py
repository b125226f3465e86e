"""Go's fmt for JSON-like values: Sprint, Sprintln and Sprintf, within a budget of characters.

Source: the documentation of Go's package fmt. What a verb can't do to a value is part of the text,
as in Go (`%!d(string=hi)`), never an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from swarm.gotemplate.errors import TemplateError
from swarm.gotemplate.values import (
    as_mapping,
    as_sequence,
    float_text,
    is_mapping,
    is_nil,
    is_sequence,
    sorted_items,
    type_name,
)
from swarm.units import quote

MAX_WIDTH = 1_000_000
_MAX_DEPTH = 100
_FLAGS = "+-# 0"
_INTEGER_BASES = {"d": "d", "b": "b", "o": "o", "x": "x", "X": "X"}
_PREFIXES = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}


@dataclass(frozen=True, slots=True)
class Directive:
    """One `%…` of a format: its flags, width, precision and verb."""

    verb: str
    flags: str = ""
    width: int = 0
    precision: int | None = None


PLAIN = Directive("v")


class Formatter:
    """Makes text and counts it; over `limit` characters it raises TemplateError."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def sprint(self, operands: Sequence[Any]) -> str:
        """Operands in a row, with a space between two that are not strings (fmt.Sprint)."""
        pieces: list[str] = []
        previous_is_text = True
        for operand in operands:
            is_text = isinstance(operand, str)
            if pieces and not is_text and not previous_is_text:
                pieces.append(" ")
            pieces.append(self.format(operand))
            previous_is_text = is_text
        return "".join(pieces)

    def sprintln(self, operands: Sequence[Any]) -> str:
        """Operands with spaces between all, and a line's end (fmt.Sprintln)."""
        return " ".join([self.format(operand) for operand in operands]) + "\n"

    def sprintf(self, template: str, operands: Sequence[Any]) -> str:
        """Operands by the directives of `template` (fmt.Sprintf)."""
        return _Printf(self, template, operands).text()

    def format(self, value: Any, directive: Directive = PLAIN, depth: int = 0) -> str:
        """One value by one directive; lists and maps apply it to what they hold."""
        if depth > _MAX_DEPTH:
            raise TemplateError(f"value nested deeper than {_MAX_DEPTH}")
        if is_sequence(value) and directive.verb != "T":
            return self._sequence(value, directive, depth)
        if is_mapping(value) and directive.verb != "T":
            return self._mapping(value, directive, depth)
        if depth and is_nil(value):
            return self.take("<nil>")
        return self.take(_pad(_leaf(value, directive), directive))

    def take(self, text: str) -> str:
        """Count `text` against the budget and return it."""
        self.reserve(len(text))
        return text

    def reserve(self, characters: int) -> None:
        """Count characters that are about to be made."""
        self._used += characters
        if self._used > self._limit:
            raise TemplateError(f"output is longer than {self._limit} characters")

    def _sequence(self, value: Any, directive: Directive, depth: int) -> str:
        items = [self.format(item, directive, depth + 1) for item in as_sequence(value)]
        self.reserve(2 + len(items))
        if _is_go_syntax(directive):
            return f"[]interface {{}}{{{', '.join(items)}}}"
        return f"[{' '.join(items)}]"

    def _mapping(self, value: Any, directive: Directive, depth: int) -> str:
        items = [
            f"{self.format(key, directive, depth + 1)}:{self.format(item, directive, depth + 1)}"
            for key, item in sorted_items(as_mapping(value))
        ]
        self.reserve(5 + 2 * len(items))
        if _is_go_syntax(directive):
            return f"map[string]interface {{}}{{{', '.join(items)}}}"
        return f"map[{' '.join(items)}]"


class _Printf:
    """One run over a format string."""

    def __init__(self, formatter: Formatter, template: str, operands: Sequence[Any]) -> None:
        self._formatter = formatter
        self._template = template
        self._operands = operands
        self._position = 0
        self._next_operand = 0
        self._reordered = False

    def text(self) -> str:
        pieces: list[str] = []
        while self._position < len(self._template):
            percent = self._template.find("%", self._position)
            end = len(self._template) if percent < 0 else percent
            pieces.append(self._formatter.take(self._template[self._position : end]))
            self._position = end
            if percent >= 0:
                self._position += 1
                pieces.append(self._directive())
        if not self._reordered and self._next_operand < len(self._operands):
            extra = self._operands[self._next_operand :]
            shown = ", ".join(self._described(operand) for operand in extra)
            pieces.append(f"%!(EXTRA {shown})")
        return "".join(pieces)

    def _directive(self) -> str:
        start = self._position
        while self._peek() and self._peek() in _FLAGS:
            self._position += 1
        flags = self._template[start : self._position]
        good_index = self._index()
        width, flags = self._width(flags)
        precision = None
        if self._peek() == ".":
            self._position += 1
            good_index = self._index() and good_index
            precision = self._number() or 0
        good_index = self._index() and good_index
        verb = self._peek()
        self._position += 1
        if not verb:
            return "%!(NOVERB)"
        if verb == "%":
            return self._formatter.take("%")
        if not good_index:
            return f"%!{verb}(BADINDEX)"
        if self._next_operand >= len(self._operands):
            return f"%!{verb}(MISSING)"
        operand = self._operands[self._next_operand]
        self._next_operand += 1
        return self._formatter.format(operand, Directive(verb, flags, width, precision))

    def _width(self, flags: str) -> tuple[int, str]:
        if self._peek() != "*":
            return self._number() or 0, flags
        self._position += 1
        if self._next_operand >= len(self._operands):
            return 0, flags
        width = self._operands[self._next_operand]
        self._next_operand += 1
        if not isinstance(width, int) or abs(width) > MAX_WIDTH:
            return 0, flags
        return abs(width), flags + "-" if width < 0 else flags

    def _number(self) -> int | None:
        start = self._position
        while self._peek().isdigit() and self._peek().isascii():
            self._position += 1
        digits = self._template[start : self._position]
        return min(int(digits[:8]), MAX_WIDTH) if digits else None

    def _index(self) -> bool:
        """Read `[n]`, which names the operand to go on with; False where it names none."""
        if self._peek() != "[":
            return True
        self._reordered = True
        self._position += 1
        number = self._number()
        closed = self._peek() == "]"
        self._position += closed
        if number is None or not closed or not 1 <= number <= len(self._operands):
            return False
        self._next_operand = number - 1
        return True

    def _peek(self) -> str:
        return self._template[self._position : self._position + 1]

    def _described(self, operand: Any) -> str:
        if is_nil(operand):
            return "<nil>"
        return f"{type_name(operand)}={self._formatter.format(operand)}"


def _is_go_syntax(directive: Directive) -> bool:
    return directive.verb == "v" and "#" in directive.flags


def _leaf(value: Any, directive: Directive) -> str:
    """The text of a value that holds no others, before padding."""
    if directive.verb == "T":
        return type_name(value)
    if is_nil(value):
        return "<nil>" if directive.verb == "v" else f"%!{directive.verb}(<nil>)"
    text: str | None = None
    if isinstance(value, bool):
        text = _bool(value, directive)
    elif isinstance(value, int):
        text = _integer(value, directive)
    elif isinstance(value, float):
        text = _float(value, directive)
    elif isinstance(value, str):
        text = _string(value, directive)
    elif directive.verb == "v":
        text = str(value)
    if text is None:
        return f"%!{directive.verb}({type_name(value)}={_leaf(value, PLAIN)})"
    return text


def _bool(value: bool, directive: Directive) -> str | None:
    return str(value).lower() if directive.verb in "tv" else None


def _integer(value: int, directive: Directive) -> str | None:
    verb = "d" if directive.verb == "v" else directive.verb
    if verb in _INTEGER_BASES:
        digits = format(abs(value), _INTEGER_BASES[verb])
        prefix = _PREFIXES.get(verb, "") if "#" in directive.flags else ""
        if directive.precision is not None:
            digits = digits.zfill(directive.precision)
            directive = replace(directive, flags=directive.flags.replace("0", ""))
        return _signed(value < 0, prefix + digits, directive)
    if verb not in "cqU":
        return None
    char = chr(value) if 0 <= value < 0x110000 and not 0xD800 <= value < 0xE000 else "\ufffd"
    if verb == "U":
        return f"U+{value:04X}"
    return char if verb == "c" else f"'{_rune(char)}'"


def _rune(char: str) -> str:
    if char == "'":
        return "\\'"
    return char if char == '"' else quote(char)[1:-1]


def _float(value: float, directive: Directive) -> str | None:
    verb = directive.verb
    if verb in "vg" or verb == "G":
        text = float_text(abs(value), directive.precision)
    elif verb in "feEF":
        precision = 6 if directive.precision is None else directive.precision
        text = f"{abs(value):.{min(precision, 400)}{verb}}"
    else:
        return None
    return _signed(str(value).startswith("-"), text, directive)


def _signed(negative: bool, text: str, directive: Directive) -> str:
    sign = "-" if negative else "+" if "+" in directive.flags else ""
    if not sign and " " in directive.flags:
        sign = " "
    if "0" in directive.flags and "-" not in directive.flags:
        text = text.zfill(directive.width - len(sign))
    return sign + text


def _string(value: str, directive: Directive) -> str | None:
    verb = directive.verb
    text = value if directive.precision is None else value[: directive.precision]
    if verb == "q" or _is_go_syntax(directive):
        return quote(text)
    if verb in "xX":
        digits = text.encode("utf-8", "surrogatepass").hex()
        return digits.upper() if verb == "X" else digits
    return text if verb in "sv" else None


def _pad(text: str, directive: Directive) -> str:
    if "-" in directive.flags:
        return text.ljust(directive.width)
    return text.rjust(directive.width)
