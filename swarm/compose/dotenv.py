"""Files of variables: `.env`, `--env-file`, and `env_file` of a service."""

from __future__ import annotations

import re
from collections.abc import Mapping

from swarm.compose.errors import ComposeError, Place
from swarm.compose.interpolation import InvalidTemplateError, MissingVariableError, substitute

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.\-]*)\s*(?:([=:])(.*))?", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


def parse(text: str, file: str, variables: Mapping[str, str]) -> dict[str, str | None]:
    """NAME=value a line. Values see `variables` and those above them; of a NAME alone nothing is
    known here (None). Raises ComposeError.
    """
    found: dict[str, str | None] = {}
    lines = text.lstrip("\ufeff").splitlines()
    number = 0
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
            continue
        if value[:1] in ("'", '"'):
            while _end_of_quotes(value) < 0 and number < len(lines):
                value += "\n" + lines[number]
                number += 1
            if _end_of_quotes(value) < 0:
                raise ComposeError(place, f"the quotes of {name} are not closed")
        seen = {key: known for key, known in found.items() if known is not None} | dict(variables)
        found[name] = _value(value, seen, place)
    return found


def _end_of_quotes(value: str) -> int:
    quote, position = value[0], 1
    while position < len(value):
        if value[position] == "\\" and quote == '"':
            position += 1
        elif value[position] == quote:
            return position
        position += 1
    return -1


def _value(value: str, variables: Mapping[str, str], place: Place) -> str:
    if value.startswith("'"):
        return value[1 : _end_of_quotes(value)]
    if value.startswith('"'):
        inner = value[1 : _end_of_quotes(value)]
        value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), inner, flags=re.DOTALL)
    else:
        value = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
    try:
        return substitute(value, variables, lambda _: None)
    except (MissingVariableError, InvalidTemplateError) as error:
        if isinstance(error, MissingVariableError):
            raise ComposeError(place, str(error)) from None
        return value
