"""Files of variables: `.env`, `--env-file`, and `env_file` of a service."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence

from swarm.compose.errors import ComposeError, Place
from swarm.compose.interpolation import (
    CHARACTERS_MAX,
    InvalidTemplateError,
    MissingVariableError,
    TooLongError,
    substitute,
)

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.\-]*)\s*(?:([=:])(.*))?", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


def parse(text: str, file: str, variables: Mapping[str, str]) -> dict[str, str | None]:
    """NAME=value a line. Values see `variables` and those above them; of a NAME alone nothing is
    known here (None). Raises ComposeError.
    """
    found: dict[str, str | None] = {}
    known: dict[str, str] = {}
    seen = ChainMap(dict(variables), known)
    lines = text.lstrip("\ufeff").splitlines()
    number = size = 0
    while number < len(lines):
        line, place = lines[number], Place(file, number + 1)
        number += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ComposeError(place, f"a line is NAME=VALUE, and this is not: {line.strip()[:40]}")
        name, separator, value = match[1], match[2], (match[3] or "").strip()
        if not separator:
            found[name] = None
            known.pop(name, None)
            continue
        if value[:1] in ("'", '"'):
            count = _lines_of_quotes(value, lines, number)
            if count < 0:
                raise ComposeError(place, f"the quotes of {name} are not closed")
            value = "\n".join([value, *lines[number : number + count]])
            number += count
        found[name] = known[name] = _value(value, seen, place)
        size += len(known[name])
        if size > CHARACTERS_MAX:
            raise ComposeError(place, str(TooLongError()))
    return found


def _lines_of_quotes(value: str, lines: Sequence[str], following: int) -> int:
    """How many lines more the quotes need; -1: they are not closed."""
    if _end_of_quotes(value, value[0], 1) >= 0:
        return 0
    for number in range(following, len(lines)):
        if _end_of_quotes(lines[number], value[0], 0) >= 0:
            return number + 1 - following
    return -1


def _end_of_quotes(text: str, quote: str, start: int) -> int:
    position = start
    while position < len(text):
        if text[position] == "\\" and quote == '"':
            position += 1
        elif text[position] == quote:
            return position
        position += 1
    return -1


def _value(value: str, variables: Mapping[str, str], place: Place) -> str:
    if value.startswith("'"):
        return value[1 : _end_of_quotes(value, value[0], 1)]
    if value.startswith('"'):
        inner = value[1 : _end_of_quotes(value, value[0], 1)]
        value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), inner, flags=re.DOTALL)
    else:
        value = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
    try:
        return substitute(value, variables, lambda _: None)
    except (MissingVariableError, TooLongError) as error:
        raise ComposeError(place, str(error)) from None
    except InvalidTemplateError:
        return value
