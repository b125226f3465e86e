"""One form for what can be written in several: lists become mappings, words become lists.

Files are merged, and read, in this form alone. Paths are made absolute here, since each file's
are relative to a folder of its own.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import replace

from swarm.compose.errors import ComposeError, Place
from swarm.compose.short_forms import port_mappings, volume_mapping
from swarm.compose.tree import Listing, Mapping, Node, Scalar, as_mapping

_Form = Callable[[Node], Node]


def canonical(tree: Mapping, folder: str, home: str) -> Mapping:
    """The file in its one form; `folder` is what its relative paths start from.

    Raises ComposeError.
    """
    paths = _Paths(folder, home)
    sections: dict[str, _Form] = {
        "services": lambda node: _each(node, lambda service: _service(service, paths)),
        "secrets": lambda node: _each(node, lambda file: _named_file(file, paths)),
        "configs": lambda node: _each(node, lambda file: _named_file(file, paths)),
        "volumes": lambda node: _each(node, lambda volume: _apply(volume, _LABELLED)),
        "networks": lambda node: _each(node, lambda network: _apply(network, _LABELLED)),
        "include": lambda node: _included(node, paths),
    }
    return _apply(tree, sections)


class _Paths:
    def __init__(self, folder: str, home: str) -> None:
        self._folder = folder
        self._home = home

    def absolute(self, node: Node) -> Node:
        """Nodes that are no text are the schema's business."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str) or not node.value:
            return node
        return replace(node, value=self.of(node.value))

    def of(self, path: str) -> str:
        if path == "~" or path.startswith("~/"):
            return posixpath.normpath(self._home + path[1:])
        return posixpath.normpath(posixpath.join(self._folder, path))

    def context(self, node: Node) -> Node:
        """Of a build: a folder, unless it is a URL."""
        written = node.value if isinstance(node, Scalar) else None
        if isinstance(written, str) and ("://" in written or written.startswith("git@")):
            return node
        return self.absolute(node)


def _each(node: Node, form: Callable[[Mapping], Mapping]) -> Node:
    if not isinstance(node, Mapping):
        return node
    entries: dict[str, Node] = {}
    for name, value in node.entries.items():
        if isinstance(value, Scalar) and value.value is None and not value.tag:
            value = Mapping({}, value.place)
        entries[name] = form(value) if isinstance(value, Mapping) else value
    return replace(node, entries=entries)


def _apply(node: Mapping, forms: dict[str, _Form]) -> Mapping:
    entries = {
        key: forms[key](value) if key in forms else value for key, value in node.entries.items()
    }
    return replace(node, entries=entries)


def pairs(node: Node) -> Node:
    """NAME=VALUE lines as a mapping; a NAME alone has no value."""
    if not isinstance(node, Listing):
        return node
    entries: dict[str, Node] = {}
    for item in node:
        if not isinstance(item, Scalar):
            return node
        name, equals, value = item.text.partition("=")
        entries[name] = replace(item, value=value if equals else None)
    return Mapping(entries, node.place, node.tag)


def _words(node: Node) -> Node:
    """A word as a list of one."""
    if isinstance(node, Scalar) and node.value is not None:
        return Listing((replace(node, tag=""),), node.place, node.tag)
    return node


def _keyed(empty: Callable[[Place], Node]) -> _Form:
    """A list of names as a mapping."""

    def form(node: Node) -> Node:
        if not isinstance(node, Listing):
            return node
        entries = {i.text: empty(i.place) for i in node if isinstance(i, Scalar)}
        return Mapping(entries, node.place, node.tag)

    return form


def _started(place: Place) -> Node:
    return Mapping({"condition": Scalar("service_started", place)}, place)


def _hosts(node: Node) -> Node:
    """NAME=IP, or NAME:IP as it used to be: a mapping of names to lists of addresses."""
    if isinstance(node, Mapping):
        return replace(node, entries={k: _words(v) for k, v in node.entries.items()})
    if not isinstance(node, Listing):
        return node
    entries: dict[str, Node] = {}
    for item in node:
        if not isinstance(item, Scalar):
            return node
        separator = "=" if "=" in item.text else ":"
        name, found, address = item.text.partition(separator)
        if not found or not name or not address:
            raise ComposeError(item.place, f"invalid host {item.text}: write NAME=IP")
        value = replace(item, value=address.strip("[]"))
        before = entries.get(name)
        known = before.items if isinstance(before, Listing) else ()
        entries[name] = Listing((*known, value), item.place)
    return Mapping(entries, node.place, node.tag)


