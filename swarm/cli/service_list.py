"""`swarmctl service ls|ps|inspect`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.cli.client import NotFoundError
from swarm.cli.command import DockerCommand
from swarm.cli.errors import CliError
from swarm.cli.flags import (
    docker_bool_option,
    filter_option,
    format_option,
    inspect_format_option,
    no_trunc_option,
    parse_filters,
    quiet_option,
)
from swarm.cli.names import display_image, has_label, natural
from swarm.cli.output import print_inspect
from swarm.cli.portlist import display_ports
from swarm.cli.pretty import service_text
from swarm.cli.session import Session
from swarm.cli.tables import Column, print_list
from swarm.cli.tasklist import FILTERS as TASK_FILTERS
from swarm.cli.tasklist import print_tasks
from swarm.dockerapi.service import service_to_json
from swarm.units import truncate_id

FILTERS = ("id", "label", "mode", "name")
_COLUMNS = (
    Column("ID", "ID", truncate_id),
    Column("Name", "NAME"),
    Column("Mode", "MODE"),
    Column("Replicas", "REPLICAS"),
    Column("Image", "IMAGE"),
    Column("Ports", "PORTS"),
)


@click.command("ls", cls=DockerCommand, aliases=("list",), help="List services")
@filter_option()
@format_option()
@quiet_option()
@click.pass_obj
def ls(session: Session, filter: tuple[str, ...], format: str | None, quiet: bool) -> None:  # noqa: A002
    filters = parse_filters(filter, FILTERS)
    services = session.client.ask(
        lambda stubs: stubs.control.ListServices, pb.ListServicesRequest()
    ).services
    print_services(services, filters, format=format, quiet=quiet)


def print_services(
    services: Iterable[pb.ServiceView],
    filters: Mapping[str, Sequence[str]],
    *,
    format: str | None,  # noqa: A002 - the flag's name
    quiet: bool,
) -> None:
    """Those that the filters let through, by name."""
    chosen = [view for view in services if _matches(view, filters)]
    chosen.sort(key=lambda view: natural(view.service.name))
    print_list([_row(view) for view in chosen], _COLUMNS, format=format, quiet=quiet)


def _row(view: pb.ServiceView) -> dict[str, object]:
    return {
        "ID": view.service.id,
        "Name": view.service.name,
        "Mode": _mode(view),
        "Replicas": _replicas(view),
        "Image": display_image(view.spec.task.container.image),
        "Ports": display_ports(view.service.ports),
    }


def _mode(view: pb.ServiceView) -> str:
    return (view.spec.WhichOneof("mode") or "replicated").replace("_", " ")


def _replicas(view: pb.ServiceView) -> str:
    text = f"{view.running_tasks}/{view.desired_tasks}"
    if view.spec.HasField("replicated_job"):
        total = view.spec.replicated_job.total_completions
        return f"{text} ({view.completed_tasks}/{total} completed)"
    if view.spec.HasField("global_job"):
        total = view.desired_tasks + view.completed_tasks
        return f"{text} ({view.completed_tasks}/{total} completed)"
    maximum = view.spec.task.placement.max_replicas_per_node
    is_replicated = _mode(view) == "replicated"
    return f"{text} (max {maximum} per node)" if maximum and is_replicated else text


def _matches(view: pb.ServiceView, filters: Mapping[str, Sequence[str]]) -> bool:
    ids, names = filters.get("id", ()), filters.get("name", ())
    if ids and not view.service.id.startswith(tuple(ids)):
        return False
    if names and not view.service.name.startswith(tuple(names)):
        return False
    modes = filters.get("mode", ())
    if modes and _mode(view).replace(" ", "-") not in modes:
        return False
    labels = view.spec.annotations.labels
    return all(has_label(labels, text) for text in filters.get("label", ()))


@click.command(
    "ps",
    cls=DockerCommand,
    usage="[OPTIONS] SERVICE [SERVICE...]",
    help="List the tasks of one or more services",
)
@filter_option()
@format_option()
@docker_bool_option("--no-resolve", help="Do not map IDs to Names")
@no_trunc_option()
@quiet_option("Only display task IDs")
@click.argument("services", nargs=-1, required=True)
@click.pass_obj
def ps(
    session: Session,
    services: tuple[str, ...],
    filter: tuple[str, ...],  # noqa: A002 - the flag's name
    format: str | None,  # noqa: A002
    no_resolve: bool,
    no_trunc: bool,
    quiet: bool,
) -> None:
    filters = parse_filters(filter, TASK_FILTERS)
    found, errors = _find(session, services)
    if found:
        client = session.client
        request = pb.ListTasksRequest(service_ids=[view.service.id for view in found])
        tasks = client.ask(lambda stubs: stubs.control.ListTasks, request).tasks
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
    if errors:
        raise CliError("\n".join(error.removeprefix("Error: ") for error in errors))


@click.command(
    "inspect",
    cls=DockerCommand,
    usage="[OPTIONS] SERVICE [SERVICE...]",
    help="Display detailed information on one or more services",
)
@inspect_format_option()
@docker_bool_option("--pretty", help="Print the information in a human friendly format")
@click.argument("services", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, services: tuple[str, ...], format: str | None, pretty: bool) -> None:  # noqa: A002
    if pretty and format:
        raise CliError("--format is incompatible with human friendly format")
    found, errors = _find(session, services)
    objects = [service_to_json(view) for view in found]
    if not pretty:
        print_inspect(objects, errors, format=format)
        return
    now_ns = time.time_ns()
    click.echo("".join(service_text(item, now_ns) for item in objects), nl=False)
    if errors:
        raise CliError("\n".join(errors))


def _find(session: Session, references: Sequence[str]) -> tuple[list[pb.ServiceView], list[str]]:
    """Each service once, and a line for each that is not there."""
    found: dict[str, pb.ServiceView] = {}
    errors: list[str] = []
    for reference in references:
        request = pb.GetServiceRequest(reference=reference)
        try:
            view = session.client.ask(lambda stubs: stubs.control.GetService, request).service
        except NotFoundError as error:
            errors.append(error.message)
            continue
        found.setdefault(view.service.id, view)
    return list(found.values()), errors
