"""Docker's placeholders in `--hostname`, `--env` and `--mount`: "{{.Node.Hostname}}".

The part of Go's text/template that Docker's documentation shows: fields of Service, Node and Task,
and `index` of a map (docs.docker.com: docker service create, "Create services using templates").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_PLACEHOLDER = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_FIELD = re.compile(r"\.(\w+(?:\.[\w-]+)*)")
_INDEX = re.compile(r'index\s+\.(\w+(?:\.\w+)*)\s+"([^"]*)"')

Values = Mapping[str, "str | Values"]


class TemplateError(ValueError):
    """The text has a placeholder that means nothing; the message names it."""


def expand(text: str, values: Values) -> str:
    """Replaces every placeholder; raises TemplateError for an unknown one."""
    if "{{" not in text:
        return text
    return _PLACEHOLDER.sub(lambda match: _value(match.group(1), values), text)


def _value(expression: str, values: Values) -> str:
    if field := _FIELD.fullmatch(expression):
        found = _look_up(field.group(1).split("."), values)
    elif index := _INDEX.fullmatch(expression):
        table = _look_up(index.group(1).split("."), values)
        # As in Go: a missing key of a map is an empty string.
        found = table.get(index.group(2), "") if isinstance(table, Mapping) else None
    else:
        found = None
    if not isinstance(found, str):
        raise TemplateError(
            f'unknown placeholder "{{{{{expression}}}}}": use fields of .Service, .Node or .Task, '
            'such as {{.Node.Hostname}} or {{index .Service.Labels "key"}}'
        )
    return found


def _look_up(path: Sequence[str], values: Values) -> str | Values | None:
    current: str | Values | None = values
    for name in path:
        if not isinstance(current, Mapping):
            return None
        current = current.get(name)
    return current
