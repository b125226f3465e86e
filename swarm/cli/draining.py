"""Waiting for a node that is drained in turn to become empty, while showing what is left on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_DRAIN
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.cli.client import Client, NotFoundError
from swarm.cli.errors import CliError
from swarm.cli.names import natural
from swarm.units import NS_PER_SECOND, format_duration

DEFAULT_TIMEOUT_S = 300.0
_PAUSE_S = 0.5
_NAMES_MAX = 5


def wait_for_drain(
    client: Client, node_id: str, name: str, *, quiet: bool, timeout_s: float | None
) -> None:
    """Until no task is left on the node.

    Ctrl-C ends the waiting, not the drain. Without a terminal, or with `timeout_s`, it ends after a
    while with a CliError; so it does where the drain is ended by somebody else.
    """
    if timeout_s is None and not sys.stdout.isatty():
        timeout_s = DEFAULT_TIMEOUT_S
    try:
        _wait(client, node_id, name, quiet, timeout_s)
    except KeyboardInterrupt:
        click.echo("Operation continuing in background.")
        click.echo(f"Use `swarmctl node ps {name}` to check progress.")
        return
    click.echo(f"verify: Node {name} is empty")


def _wait(client: Client, node_id: str, name: str, quiet: bool, timeout_s: float | None) -> None:
    started, shown = time.monotonic(), ""
    while left := _left(client, node_id, name):
        text = _text(client, left)
        if text != shown and not quiet:
            click.echo(text)
            shown = text
        if timeout_s is not None and time.monotonic() - started >= timeout_s:
            waited = format_duration(round(timeout_s * NS_PER_SECOND))
            raise CliError(
                f"node {name} is not empty after {waited}: {text}. The drain goes on: see "
                f"`swarmctl node ps {name}`, or end it with `swarmctl node update --availability "
                f"active {name}`"
            )
        time.sleep(_PAUSE_S)


def _left(client: Client, node_id: str, name: str) -> list[Task]:
    """The node's tasks that have not ended. Raises CliError where it is drained no more."""
    try:
        request = pb.GetNodeRequest(reference=node_id)
        node = client.ask(lambda stubs: stubs.control.GetNode, request).node.node
    except NotFoundError as error:
        raise CliError(f"node {name} was removed while it was drained") from error
    if node.spec.availability != NODE_AVAILABILITY_DRAIN:
        raise CliError(f"the drain of node {name} was ended by another update")
    listed = client.ask(
        lambda stubs: stubs.control.ListTasks, pb.ListTasksRequest(node_ids=[node_id])
    ).tasks
    return [view.task for view in listed if view.task.status.state <= TASK_STATE_RUNNING]


def _text(client: Client, left: Sequence[Task]) -> str:
    names = sorted({f"{t.service_name}.{t.slot}" if t.slot else t.service_name for t in left})
    shown = ", ".join(sorted(names, key=natural)[:_NAMES_MAX])
    more = f" and {len(left) - _NAMES_MAX} more" if len(left) > _NAMES_MAX else ""
    tasks = "task" if len(left) == 1 else "tasks"
    waits = "".join(f"; {line}" for line in _reasons(client, left))
    return f"{len(left)} {tasks} left: {shown}{more}{waits}"


def _reasons(client: Client, left: Iterable[Task]) -> Iterable[str]:
    """Why replacements find no node."""
    for service_id in dict.fromkeys(task.service_id for task in left):
        try:
            request = pb.GetServiceRequest(reference=service_id)
            found = client.ask(lambda stubs: stubs.control.GetService, request).service.service
        except NotFoundError:
            continue
        if found.pending.message:
            yield f"{found.name}: {found.pending.message}"
