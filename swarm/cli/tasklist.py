"""Tasks as `service ps` and `node ps` list them: with names, history, and filters."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from swarm.api.v1.control_pb2 import NodeView, TaskView
from swarm.api.v1.task_pb2 import Task
from swarm.cli.errors import CliError
from swarm.cli.names import display_image, natural
from swarm.cli.tables import Column, print_list
from swarm.dockerapi.task import desired_state, host_ports
from swarm.dockerapi.words import PROTOCOL, TASK_STATE
from swarm.units import ellipsis, human_duration, truncate_id

FILTERS = ("id", "name", "node", "desired-state")
_LONGEST_ERROR = 30

Filters = Mapping[str, Sequence[str]]


def _shorten_error(text: str) -> str:
    error = text.strip('"')
    return f'"{ellipsis(error, _LONGEST_ERROR)}"' if error else ""


COLUMNS = (
    Column("ID", "ID", truncate_id),
    Column("Name", "NAME"),
    Column("Image", "IMAGE", display_image),
    Column("Node", "NODE"),
    Column("DesiredState", "DESIRED STATE"),
    Column("CurrentState", "CURRENT STATE"),
    Column("Error", "ERROR", _shorten_error),
    Column("Ports", "PORTS"),
)


def print_tasks(
    tasks: Iterable[TaskView],
    nodes: Iterable[NodeView],
    *,
    filters: Filters,
    format: str | None,  # noqa: A002 - the flag's name
    quiet: bool,
    no_trunc: bool,
    no_resolve: bool,
) -> None:
    """Raises CliError for a filter or a format that is wrong."""
    hostnames = {view.node.id: view.node.description.hostname for view in nodes}
    chosen = _filtered(tasks, filters, hostnames)
    named = [(_name(view.task, no_resolve), view) for view in chosen]
    named.sort(key=lambda pair: pair[1].task.meta.created_at_ns, reverse=True)
    named.sort(key=lambda pair: natural(pair[0]))
    indent = " \\_ " if (format or "table").startswith("table") else ""
    rows: list[dict[str, object]] = []
    previous = None
    for name, view in named:
        shown = f"{indent}{name}" if name == previous else name
        node = view.task.node_id
        rows.append(_row(view, shown, node if no_resolve else hostnames.get(node, node)))
        previous = name
    print_list(rows, COLUMNS, format=format, quiet=quiet, no_trunc=no_trunc or quiet)


def _row(view: TaskView, name: str, node: str) -> dict[str, object]:
    task = view.task
    age_ns = time.time_ns() - task.status.timestamp_ns
    return {
        "ID": task.id,
        "Name": name,
        "Image": view.spec.task.container.image,
        "Node": node,
        "DesiredState": desired_state(view).capitalize(),
        "CurrentState": (
            f"{TASK_STATE.word(task.status.state).capitalize()} "
            f"{human_duration(max(age_ns, 0)).lower()} ago"
        ),
        "Error": f'"{" ".join(task.status.err.split())}"' if task.status.err else "",
        "Ports": ",".join(
            f"*:{port.published_port}->{port.target_port}/{PROTOCOL.word(port.protocol)}"
            for port in host_ports(view)
        ),
    }


def _name(task: Task, no_resolve: bool) -> str:
    service = task.service_id if no_resolve else task.service_name or task.service_id
    return f"{service}.{task.slot or task.node_id}"


def _filtered(
    tasks: Iterable[TaskView], filters: Filters, hostnames: Mapping[str, str]
) -> list[TaskView]:
    states = filters.get("desired-state", ())
    for state in states:
        if state not in TASK_STATE.all:
            raise CliError(f"Invalid desired-state filter: '{state}'")
    nodes = _matching_nodes(filters.get("node", ()), hostnames)
    return [
        view
        for view in tasks
        if _matches(view.task.id, filters.get("id", ()))
        and _matches(f"{_name(view.task, False)}.{view.task.id}", filters.get("name", ()))
        and (not states or desired_state(view) in states)
        and (nodes is None or view.task.node_id in nodes)
    ]


def _matches(text: str, prefixes: Sequence[str]) -> bool:
    return not prefixes or text.startswith(tuple(prefixes))


def _matching_nodes(references: Sequence[str], hostnames: Mapping[str, str]) -> set[str] | None:
    """Ids by id, hostname or id prefix; None for no filter."""
    if not references:
        return None
    return {
        node
        for node, hostname in hostnames.items()
        for reference in references
        if reference == hostname or node.startswith(reference)
    }
