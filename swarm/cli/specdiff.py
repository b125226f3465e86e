"""What differs between two specs, in the Engine API's names. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from swarm.dockerapi.json_values import Json
from swarm.units import bytes_size, format_cpus, format_duration

_ABSENT = object()
_DURATIONS = (
    "Delay",
    "Interval",
    "Monitor",
    "StartInterval",
    "StartPeriod",
    "StopGracePeriod",
    "Timeout",
    "Window",
)
_WORDS: Mapping[str, Callable[[int], str]] = {
    **dict.fromkeys(_DURATIONS, format_duration),
    "MemoryBytes": bytes_size,
    "NanoCPUs": format_cpus,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One value of a spec. None: it is not there, or not any more."""

    path: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if self.old is None:
            return f"+ {self.path}: {self.new}"
        if self.new is None:
            return f"- {self.path}: {self.old}"
        return f"~ {self.path}: {self.old} -> {self.new}"

    def to_json(self) -> Json:
        return {"Path": self.path, "Old": self.old, "New": self.new}


def differences(old: Json, new: Json) -> list[Difference]:
    """Every value that is other, in the order of the names; of lists, what came and what went."""
    return list(_compare((), old, new))


def _compare(path: tuple[str, ...], old: object, new: object) -> Iterator[Difference]:
    if old == new:
        return
    if _is_object(old) and _is_object(new):
        before = cast("Json", {} if old is _ABSENT else old)
        after = cast("Json", {} if new is _ABSENT else new)
        for key in sorted({*before, *after}):
            yield from _compare((*path, key), before.get(key, _ABSENT), after.get(key, _ABSENT))
    elif _is_list(old) or _is_list(new):
        yield from _compare_lists(path, _items(old), _items(new))
    else:
        yield Difference(_name(path), _text(path, old), _text(path, new))


def _is_object(value: object) -> bool:
    return value is _ABSENT or isinstance(value, dict)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _items(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _compare_lists(
    path: tuple[str, ...], old: Sequence[Any], new: Sequence[Any]
) -> Iterator[Difference]:
    gone = [item for item in old if item not in new]
    come = [item for item in new if item not in old]
    if not gone and not come:
        yield Difference(_name(path), _text(path, old), _text(path, new))
    for item in gone:
        yield Difference(_name(path), _text(path, item), None)
    for item in come:
        yield Difference(_name(path), None, _text(path, item))


def _name(path: tuple[str, ...]) -> str:
    return ".".join(path[1:] if path[0] == "TaskTemplate" and len(path) > 1 else path)


def _text(path: tuple[str, ...], value: object) -> str | None:
    if value is _ABSENT or value is None:
        return None
    words = _WORDS.get(path[-1])
    if words is not None and isinstance(value, int):
        return words(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
