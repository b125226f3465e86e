"""`swarmctl compose`: compose files as the hand is used to type it, on the swarm.

A project is a stack: `compose up` deploys it, `compose down` removes it, and `swarmctl stack` shows
the same services.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.cli.command import DockerGroup
from swarm.cli.compose_files import file_flags, found_files, read_project, read_stack, say
from swarm.cli.errors import CliError
from swarm.cli.flags import (
    LIST,
    STRING,
    docker_bool_option,
    format_option,
    no_trunc_option,
    quiet_option,
)
from swarm.cli.image_builds import build_images
from swarm.cli.service_flags import wait_timeout_flag
from swarm.cli.service_logs import log_flags, print_logs
from swarm.cli.session import Session
from swarm.cli.stack import remove_stack
from swarm.cli.stack_deploy import deploy, existing, services_of, wait_for_services
from swarm.cli.tasklist import print_tasks

if TYPE_CHECKING:
    from swarm.compose.project import Project
    from swarm.compose.stack import Stack

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_-]")


@dataclass(frozen=True)
class _Files:
    """What was typed between `compose` and its verb."""

    session: Session
    files: tuple[str, ...]
    env_files: tuple[str, ...]
    profiles: tuple[str, ...]
    project_name: str | None
    project_directory: str | None

    def project(self, services: Sequence[str] = ()) -> Project:
        """Raises CliError."""
        environment = self.session.environment
        files = self.files or found_files(environment)
        folder = self.project_directory or ""
        project = read_project(
            files,
            environment,
            env_files=self.env_files,
            profiles=self.profiles,
            project_folder=folder,
        )
        unknown = [name for name in services if name not in project.services]
        if unknown:
            raise CliError(f"no such service: {unknown[0]}")
        return project

    def stack(self) -> Stack:
        project = self.project()
        return read_stack(project, self.name_of(project))

    def name_of(self, project: Project) -> str:
        """-p, COMPOSE_PROJECT_NAME, the files' own name, or the folder's."""
        named = self.project_name or project.environment.get("COMPOSE_PROJECT_NAME", "")
        return named or project.name or _normal(Path(project.folder).name)

    def name(self) -> str:
        """As `name_of`; files are read only where the name may be in them."""
        named = self.project_name or self.session.environment.get("COMPOSE_PROJECT_NAME", "")
        return named or self.name_of(self.project())


def _normal(folder: str) -> str:
    """A project's name of a folder's, as docker compose makes it."""
    name = _NOT_IN_A_NAME.sub("", folder.lower()).lstrip("_-")
    if not name:
        raise CliError("the folder's name gives no project name: give one with -p")
    return name


@click.group(
    cls=DockerGroup,
    name="compose",
    help="Run compose files on the swarm",
    unsupported=(
        "attach", "config", "cp", "create", "events", "exec", "export", "images", "kill", "pause",
        "port", "publish", "pull", "push", "restart", "rm", "run", "scale", "start", "stats",
        "stop", "top", "unpause", "version", "volumes", "wait", "watch",
    ),
)  # fmt: skip
@file_flags("--file", "-f")
@click.option("--project-name", "-p", type=STRING, help="Project name")
@click.option("--project-directory", type=STRING, help="Specify an alternate working directory")
@click.pass_context
def compose(
    ctx: click.Context,
    files: tuple[str, ...],
    env_files: tuple[str, ...],
    profiles: tuple[str, ...],
    project_name: str | None,
    project_directory: str | None,
) -> None:
    ctx.obj = _Files(ctx.obj, files, env_files, profiles, project_name, project_directory)


@compose.command("up", usage="[OPTIONS] [SERVICE...]", help="Create and start services")
@docker_bool_option("--detach", "-d", help="Run in the background: return once services run")
@docker_bool_option("--build", help="Build images before starting services (they always are)")
@docker_bool_option("--force-recreate", help="Make new tasks even where nothing has changed")
@docker_bool_option("--remove-orphans", help="Remove services that are not in the files")
@docker_bool_option("--quiet", "-q", help="Suppress progress output")
@click.option(
    "--scale", type=LIST, multiple=True, help="Scale SERVICE to NUM instances: SERVICE=NUM"
)
@wait_timeout_flag()
@click.argument("services", metavar="SERVICE", nargs=-1)
@click.pass_obj
def up(
    chosen: _Files,
    services: tuple[str, ...],
    detach: bool,
    build: bool,
    force_recreate: bool,
    remove_orphans: bool,
    quiet: bool,
    scale: tuple[str, ...],
    wait_timeout: int | None,
) -> None:
    del build
    chosen.project(services)
    stack = chosen.stack()
    say(stack.notes)
    _keep(stack, services)
    client = chosen.session.client
    _scale(stack, scale)
    if force_recreate:
        _force(stack, services_of(client, stack.name))
    names = deploy(client, stack, prune=remove_orphans and not services, quiet=quiet)
    wait_for_services(client, names, quiet=quiet, timeout=wait_timeout)
    if not detach:
        _follow(chosen.session, names)


@compose.command("build", usage="[OPTIONS] [SERVICE...]", help="Build the images of services")
@click.argument("services", metavar="SERVICE", nargs=-1)
@click.pass_obj
def build(chosen: _Files, services: tuple[str, ...]) -> None:
    chosen.project(services)
    stack = chosen.stack()
    builds = [b for b in stack.builds if not services or b.service in services]
    if not builds:
        click.echo("No services to build", err=True)
    build_images(chosen.session.client, builds)


@compose.command("ps", help="List the tasks of the project")
@format_option()
@no_trunc_option()
@quiet_option("Only display task IDs")
@click.pass_obj
def ps(chosen: _Files, format: str | None, no_trunc: bool, quiet: bool) -> None:  # noqa: A002
    client = chosen.session.client
    ids = [view.service.id for view in existing(client, chosen.name())]
    request = pb.ListTasksRequest(service_ids=ids)
    print_tasks(
        client.ask(lambda stubs: stubs.control.ListTasks, request).tasks,
        client.ask(lambda stubs: stubs.control.ListNodes, pb.ListNodesRequest()).nodes,
        filters={"desired-state": ("running", "ready")},
        format=format,
        quiet=quiet,
        no_trunc=no_trunc,
        no_resolve=False,
    )


@compose.command("logs", usage="[OPTIONS] [SERVICE...]", help="View output of services")
@log_flags
@click.argument("services", metavar="SERVICE", nargs=-1)
@click.pass_obj
def logs(chosen: _Files, services: tuple[str, ...], **flags: Any) -> None:
    name = chosen.name()
    wanted = {f"{name}_{service}" for service in services}
    found = existing(chosen.session.client, name)
    missing = wanted - {view.service.name for view in found}
    if missing:
        raise CliError(f"no such service: {min(missing).removeprefix(name + '_')}")
    references = [v.service.id for v in found if not wanted or v.service.name in wanted]
    print_logs(chosen.session.client, references, **flags)


@compose.command("down", help="Stop and remove the project's services, secrets and configs")
@click.pass_obj
def down(chosen: _Files) -> None:
    remove_stack(chosen.session, chosen.name())


def _keep(stack: Stack, services: Sequence[str]) -> None:
    """Those that were named, and what they depend on."""
    if not services:
        return
    by_name = {spec.annotations.name: spec for spec in stack.services}
    kept: dict[str, None] = {}
    waiting = [f"{stack.name}_{service}" for service in services]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = None
            waiting += [d.service_name for d in by_name[name].depends_on]
    stack.services[:] = [spec for spec in stack.services if spec.annotations.name in kept]
    stack.builds[:] = [b for b in stack.builds if f"{stack.name}_{b.service}" in kept]


def _scale(stack: Stack, wishes: Sequence[str]) -> None:
    by_name = {spec.annotations.name: spec for spec in stack.services}
    for wish in wishes:
        name, equals, count = wish.partition("=")
        spec = by_name.get(f"{stack.name}_{name}")
        if not equals or not count.isdigit():
            raise CliError(f"invalid scale {wish}: write SERVICE=NUM")
        if spec is None:
            raise CliError(f"no such service: {name}")
        if not spec.HasField("replicated"):
            raise CliError(f"service {name} can't be scaled: its mode is not replicated")
        spec.replicated.replicas = int(count)


def _force(stack: Stack, running: Sequence[pb.ServiceView]) -> None:
    before: dict[str, ServiceSpec] = {view.service.name: view.spec for view in running}
    for spec in stack.services:
        old = before.get(spec.annotations.name)
        if old is not None:
            spec.task.force_update = old.task.force_update + 1


def _follow(session: Session, names: Sequence[str]) -> None:
    """Output as it comes; Ctrl-C ends the showing, not the services."""
    try:
        print_logs(
            session.client,
            names,
            details=False,
            follow=True,
            no_resolve=False,
            no_task_ids=True,
            no_trunc=False,
            raw=False,
            since=None,
            until=None,
            tail="all",
            timestamps=False,
        )
    except KeyboardInterrupt:
        click.echo("The services go on: see `swarmctl compose ps`, end them with compose down.")
