"""A mapping that is read key by key, and knows which keys nobody asked for.

So no key is dropped in silence: what is left in the end has no effect, and is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from swarm.compose.errors import ComposeError
from swarm.compose.project import Note
from swarm.compose.tree import Mapping, Node, Plain, Scalar, as_listing, as_mapping, as_text
from swarm.units import parse_bytes, parse_cpus, parse_duration

_T = TypeVar("_T")


class Fields:
    def __init__(self, node: Mapping, path: str) -> None:
        self.node = node
        self.path = path
        self._left = {k: v for k, v in node.entries.items() if not k.startswith("x-")}
        self._inner: list[Fields] = []

    def take(self, key: str) -> Node | None:
        """The value, or None where there is none or nothing is written, as of a variable that is
        not set."""
        node = self._left.pop(key, None)
        return None if isinstance(node, Scalar) and node.value in (None, "") else node

    def text(self, key: str) -> str:
        """Empty where it is not set."""
        node = self.take(key)
        return "" if node is None else as_text(node, self.named(key))

    def texts(self, key: str) -> list[str]:
        listing = as_listing(self.take(key), self.named(key))
        return [as_text(item, self.named(key)) for item in listing]

    def pairs(self, key: str) -> dict[str, str]:
        """A mapping of texts; nothing is the empty text."""
        mapping = as_mapping(self.take(key), self.named(key))
        return {k: as_text(v, f"{self.named(key)}.{k}") for k, v in mapping.entries.items()}

    def integer(self, key: str) -> int | None:
        return self._read(key, "an integer", lambda value: int(str(value), 0))

    def number(self, key: str) -> float | None:
        return self._read(key, "a number", lambda value: float(str(value)))

    def boolean(self, key: str) -> bool | None:
        return self._read(key, "true or false", _as_bool)

    def duration_ns(self, key: str) -> int | None:
        return self._read(key, 'a duration such as "1m30s"', lambda v: parse_duration(str(v)))

    def size(self, key: str) -> int | None:
        return self._read(key, 'a size such as "512M"', lambda v: parse_bytes(str(v)))

    def nano_cpus(self, key: str) -> int | None:
        return self._read(key, "a number of CPUs", lambda v: parse_cpus(str(v)))

    def word(self, key: str, words: dict[str, _T]) -> _T | None:
        """One of these words."""
        node = self.take(key)
        if node is None:
            return None
        written = as_text(node, self.named(key))
        if written not in words:
            raise ComposeError(
                node.place, f"{self.named(key)} is {written}: it is one of {', '.join(words)}"
            )
        return words[written]

    def mode(self, key: str) -> int | None:
        """Of a file: written in octal, whether as a number (which YAML has read already) or as
        a text."""
        return self._read(
            key, "a file's mode", lambda v: int(v) if isinstance(v, int) else int(str(v), 8)
        )

    def fields(self, key: str) -> Fields | None:
        """The mapping at `key`; what is not read of it is named as of this one."""
        node = self.take(key)
        if node is None:
            return None
        return self._within(as_mapping(node, self.named(key)), self.named(key))

    def each(self, key: str) -> list[Fields]:
        """The mappings in the list at `key`."""
        listing = as_listing(self.take(key), self.named(key))
        return [
            self._within(as_mapping(item, self.named(key)), f"{self.named(key)}[{number}]")
            for number, item in enumerate(listing.items)
        ]

    def named(self, key: str) -> str:
        return f"{self.path}.{key}"

    def error(self, key: str, reason: str) -> ComposeError:
        return ComposeError(self.node.place_of(key), f"{self.named(key)} {reason}")

    def note(self, key: str, text: str) -> Note:
        return Note(self.node.place_of(key), f"{self.named(key)} {text}")

    def unread(self, why: dict[str, str]) -> list[Note]:
        """A note for every key that was not taken, here and within, in the file's order."""
        notes = [self.note(key, _unused(why.get(key))) for key in self._left]
        for inner in self._inner:
            notes += inner.unread({})
        return sorted(notes, key=lambda note: note.place.line)

    def _within(self, node: Mapping, path: str) -> Fields:
        inner = Fields(node, path)
        self._inner.append(inner)
        return inner

    def _read(self, key: str, wanted: str, convert: Callable[[Plain], _T]) -> _T | None:
        node = self.take(key)
        if node is None:
            return None
        if not isinstance(node, Scalar):
            raise ComposeError(node.place, f"{self.named(key)} must be {wanted}")
        try:
            return convert(node.value)
        except (ValueError, TypeError):
            raise ComposeError(
                node.place, f"{self.named(key)} is {node.text}: it must be {wanted}"
            ) from None


def _unused(reason: str | None) -> str:
    return f"is not used: {reason}" if reason else "is not used"


def _as_bool(value: Plain) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in ("true", "yes", "on", "y", "1"):
        return True
    if word in ("false", "no", "off", "n", "0"):
        return False
    raise ValueError(word)
