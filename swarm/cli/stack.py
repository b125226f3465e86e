"""`swarmctl stack`: services, secrets and configs of compose files, deployed as one change."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.cli.client import NotFoundError, new_request_id
from swarm.cli.command import DockerGroup
from swarm.cli.compose_files import file_flags, read_project, read_stack, say
from swarm.cli.errors import CliError
from swarm.cli.flags import (
    docker_bool_option,
    filter_option,
    format_option,
    no_trunc_option,
    parse_filters,
    quiet_option,
)
from swarm.cli.names import natural
from swarm.cli.plan import EXIT_CHANGES, EXIT_NOTHING_TO_DO, show_plan
from swarm.cli.planflag import check_format, plan_flags
from swarm.cli.registry_logins import registry_auth
from swarm.cli.service_flags import wait_timeout_flag
from swarm.cli.service_list import FILTERS as SERVICE_FILTERS
from swarm.cli.service_list import print_services
from swarm.cli.service_logs import log_flags, print_logs
from swarm.cli.session import Session
from swarm.cli.stack_deploy import deploy as deploy_stack
from swarm.cli.stack_deploy import diff as show_diff
from swarm.cli.stack_deploy import (
    existing,
    request_of,
    say_changes,
    services_of,
    stack_name,
    wait_for_services,
)
from swarm.cli.tables import Column, print_list
from swarm.cli.tasklist import FILTERS as TASK_FILTERS
from swarm.cli.tasklist import print_tasks


@click.group(
    cls=DockerGroup,
    name="stack",
    help="Manage Swarm stacks",
    unsupported=("--orchestrator=value",),
)
def stack() -> None:
    pass


@stack.command(
    "deploy",
    usage="[OPTIONS] STACK",
    aliases=("up",),
    help="Deploy a new stack or update an existing stack",
    unsupported=("--resolve-image=value",),
)
@file_flags("--compose-file", "-c")
@docker_bool_option(
    "--detach", "-d", help="Exit immediately instead of waiting for the services", default=True
)
@docker_bool_option("--prune", help="Prune services that are no longer referenced")
@plan_flags
@docker_bool_option("--quiet", "-q", help="Suppress progress output")
@wait_timeout_flag()
@docker_bool_option(
    "--with-registry-auth", help="Send registry authentication details to Swarm agents"
)
@click.argument("name", metavar="STACK")
@click.pass_obj
def deploy(
    session: Session,
    name: str,
    files: tuple[str, ...],
    env_files: tuple[str, ...],
    profiles: tuple[str, ...],
    detach: bool,
    prune: bool,
    plan: bool,
    check_index: int | None,
    format: str | None,  # noqa: A002 - the flag's name
    quiet: bool,
    wait_timeout: int | None,
    with_registry_auth: bool,
) -> None:
    read = _read(session, name, files, env_files, profiles)
    check_format(plan, format)
    if plan:
        request = request_of(read, prune=prune, check_index=check_index)
        change = pb.PlannedChange(deploy_stack=request)
        raise click.exceptions.Exit(show_plan(session.client, [change], format))
    login = partial(registry_auth, session.environment) if with_registry_auth else None
    services = deploy_stack(
        session.client, read, prune=prune, quiet=quiet, check_index=check_index, login=login
    )
    if not detach:
        wait_for_services(session.client, services, quiet=quiet, timeout=wait_timeout)


@stack.command(
    "diff", usage="[OPTIONS] STACK", help="Show how a stack differs from its files (exit code 2)"
)
@file_flags("--compose-file", "-c")
@docker_bool_option("--prune", help="Show services too that are no longer referenced")
@click.argument("name", metavar="STACK")
@click.pass_obj
def diff(
    session: Session,
    name: str,
    files: tuple[str, ...],
    env_files: tuple[str, ...],
    profiles: tuple[str, ...],
    prune: bool,
) -> None:
    read = _read(session, name, files, env_files, profiles)
    differs = show_diff(session.client, read, prune=prune)
    raise click.exceptions.Exit(EXIT_CHANGES if differs else EXIT_NOTHING_TO_DO)


@stack.command(
    "config", help="Outputs the final config file, after doing merges and interpolations"
)
@file_flags("--compose-file", "-c")
@click.pass_obj
def config(
    session: Session, files: tuple[str, ...], env_files: tuple[str, ...], profiles: tuple[str, ...]
) -> None:
    from swarm.compose.yaml_text import dump

    if not files:
        raise CliError("please specify a Compose file (with --compose-file)")
    project = read_project(files, session.environment, env_files=env_files, profiles=profiles)
    say(project.notes)
    click.echo(dump(project.tree), nl=False)


@stack.command("ls", aliases=("list",), help="List stacks")
@format_option()
@click.pass_obj
def ls(session: Session, format: str | None) -> None:  # noqa: A002 - the flag's name
    services = session.client.ask(
        lambda stubs: stubs.control.ListServices, pb.ListServicesRequest()
    ).services
    counts = Counter(name for view in services if (name := stack_name(view)))
    rows = [
        {"Name": name, "Services": str(counts[name]), "Orchestrator": "Swarm"}
        for name in sorted(counts, key=natural)
    ]
    print_list(rows, (Column("Name", "NAME"), Column("Services", "SERVICES")), format=format)


@stack.command("services", usage="[OPTIONS] STACK", help="List the services in the stack")
@filter_option()
@format_option()
@quiet_option()
@click.argument("name", metavar="STACK")
@click.pass_obj
def services(
    session: Session,
    name: str,
    filter: tuple[str, ...],  # noqa: A002 - the flag's name
    format: str | None,  # noqa: A002
    quiet: bool,
) -> None:
    filters = parse_filters(filter, SERVICE_FILTERS)
    found = services_of(session.client, name)
    if not found:
        click.echo(f"Nothing found in stack: {name}", err=True)
        return
    print_services(found, filters, format=format, quiet=quiet)
    for view in found:
        if view.waits_for and not quiet:
            click.echo(f"{view.service.name} waits for {' and '.join(view.waits_for)}", err=True)


@stack.command("ps", usage="[OPTIONS] STACK", help="List the tasks in the stack")
@filter_option()
@format_option()
@docker_bool_option("--no-resolve", help="Do not map IDs to Names")
@no_trunc_option()
@quiet_option("Only display task IDs")
@click.argument("name", metavar="STACK")
@click.pass_obj
def ps(
    session: Session,
    name: str,
    filter: tuple[str, ...],  # noqa: A002 - the flag's name
    format: str | None,  # noqa: A002
    no_resolve: bool,
    no_trunc: bool,
    quiet: bool,
) -> None:
    filters = parse_filters(filter, TASK_FILTERS)
    client = session.client
    request = pb.ListTasksRequest(service_ids=[v.service.id for v in existing(client, name)])
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


@stack.command("logs", usage="[OPTIONS] STACK", help="Fetch the logs of the stack's services")
@log_flags
@click.argument("name", metavar="STACK")
@click.pass_obj
def logs(session: Session, name: str, **flags: Any) -> None:
    references = [view.service.id for view in existing(session.client, name)]
    print_logs(session.client, references, **flags)


@stack.command(
    "rm",
    usage="[OPTIONS] STACK [STACK...]",
    aliases=("remove", "down"),
    help="Remove one or more stacks",
)
@docker_bool_option("--detach", "-d", help="Do not wait for stack removal", default=True)
@click.argument("names", metavar="STACK", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, names: tuple[str, ...], detach: bool) -> None:
    del detach  # tasks are stopped by their nodes; nothing of the stack is left to be seen
    for name in names:
        remove_stack(session, name)


def remove_stack(session: Session, name: str) -> None:
    """Says what goes; a stack that is not there is said, and no error, as in Docker."""
    request = pb.RemoveStackRequest(request_id=new_request_id(), name=name)
    try:
        changes = session.client.ask(lambda stubs: stubs.control.RemoveStack, request).changes
    except NotFoundError:
        click.echo(f"Nothing found in stack: {name}", err=True)
        return
    say_changes(changes)


def _read(
    session: Session,
    name: str,
    files: tuple[str, ...],
    env_files: tuple[str, ...],
    profiles: tuple[str, ...],
) -> Any:
    if not files:
        raise CliError("please specify a Compose file (with --compose-file)")
    project = read_project(files, session.environment, env_files=env_files, profiles=profiles)
    read = read_stack(project, name)
    say(read.notes)
    return read
