"""`swarmctl service create`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from swarm.cli import regular_file
from swarm.cli.command import DockerCommand
from swarm.cli.errors import CliError
from swarm.cli.flags import LIST, STRING
from swarm.cli.names import random_name
from swarm.cli.planflag import check_format, plan_flags
from swarm.cli.service_flags import (
    ADDRESS,
    CONFIG,
    DOMAIN,
    ENV,
    GENERIC,
    HOST,
    LABEL,
    MOUNT,
    PORT,
    SECRET,
    SPREAD,
    ULIMIT,
    UNSUPPORTED_IN_BOTH,
    Command,
    apply_all,
    common_flags,
    flag,
    list_flag,
    seconds,
    waiting_flags,
)
from swarm.cli.servicespec import SpecError, create_spec
from swarm.cli.session import Session
from swarm.cli.specvalues import parse_env_file, resolve_env


def _create_flags(command: Command) -> Command:
    return apply_all(
        command,
        flag("--name", kind=STRING, about="Service name"),
        flag(
            "--mode",
            kind=STRING,
            about='Service mode ("replicated", "global", "replicated-job", "global-job") '
            '(default "replicated")',
        ),
        list_flag("--config", kind=CONFIG, about="Specify configurations to expose to the service"),
        list_flag("--constraint", kind=LIST, about="Placement constraints"),
        list_flag("--container-label", kind=LABEL, about="Container labels"),
        list_flag("--dns", kind=ADDRESS, about="Set custom DNS servers"),
        list_flag("--dns-option", kind=LIST, about="Set DNS options"),
        list_flag("--dns-search", kind=DOMAIN, about="Set custom DNS search domains"),
        list_flag("--env", "-e", kind=ENV, about="Set environment variables"),
        list_flag("--env-file", kind=LIST, about="Read in a file of environment variables"),
        list_flag(
            "--group",
            kind=LIST,
            about="Set one or more supplementary user groups for the container",
        ),
        list_flag(
            "--host", kind=HOST, about="Set one or more custom host-to-IP mappings (host:ip)"
        ),
        list_flag("--label", "-l", kind=LABEL, about="Service labels"),
        list_flag("--mount", kind=MOUNT, about="Attach a filesystem mount to the service"),
        list_flag("--generic-resource", kind=GENERIC, about="User defined resources"),
        list_flag("--placement-pref", kind=SPREAD, about="Add a placement preference"),
        list_flag("--publish", "-p", kind=PORT, about="Publish a port as a node port"),
        list_flag("--secret", kind=SECRET, about="Specify secrets to expose to the service"),
        list_flag("--sysctl", kind=LIST, about="Sysctl options"),
        list_flag("--ulimit", kind=ULIMIT, about="Ulimit options"),
    )


@click.command(
    "create",
    cls=DockerCommand,
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    help="Create a new service",
    trailing_command=True,
    unsupported=(
        *UNSUPPORTED_IN_BOTH,
        "--network=value",
    ),
)
@_create_flags
@common_flags(defaults=True)
@waiting_flags
@plan_flags
@click.argument("image")
@click.argument("command", nargs=-1)
@click.pass_obj
def create(session: Session, image: str, command: tuple[str, ...], **flags: Any) -> int | None:
    check_format(flags["plan"], flags["format"])
    flags["env"] = _environment(flags, session.environment)
    flags["name"] = flags["name"] or random_name()
    try:
        spec = create_spec(flags, image, command)
    except SpecError as error:
        raise CliError(str(error)) from error

    from swarm.api.v1.control_pb2 import CreateServiceRequest, PlannedChange
    from swarm.cli.client import new_request_id
    from swarm.cli.plan import show_plan
    from swarm.cli.registry_logins import registry_auth
    from swarm.cli.waiting import wait_for_service

    request = CreateServiceRequest(request_id=new_request_id(), spec=spec)
    if flags["plan"]:
        # --check-index has nothing to add: a service of that name is refused anyway.
        change = PlannedChange(create_service=request)
        return show_plan(session.client, [change], flags["format"])
    if flags["with_registry_auth"]:
        request.registry_auth = registry_auth(session.environment, image)
    answer = session.client.ask(lambda stubs: stubs.control.CreateService, request)
    for warning in answer.warnings:
        click.echo(warning, err=True)
    service_id = answer.service.service.id
    click.echo(service_id)
    if not flags["detach"]:
        wait_for_service(
            session.client,
            service_id,
            service_id,
            quiet=flags["quiet"],
            timeout_s=seconds(flags["wait_timeout"]),
        )
    return None


def _environment(flags: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Variables of the files, then those of the command line. Raises CliError."""
    variables: list[str] = []
    for name in flags["env_file"]:
        try:
            variables += parse_env_file(regular_file.read(name).decode(), environment)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CliError(f"open {name}: {reason}") from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise CliError(f"env file {name} contains invalid utf8 bytes at line {line}") from error
        except ValueError as error:
            raise CliError(f"invalid env file ({name}): {error}") from error
    return variables + resolve_env(flags["env"], environment)
