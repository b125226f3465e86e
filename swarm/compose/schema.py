"""The check against the Compose Specification's own JSON schema, with errors that name a line.

The schema is the one that the package check-jsonschema carries, whose maintainers follow the
specification's; of the package nothing else is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from swarm.compose.errors import ComposeError
from swarm.compose.tree import Mapping, at, plain

_UNKNOWN = ("additionalProperties", "unevaluatedProperties")
_CHOICES = ("oneOf", "anyOf")
_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def check(tree: Mapping) -> None:
    """Raises ComposeError for the first thing in the file that the schema refuses."""
    data = plain(tree)
    found: list[tuple[int, ComposeError]] = []
    for error in _refusals(_validator().iter_errors(data)):
        path = [*error.absolute_path]
        for refused in _worded(error):
            place = at(tree, [*path, refused.key] if refused.key else path)
            found.append((place.line, ComposeError(place, refused.reason)))
    if found:
        raise min(found, key=lambda pair: pair[0])[1]


@cache
def _validator() -> Draft202012Validator:
    vendored = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    return Draft202012Validator(json.loads(vendored.read_text(encoding="utf-8")))


def _refusals(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """What is really wrong: of alternatives, the one that fits best; and no key is unknown for
    the only reason that something in it is wrong."""
    for error in errors:
        if error.validator in _CHOICES and error.context:
            yield from _refusals([_nearest(error)] if _nearest(error) is not error else [])
            if _nearest(error) is error:
                yield error
        else:
            yield error


def _nearest(error: ValidationError) -> ValidationError:
    """Of the alternatives, the complaint about the kind of thing that was written."""
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or []:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    fitting = [
        inner
        for branch in branches.values()
        if not any(i.validator == "type" and not i.path for i in branch)
        for inner in branch
    ]
    return max(fitting, key=lambda inner: len(inner.path)) if fitting else error


class _Refused:
    def __init__(self, reason: str, key: str = "") -> None:
        self.reason = reason
        self.key = key


def _worded(error: ValidationError) -> list[_Refused]:
    name = _dotted(error)
    if error.validator in _UNKNOWN and isinstance(error.instance, dict):
        return _unknown_keys(error, name)
    return [_Refused(_reason(error, name))]


def _unknown_keys(error: ValidationError, name: str) -> list[_Refused]:
    instance = cast("dict[str, Any]", error.instance)
    known = _known_keys(cast("dict[str, Any]", error.schema))
    patterns = bool(known - {"x-"}) is False
    refused: list[_Refused] = []
    for key in instance:
        if key in known or key.startswith("x-"):
            continue
        if (
            patterns
            and error.validator == "additionalProperties"
            and f"'{key}'" not in error.message
        ):
            continue
        near = get_close_matches(key, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        where = f"{name}: " if name else ""
        refused.append(_Refused(f"{where}unknown key {key}{hint}", key))
    return refused


def _known_keys(schema: dict[str, Any]) -> set[str]:
    root = cast("dict[str, Any]", _validator().schema)
    known = set(schema.get("properties", {}))
    parts: list[dict[str, Any]] = [*schema.get("allOf", [])]
    if "$ref" in schema:
        parts.append(schema)
    for part in parts:
        reference = str(part.get("$ref", "")).removeprefix("#/$defs/")
        known |= _known_keys(root["$defs"][reference]) if reference else _known_keys(part)
    return known


def _reason(error: ValidationError, name: str) -> str:
    value = error.instance
    match error.validator:
        case "type":
            wanted = error.validator_value
            kinds = [wanted] if isinstance(wanted, str) else list(cast("list[str]", wanted))
            return f"{name} must be {' or '.join(_KINDS.get(k, k) for k in kinds)}"
        case "oneOf" | "anyOf":
            kinds = _kinds_of(error)
            return f"{name} must be {' or '.join(kinds)}" if kinds else f"{name} is not valid"
        case "enum":
            words = ", ".join(str(word) for word in cast("list[Any]", error.validator_value))
            return f"{name} is {value!r}: it is one of {words}"
        case "required":
            return f"{name}: {error.message.replace('a required property', 'missing')}"
        case "uniqueItems":
            return f"{name} has the same item twice"
        case _:
            return f"{name}: {error.message}"


def _kinds_of(error: ValidationError) -> list[str]:
    kinds: dict[str, None] = {}
    for inner in error.context or []:
        if inner.validator == "type" and not inner.path:
            wanted = inner.validator_value
            for kind in [wanted] if isinstance(wanted, str) else cast("list[str]", wanted):
                kinds[_KINDS.get(kind, kind)] = None
    return list(kinds)


def _dotted(error: ValidationError) -> str:
    name = ""
    for step in error.absolute_path:
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else step
    return name
