"""`swarmctl task`: tasks of all services."""

from __future__ import annotations

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.cli.client import NotFoundError
from swarm.cli.command import DockerGroup
from swarm.cli.flags import (
    docker_bool_option,
    filter_option,
    format_option,
    inspect_format_option,
    no_trunc_option,
    parse_filters,
    quiet_option,
)
from swarm.cli.output import print_inspect
from swarm.cli.session import Session
from swarm.cli.tasklist import FILTERS, print_tasks
from swarm.dockerapi.task import task_to_json


@click.group(cls=DockerGroup, name="task", help="Manage Swarm tasks")
def task() -> None:
    pass


@task.command("ls", aliases=("list",), help="List tasks")
@filter_option()
@format_option()
@docker_bool_option("--no-resolve", help="Do not map IDs to Names")
@no_trunc_option()
@quiet_option("Only display task IDs")
@click.pass_obj
def ls(
    session: Session,
    filter: tuple[str, ...],  # noqa: A002 - the flag's name
    format: str | None,  # noqa: A002
    no_resolve: bool,
    no_trunc: bool,
    quiet: bool,
) -> None:
    filters = parse_filters(filter, FILTERS)
    client = session.client
    tasks = client.ask(lambda stubs: stubs.control.ListTasks, pb.ListTasksRequest()).tasks
    nodes = client.ask(lambda stubs: stubs.control.ListNodes, pb.ListNodesRequest()).nodes
    print_tasks(
        tasks,
        nodes,
        filters=filters,
        format=format,
        quiet=quiet,
        no_trunc=no_trunc,
        no_resolve=no_resolve,
    )


@task.command(
    "inspect",
    usage="[OPTIONS] TASK [TASK...]",
    help="Display detailed information on one or more tasks",
)
@inspect_format_option()
@click.argument("tasks", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, tasks: tuple[str, ...], format: str | None) -> None:  # noqa: A002
    objects: list[object] = []
    errors: list[str] = []
    for reference in tasks:
        request = pb.GetTaskRequest(reference=reference)
        try:
            view = session.client.ask(lambda stubs: stubs.control.GetTask, request).task
        except NotFoundError as error:
            errors.append(error.message)
            continue
        objects.append(task_to_json(view))
    print_inspect(objects, errors, format=format)
