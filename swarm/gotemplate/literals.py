"""Go's literals in a template's source: strings, characters and numbers."""

from __future__ import annotations

import re

_SIMPLE_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
}
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]+|[0-9]+(_[0-9]+)*)")
_MAX_DIGITS = 64
_INT64 = 2**63


def unquote(text: str) -> str:
    """The value of a quoted Go string or character; raises ValueError "invalid syntax"."""
    quote, body = text[0], text[1:-1]
    if quote == "`":
        return body.replace("\r", "")
    value: list[str] = []
    position = 0
    while position < len(body):
        if body[position] != "\\":
            value.append(body[position])
            position += 1
            continue
        char, position = _escape(body, position + 1, quote)
        value.append(char)
    return "".join(value)


def _escape(body: str, position: int, quote: str) -> tuple[str, int]:
    """The character of the escape whose letter is at `position`, and where it ends."""
    letter = body[position : position + 1]
    if letter in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[letter], position + 1
    if letter and letter == quote:
        return letter, position + 1
    if letter in _HEX_ESCAPES:
        start, base, length = position + 1, 16, _HEX_ESCAPES[letter]
    else:
        start, base, length = position, 8, 3
    digits = body[start : start + length]
    if len(digits) != length or not digits.isalnum():
        raise ValueError("invalid syntax")
    try:
        return chr(int(digits, base)), start + length
    except (ValueError, OverflowError) as error:
        raise ValueError("invalid syntax") from error


def parse_number(text: str) -> int | float:
    """An integer, or a float where it has a point or an exponent.

    Raises ValueError: "illegal number syntax" or "integer overflow".
    """
    if len(text) > _MAX_DIGITS:
        raise ValueError("integer overflow")
    if _INTEGER.fullmatch(text):
        sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
        if len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567_":
            digits = "0o" + digits[1:].strip("_")
        try:
            number = sign * int(digits, 0)
        except ValueError as error:
            raise ValueError("illegal number syntax") from error
        if not -_INT64 <= number < _INT64:
            raise ValueError("integer overflow")
        return number
    try:
        return float(text)
    except ValueError as error:
        raise ValueError("illegal number syntax") from error
