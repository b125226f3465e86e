"""A file's content as a tree in which every value knows its line.

Trees are values: what changes one makes another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from swarm.compose.errors import ComposeError, Place

Plain: TypeAlias = str | int | float | bool | None

RESET = "!reset"
OVERRIDE = "!override"


@dataclass(frozen=True, slots=True)
class Scalar:
    value: Plain
    place: Place
    tag: str = ""

    @property
    def text(self) -> str:
        """As an environment variable or a flag has it."""
        if self.value is None:
            return ""
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[Node, ...]
    place: Place
    tag: str = ""

    def __iter__(self) -> Iterator[Node]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class Mapping:
    entries: dict[str, Node]
    place: Place
    tag: str = ""
    # Where the keys are written.
    keys: dict[str, Place] = field(default_factory=dict[str, Place])

    def get(self, key: str) -> Node | None:
        return self.entries.get(key)

    def place_of(self, key: str) -> Place:
        return self.keys.get(key) or self.entries[key].place

    def having(self, key: str, value: Node, place: Place | None = None) -> Mapping:
        """The same with `key` set."""
        keys = (
            self.keys
            if place is None and key in self.keys
            else self.keys | {key: place or value.place}
        )
        return replace(self, entries=self.entries | {key: value}, keys=keys)

    def without(self, *keys: str) -> Mapping:
        return replace(self, entries={k: v for k, v in self.entries.items() if k not in keys})


Node: TypeAlias = Scalar | Listing | Mapping


def plain(node: Node) -> Any:
    """As a JSON parser would give it."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.entries.items()}
    if isinstance(node, Listing):
        return [plain(item) for item in node.items]
    return node.value


def at(node: Node, path: list[str | int]) -> Place:
    """Where the value at `path` is written, or the last on the way that there is."""
    place = node.place
    for step in path:
        if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
            place = node.place_of(step)
            node = node.entries[step]
        elif isinstance(node, Listing) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            place = node.place
        else:
            break
    return place


def text(value: str, place: Place) -> Scalar:
    return Scalar(value, place)


def as_mapping(node: Node | None, what: str) -> Mapping:
    """Raises ComposeError where it is another thing; nothing is an empty mapping."""
    if isinstance(node, Mapping):
        return node
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return Mapping({}, node.place if node is not None else Place(""))
    raise ComposeError(node.place, f"{what} must be a mapping")


def as_listing(node: Node | None, what: str) -> Listing:
    """Raises ComposeError where it is another thing; nothing is an empty list."""
    if isinstance(node, Listing):
        return node
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return Listing((), node.place if node is not None else Place(""))
    raise ComposeError(node.place, f"{what} must be a list")


def as_text(node: Node, what: str) -> str:
    """Raises ComposeError where it is no scalar."""
    if isinstance(node, Scalar):
        return node.text
    raise ComposeError(node.place, f"{what} must be a string")
