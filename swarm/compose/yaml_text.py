"""YAML to a tree: plain values as Docker's parser (go-yaml 3) takes them, with every line kept.

Aliases are laid out in full, but only up to a size: a few lines of anchors can stand for more
values than a machine has memory for.
"""

from __future__ import annotations

import re
from io import StringIO
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from swarm.compose.errors import ComposeError, Place
from swarm.compose.tree import OVERRIDE, RESET, Listing, Mapping, Node, Plain, Scalar, plain

BYTES_MAX = 1 << 20
VALUES_MAX = 100_000
_NULL = ("", "~", "null", "Null", "NULL")
_TRUE = ("true", "True", "TRUE")
_FALSE = ("false", "False", "FALSE")
_INT = re.compile(r"[-+]?(0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TAGS = {RESET, OVERRIDE}
_STRING_TAGS = ("tag:yaml.org,2002:str", "!", "tag:yaml.org,2002:binary")
_CORE = "tag:yaml.org,2002:"


def parse(text: str, file: str) -> Mapping:
    """Raises ComposeError, with the line."""
    if len(text) > BYTES_MAX:
        raise ComposeError(Place(file), f"the file is larger than {BYTES_MAX >> 20} MiB")
    try:
        root: Any = YAML(typ="safe", pure=True).compose(text)  # pyright: ignore
    except MarkedYAMLError as error:
        said: Any = error
        began = str(said.context).startswith("while scanning") and said.context_mark is not None
        mark: Any = said.context_mark if began else said.problem_mark or said.context_mark
        line = int(mark.line) + 1 if mark is not None else 0
        reason = " ".join(str(part) for part in (said.problem, said.context) if part)
        raise ComposeError(Place(file, line), f"this is not YAML: {reason}") from None
    except (YAMLError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ComposeError(Place(file), f"this is not YAML: {reason}") from None
    except RecursionError:
        raise ComposeError(Place(file), "values are nested too deeply") from None
    if root is None:
        raise ComposeError(Place(file), "the file is empty: name services in it")
    _Sizes(file).of(root)
    node = _Reader(file).node(root)
    if not isinstance(node, Mapping):
        raise ComposeError(node.place, "the top of a compose file must be a mapping")
    return node


class _Sizes:
    """How many values a node stands for once its aliases are laid out."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, node: Any) -> int:
        key = id(node)
        if key in self._known:
            return self._known[key]
        place = _place(self._file, node)
        if key in self._open:
            raise ComposeError(place, "an alias stands within its own anchor")
        self._open.add(key)
        size = 1
        for child in _children(node):
            size += self.of(child)
            if size > VALUES_MAX:
                raise ComposeError(
                    place,
                    f"aliases make more than {VALUES_MAX} values of this file: write fewer anchors",
                )
        self._open.discard(key)
        self._known[key] = size
        return size


def _children(node: Any) -> list[Any]:
    if isinstance(node, MappingNode):
        return [part for pair in cast("list[tuple[Any, Any]]", node.value) for part in pair]
    return _values(node) if isinstance(node, SequenceNode) else []


def _values(node: Any) -> list[Any]:
    return cast("list[Any]", node.value)


def _place(file: str, node: Any) -> Place:
    return Place(file, node.start_mark.line + 1)


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file

    def node(self, node: Any) -> Node:
        place = _place(self._file, node)
        tag = str(node.tag)
        own = tag if tag in _TAGS else ""
        if not own and not tag.startswith(_CORE) and tag != "!":
            raise ComposeError(place, f"the tag {tag} is not known: there are !reset and !override")
        if isinstance(node, ScalarNode):
            return Scalar(_value(node, place), place, own)
        if isinstance(node, SequenceNode):
            return Listing(tuple(self.node(item) for item in _values(node)), place, own)
        return self._mapping(node, place, own)

    def _mapping(self, node: Any, place: Place, own: str) -> Mapping:
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        merged: list[Any] = []
        for key_node, value_node in cast("list[tuple[Any, Any]]", node.value):
            at = _place(self._file, key_node)
            if _children(key_node):
                raise ComposeError(at, "a key must be a word")
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                merged += (
                    _values(value_node) if isinstance(value_node, SequenceNode) else [value_node]
                )
                continue
            if key in entries:
                raise ComposeError(
                    at, f"the key {key} is there twice: first in line {keys[key].line}"
                )
            entries[key] = self.node(value_node)
            keys[key] = at
        for source in merged:
            below = self.node(source)
            if not isinstance(below, Mapping):
                raise ComposeError(below.place, "<< takes a mapping, or a list of them")
            for key, value in below.entries.items():
                if key not in entries:
                    entries[key] = value
                    keys[key] = below.keys[key]
        return Mapping(entries, place, own, keys)


def _value(node: Any, place: Place) -> Plain:
    written = str(node.value)
    if node.style is not None or str(node.tag) in _STRING_TAGS:
        return written
    try:
        return _resolve(written)
    except ValueError:
        raise ComposeError(place, f"{written[:40]} is too long a number") from None


def _resolve(written: str) -> Plain:
    if written in _NULL:
        return None
    if written in _TRUE:
        return True
    if written in _FALSE:
        return False
    if _INT.fullmatch(written):
        return _integer(written)
    if _FLOAT.fullmatch(written):
        return float(written)
    return written


def _integer(written: str) -> Plain:
    sign = -1 if written.startswith("-") else 1
    digits = written.lstrip("+-").replace("_", "")
    if digits.startswith(("0o", "0x")):
        return sign * int(digits, 0)
    if len(digits) > 1 and digits.startswith("0"):
        # YAML 1.1's octal, as file modes are written.
        return sign * int(digits, 8) if set(digits) <= set("01234567") else written
    return sign * int(digits)


def dump(tree: Node) -> str:
    """As a file that says the same."""
    out = StringIO()
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    writer.dump(plain(tree), out)
    return out.getvalue()