def _ports(node: Node) -> Node:
    if not isinstance(node, Listing):
        return node
    items: list[Node] = []
    for item in node:
        if isinstance(item, Scalar):
            items += port_mappings(item.text, item.place)
        else:
            items.append(item)
    return replace(node, items=tuple(items))


def _volumes(paths: _Paths) -> _Form:
    def one(item: Node) -> Node:
        mount = volume_mapping(item.text, item.place) if isinstance(item, Scalar) else item
        if not isinstance(mount, Mapping):
            return mount
        kind, source = mount.get("type"), mount.get("source")
        if source is not None and isinstance(kind, Scalar) and kind.value == "bind":
            return mount.having("source", paths.absolute(source))
        return mount

    return _items(one)


def _files(node: Node) -> Node:
    """Secrets or configs of a service: a name stands for its source."""
    return _items(
        lambda item: Mapping({"source": item}, item.place) if isinstance(item, Scalar) else item
    )(node)


def _env_files(paths: _Paths) -> _Form:
    def one(item: Node) -> Node:
        if isinstance(item, Mapping):
            return _apply(item, {"path": paths.absolute})
        return Mapping({"path": paths.absolute(item)}, item.place)

    return lambda node: _items(one)(_words(node))


def _items(one: _Form) -> _Form:
    def form(node: Node) -> Node:
        if not isinstance(node, Listing):
            return node
        return replace(node, items=tuple(one(item) for item in node))

    return form


def _build(paths: _Paths) -> _Form:
    forms: dict[str, _Form] = {
        "context": paths.context,
        "args": pairs,
        "labels": pairs,
        "additional_contexts": pairs,
        "ssh": pairs,
        "extra_hosts": _hosts,
        "secrets": _files,
    }

    def form(node: Node) -> Node:
        if isinstance(node, Scalar) and node.value is not None:
            node = Mapping({"context": node}, node.place, node.tag)
        if isinstance(node, Mapping) and "context" not in node.entries and not node.tag:
            node = node.having("context", Scalar(".", node.place))
        return _apply(node, forms) if isinstance(node, Mapping) else node

    return form


def _extends(paths: _Paths) -> _Form:
    def form(node: Node) -> Node:
        if isinstance(node, Scalar):
            return Mapping({"service": node}, node.place)
        return _apply(node, {"file": paths.absolute}) if isinstance(node, Mapping) else node

    return form


def _service(service: Mapping, paths: _Paths) -> Mapping:
    return _apply(
        service,
        {
            "annotations": pairs,
            "build": _build(paths),
            "configs": _files,
            "depends_on": _keyed(_started),
            "deploy": lambda node: (
                _apply(node, {"labels": pairs}) if isinstance(node, Mapping) else node
            ),
            "dns": _words,
            "dns_search": _words,
            "env_file": _env_files(paths),
            "environment": pairs,
            "extends": _extends(paths),
            "extra_hosts": _hosts,
            "label_file": lambda node: _items(paths.absolute)(_words(node)),
            "labels": pairs,
            "networks": _keyed(lambda place: Scalar(None, place)),
            "ports": _ports,
            "secrets": _files,
            "sysctls": pairs,
            "tmpfs": _words,
            "volumes": _volumes(paths),
        },
    )


def _named_file(node: Mapping, paths: _Paths) -> Mapping:
    return _apply(node, {"file": paths.absolute, "labels": pairs})


_LABELLED: dict[str, _Form] = {"labels": pairs}


def _included(node: Node, paths: _Paths) -> Node:
    def one(item: Node) -> Node:
        if isinstance(item, Scalar):
            item = Mapping({"path": item}, item.place)
        listed = _apply(as_mapping(item, "include"), {"path": _words, "env_file": _words})
        absolute = _items(paths.absolute)
        return _apply(
            listed,
            {"path": absolute, "env_file": absolute, "project_directory": paths.absolute},
        )

    return _items(one)(node)
