"""One file laid over another, by the rules of the specification ("Merge").

Mappings merge key by key, lists are joined; but commands replace each other, and what must be
unique (a port, a mount point, a secret's target) is replaced by its newer one. `!reset` takes a
value away, `!override` puts one in place of what was.
"""

from __future__ import annotations

from dataclasses import replace

from swarm.compose.tree import OVERRIDE, RESET, Listing, Mapping, Node, Scalar

_Path = tuple[str, ...]
# The parts of a path that are names of a user's are "*".
_REPLACED: frozenset[_Path] = frozenset(
    {
        ("services", "*", "command"),
        ("services", "*", "entrypoint"),
        ("services", "*", "healthcheck", "test"),
        ("services", "*", "extra_hosts", "*"),
    }
)
_UNIQUE: dict[_Path, tuple[str, ...]] = {
    ("services", "*", "ports"): ("host_ip", "target", "published", "protocol"),
    ("services", "*", "volumes"): ("target",),
    ("services", "*", "secrets"): ("target", "source"),
    ("services", "*", "configs"): ("target", "source"),
    ("services", "*", "env_file"): ("path",),
}
_NAMED: frozenset[_Path] = frozenset(
    {("services",), ("services", "*", "extra_hosts"), ("services", "*", "ulimits")}
)


def merge(base: Mapping, over: Mapping) -> Mapping:
    """The content of both files, `over`'s where they disagree."""
    merged = _merge(base, over, ())
    assert isinstance(merged, Mapping), "two mappings merge into one"
    return merged


def merge_services(base: Mapping, over: Mapping) -> Mapping:
    """A service over the one that it extends."""
    merged = _merge(base, over, ("services", "*"))
    assert isinstance(merged, Mapping), "two mappings merge into one"
    return merged


def settled(node: Node) -> Node:
    """Without tags: what they asked for is done, or there was nothing below to do it to."""
    if isinstance(node, Mapping):
        entries = {k: settled(v) for k, v in node.entries.items() if v.tag != RESET}
        return replace(node, entries=entries, tag="")
    if isinstance(node, Listing):
        items = tuple(settled(item) for item in node if item.tag != RESET)
        return replace(node, items=items, tag="")
    return replace(node, tag="")


def _merge(base: Node, over: Node, path: _Path) -> Node:
    if over.tag == OVERRIDE or path in _REPLACED:
        return over
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        if path == ("services", "*", "logging") and _differ(base.get("driver"), over.get("driver")):
            return over
        return _merge_mappings(base, over, path)
    if isinstance(base, Listing) and isinstance(over, Listing):
        return _merge_lists(base, over, path)
    if isinstance(over, Scalar) and over.value is None and path[-1:] != ("*",):
        # A key without a value says nothing about a mapping or a list below it.
        return over if isinstance(base, Scalar) else base
    return over


def _differ(one: Node | None, other: Node | None) -> bool:
    if not isinstance(one, Scalar) or not isinstance(other, Scalar):
        return False
    return one.value != other.value


def _merge_mappings(base: Mapping, over: Mapping, path: _Path) -> Mapping:
    entries = dict(base.entries)
    keys = dict(base.keys)
    for key, value in over.entries.items():
        step = "*" if path in _NAMED else key
        if value.tag == RESET:
            entries.pop(key, None)
            continue
        known = entries.get(key)
        entries[key] = value if known is None else _merge(known, value, (*path, step))
        keys[key] = over.place_of(key)
    return Mapping(entries, over.place, base.tag, keys)


def _merge_lists(base: Listing, over: Listing, path: _Path) -> Listing:
    if path in _UNIQUE:
        named = {_identity(item, _UNIQUE[path]): item for item in base}
        named |= {_identity(item, _UNIQUE[path]): item for item in over}
        return replace(over, items=tuple(named.values()), tag=base.tag)
    items = list(base.items)
    seen = {item.value for item in base if isinstance(item, Scalar)}
    items += [item for item in over if not isinstance(item, Scalar) or item.value not in seen]
    return replace(over, items=tuple(items), tag=base.tag)


def _identity(item: Node, keys: tuple[str, ...]) -> object:
    if not isinstance(item, Mapping):
        return item.value if isinstance(item, Scalar) else id(item)
    if keys == ("target", "source"):
        # A file is where its target says, or where its name puts it.
        value = item.get("target") or item.get("source")
        return value.text if isinstance(value, Scalar) else id(item)
    values = (item.get(key) for key in keys)
    return tuple(value.text if isinstance(value, Scalar) else "" for value in values)
