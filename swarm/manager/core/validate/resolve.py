"""What a user's reference means: an id, a name, or a unique prefix of an id, as in Docker."""

from collections.abc import Callable, Collection
from typing import TypeVar

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.store_pb2 import (
    TABLE_CONFIG,
    TABLE_NODE,
    TABLE_SECRET,
    TABLE_SERVICE,
    TABLE_TASK,
    Table,
)
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.store import View, wanted
from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest

_Row = TypeVar("_Row", Node, Service, Task, Secret, Config)

# Counted up to here for "ambiguous (N matches found ...)".
_MATCHES_COUNTED_MAX = 100


def node(view: View, reference: str) -> Node:
    """By id, hostname or id prefix. Raises InvalidRequest."""
    return _resolve("node", TABLE_NODE, reference, view, view.node, view.nodes_by_hostname)


def service(view: View, reference: str) -> Service:
    """By id, name or id prefix. Raises InvalidRequest."""

    def by_name(name: str) -> Collection[Service]:
        found = view.service_by_name(name)
        return (found,) if found is not None else ()

    return _resolve("service", TABLE_SERVICE, reference, view, view.service, by_name)


def secret(view: View, reference: str) -> Secret:
    """By id, name or id prefix. Raises InvalidRequest."""

    def by_name(name: str) -> Collection[Secret]:
        found = view.secret_by_name(name)
        return (found,) if found is not None else ()

    return _resolve("secret", TABLE_SECRET, reference, view, view.secret, by_name)


def config(view: View, reference: str) -> Config:
    """By id, name or id prefix. Raises InvalidRequest."""

    def by_name(name: str) -> Collection[Config]:
        found = view.config_by_name(name)
        return (found,) if found is not None else ()

    return _resolve("config", TABLE_CONFIG, reference, view, view.config, by_name)


def task(view: View, reference: str) -> Task:
    """By id, name ("web.1", "web.1.ID", of a global service "web.NODE") or id prefix.

    Raises InvalidRequest.
    """
    return _resolve(
        "task", TABLE_TASK, reference, view, view.task, lambda name: _tasks_named(view, name)
    )


def _resolve(
    noun: str,
    table: Table.ValueType,
    reference: str,
    view: View,
    by_id: Callable[[str], _Row | None],
    by_name: Callable[[str], Collection[_Row]],
) -> _Row:
    if not reference:
        raise InvalidRequest(f"which {noun}? Give its id, its name, or the beginning of its id")
    if (found := by_id(reference)) is not None:
        return found
    named = by_name(reference)
    if named:
        return _the_only(noun, reference, list(named), "name")
    ids = view.ids_with_prefix(table, reference, _MATCHES_COUNTED_MAX)
    found_rows = [row for key in ids if (row := by_id(key)) is not None]
    return _the_only(noun, reference, found_rows, "ID prefix")


def _the_only(noun: str, reference: str, found: list[_Row], how: str) -> _Row:
    if not found:
        raise InvalidRequest(f"{noun} {reference} not found", ErrorCode.NOT_FOUND)
    if len(found) > 1:
        raise InvalidRequest(
            f"{noun} {reference} is ambiguous ({len(found)} matches found based on {how}): "
            f"use the id"
        )
    return found[0]


def _tasks_named(view: View, name: str) -> Collection[Task]:
    """`docker service ps` shows SERVICE.SLOT; the task's full name ends in its id. A service's
    name may have dots, so the name is taken apart from its end."""
    service_name, _, last = name.rpartition(".")
    named = view.task(last)
    if named is not None:
        return (named,) if service_name.startswith(f"{named.service_name}.") else ()
    found = view.service_by_name(service_name)
    if found is None:
        return ()
    if last.isdecimal():
        tasks = view.tasks_of_slot(found.id, int(last))
    else:
        tasks = view.tasks_of_slot(found.id, 0, last)
    live = [task for task in tasks if wanted(task)]
    return live or tasks
