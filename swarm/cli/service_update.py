"""`swarmctl service update|rollback|scale|rm`: changes of a service that is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.cli.client import Client, OutdatedError, new_request_id
from swarm.cli.command import DockerCommand
from swarm.cli.errors import CliError
from swarm.cli.flags import LIST, STRING, UINT, docker_bool_option
from swarm.cli.plan import show_plan
from swarm.cli.planflag import check_format, plan_flags
from swarm.cli.registry_logins import registry_auth
from swarm.cli.service_flags import (
    ADDRESS,
    COMMAND,
    CONFIG,
    DOMAIN,
    ENV,
    GENERIC,
    HOST,
    HOST_NAME,
    LABEL,
    MOUNT,
    PORT,
    REVISION,
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
    wait_timeout_flag,
    waiting_flags,
)
from swarm.cli.servicespec import SpecError
from swarm.cli.session import Session
from swarm.cli.specupdate import update_spec, with_replicas
from swarm.cli.specvalues import resolve_env
from swarm.cli.waiting import wait_for_service

_ATTEMPTS = 10


Change = Callable[[ServiceSpec], ServiceSpec]


def change_service(
    client: Client,
    reference: str,
    change: Change | None,
    *,
    back_to: int = 0,
    check_index: int | None = None,
    login: Callable[[str], str] | None = None,
) -> pb.UpdateServiceResponse:
    """Read the spec, change it, write it; where somebody else came between, once more. Without a
    `change` the service goes back to revision `back_to` (0: its previous spec). `login`: from an
    image to what it is pulled with, to be sent along.

    Raises CliError; so may `change`.
    """
    attempt = 0
    while True:
        request = _request(client, reference, change, back_to, check_index)
        if login is not None:
            request.registry_auth = login(request.spec.task.container.image)
        try:
            return client.ask(lambda stubs: stubs.control.UpdateService, request)
        except OutdatedError:
            attempt += 1
            if attempt >= _ATTEMPTS:
                raise


def _request(
    client: Client, reference: str, change: Change | None, back_to: int, check_index: int | None
) -> pb.UpdateServiceRequest:
    """From the spec as it is now."""
    found = client.ask(
        lambda stubs: stubs.control.GetService, pb.GetServiceRequest(reference=reference)
    ).service
    return pb.UpdateServiceRequest(
        request_id=new_request_id(),
        service_id=found.service.id,
        version=found.service.meta.version,
        spec=None if change is None else change(found.spec),
        rollback=change is None,
        rollback_to=back_to,
        check_index=check_index,
    )


def _planned(
    client: Client,
    reference: str,
    change: Change | None,
    check_index: int | None,
    back_to: int = 0,
) -> pb.PlannedChange:
    request = _request(client, reference, change, back_to, check_index)
    return pb.PlannedChange(update_service=request)


def _update_only_flags(command: Command) -> Command:
    return apply_all(
        command,
        flag("--image", kind=STRING, about="Service image tag"),
        flag("--args", kind=COMMAND, about="Service command args"),
        docker_bool_option("--force", help="Force update even if no changes require it"),
        docker_bool_option("--rollback", help="Rollback to previous specification"),
        *_pair(
            "config",
            CONFIG,
            LIST,
            "Add or update a config file on a service",
            "a configuration file",
        ),
        *_pair("constraint", LIST, LIST, "Add or update a placement constraint", "a constraint"),
        *_pair(
            "container-label",
            LABEL,
            LIST,
            "Add or update a container label",
            "a container label by its key",
        ),
        *_pair("dns", ADDRESS, LIST, "Add or update a custom DNS server", "a custom DNS server"),
        *_pair("dns-option", LIST, LIST, "Add or update a DNS option", "a DNS option"),
        *_pair(
            "dns-search",
            DOMAIN,
            LIST,
            "Add or update a custom DNS search domain",
            "a DNS search domain",
        ),
        *_pair(
            "env",
            ENV,
            LIST,
            "Add or update an environment variable",
            "an environment variable",
        ),
        *_pair(
            "generic-resource",
            GENERIC,
            LIST,
            "Add or update a Generic resource",
            "a Generic resource by its kind",
        ),
        *_pair(
            "group",
            LIST,
            LIST,
            "Add an additional supplementary user group to the container",
            "a previously added supplementary user group from the container",
        ),
        *_pair(
            "host",
            HOST,
            HOST_NAME,
            'Add a custom host-to-IP mapping ("host:ip")',
            'a custom host-to-IP mapping ("host:ip")',
        ),
        *_pair("label", LABEL, LIST, "Add or update a service label", "a label by its key"),
        *_pair(
            "mount",
            MOUNT,
            LIST,
            "Add or update a mount on a service",
            "a mount by its target path",
        ),
        *_pair(
            "placement-pref",
            SPREAD,
            SPREAD,
            "Add a placement preference",
            "a placement preference",
        ),
        *_pair(
            "publish",
            PORT,
            PORT,
            "Add or update a published port",
            "a published port by its target port",
        ),
        *_pair("secret", SECRET, LIST, "Add or update a secret on a service", "a secret"),
        *_pair("sysctl", LIST, LIST, "Add or update a Sysctl option", "a Sysctl option"),
        *_pair("ulimit", ULIMIT, LIST, "Add or update a ulimit option", "a ulimit option"),
    )


def _pair(name: str, added: Any, removed: Any, adds: str, removes: str) -> tuple[Any, Any]:
    return (
        list_flag(f"--{name}-add", kind=added, about=adds),
        list_flag(f"--{name}-rm", kind=removed, about=f"Remove {removes}"),
    )


@click.command(
    "update",
    cls=DockerCommand,
    usage="[OPTIONS] SERVICE",
    help="Update a service",
    unsupported=(
        *UNSUPPORTED_IN_BOTH,
        "--network-add=value",
        "--network-rm=value",
    ),
)
@_update_only_flags
@common_flags(defaults=False)
@waiting_flags
@plan_flags
@click.argument("service")
@click.pass_obj
def update(session: Session, service: str, **flags: Any) -> int | None:
    check_format(flags["plan"], flags["format"])
    if flags["rollback"]:
        _check_alone(flags)
        return _roll_back(session, service, flags)
    flags["env_add"] = resolve_env(flags["env_add"], session.environment)

    def change(spec: ServiceSpec) -> ServiceSpec:
        try:
            return update_spec(spec, flags)
        except SpecError as error:
            raise CliError(str(error)) from error

    check_index = flags["check_index"]
    if flags["plan"]:
        planned = _planned(session.client, service, change, check_index)
        return show_plan(session.client, [planned], flags["format"])
    login = partial(registry_auth, session.environment) if flags["with_registry_auth"] else None
    answer = change_service(session.client, service, change, check_index=check_index, login=login)
    for warning in answer.warnings:
        click.echo(warning, err=True)
    click.echo(service)
    if not flags["detach"]:
        timeout_s = seconds(flags["wait_timeout"])
        service_id = answer.service.service.id
        wait_for_service(
            session.client, service_id, service, quiet=flags["quiet"], timeout_s=timeout_s
        )
    return None


_GO_WITH_ROLLBACK = (
    "rollback",
    "detach",
    "quiet",
    "wait_timeout",
    "plan",
    "check_index",
    "format",
)


def _check_alone(flags: Mapping[str, Any]) -> None:
    """Raises CliError."""
    if any(value for name, value in flags.items() if name not in _GO_WITH_ROLLBACK):
        raise CliError("other flags may not be combined with --rollback")


def _roll_back(
    session: Session, service: str, flags: Mapping[str, Any], back_to: int = 0
) -> int | None:
    client, check_index = session.client, flags["check_index"]
    if flags["plan"]:
        planned = _planned(client, service, None, check_index, back_to)
        return show_plan(client, [planned], flags["format"])
    answer = change_service(client, service, None, back_to=back_to, check_index=check_index)
    for warning in answer.warnings:
        click.echo(warning, err=True)
    click.echo(service)
    if not flags["detach"]:
        wait_for_service(
            client,
            answer.service.service.id,
            service,
            quiet=flags["quiet"],
            timeout_s=seconds(flags["wait_timeout"]),
            asked_back=True,
        )
    return None


@click.command(
    "rollback",
    cls=DockerCommand,
    usage="[OPTIONS] SERVICE",
    help="Revert changes to a service's configuration",
)
@flag(
    "--to",
    kind=REVISION,
    about="Revision to go back to, see 'swarmctl history service' (default the previous one)",
)
@waiting_flags
@plan_flags
@click.argument("service")
@click.pass_obj
def rollback(session: Session, service: str, to: int | None, **flags: Any) -> int | None:
    check_format(flags["plan"], flags["format"])
    return _roll_back(session, service, flags, to or 0)


@click.command(
    "scale",
    cls=DockerCommand,
    usage="[OPTIONS] SERVICE=REPLICAS [SERVICE=REPLICAS...]",
    help="Scale one or multiple replicated services",
)
@docker_bool_option(
    "--detach", "-d", help="Exit immediately instead of waiting for the service to converge"
)
@wait_timeout_flag()
@plan_flags
@click.argument("services", nargs=-1, required=True)
@click.pass_obj
def scale(
    session: Session,
    services: tuple[str, ...],
    detach: bool,
    wait_timeout: int | None,
    plan: bool,
    check_index: int | None,
    format: str | None,  # noqa: A002 - the flag's name
) -> int | None:
    check_format(plan, format)
    wanted = _parse_scales(services)
    if plan:
        client = session.client
        changes = [_planned(client, name, _scaled(count), check_index) for name, count in wanted]
        return show_plan(client, changes, format)
    errors: list[str] = []
    scaled: list[tuple[str, str]] = []
    for name, replicas in wanted:
        try:
            answer = change_service(
                session.client, name, _scaled(replicas), check_index=check_index
            )
        except CliError as error:
            errors.append(f"{name}: {error.message}")
            continue
        scaled.append((name, answer.service.service.id))
        click.echo(f"{name} scaled to {replicas}")
    for name, service_id in () if detach else scaled:
        try:
            wait_for_service(session.client, service_id, name, timeout_s=seconds(wait_timeout))
        except CliError as error:
            errors.append(error.message)
    if errors:
        raise CliError("\n".join(errors))
    return None


def _parse_scales(texts: tuple[str, ...]) -> list[tuple[str, int]]:
    """All are read before any is done. Raises CliError."""
    wanted: list[tuple[str, int]] = []
    for text in texts:
        name, equals, number = text.partition("=")
        if not equals:
            raise CliError(
                f"invalid scale specifier '{text}'.\nSee 'swarmctl service scale --help'.\n\n"
                "Usage:  swarmctl service scale SERVICE=REPLICAS [SERVICE=REPLICAS...]\n\n"
                "Scale one or multiple replicated services"
            )
        try:
            wanted.append((name, UINT.convert(number, None, None)))
        except click.BadParameter as error:
            raise CliError(f"{name}: invalid replicas value {number}: {error.message}") from error
    return wanted


def _scaled(replicas: int) -> Change:
    def change(spec: ServiceSpec) -> ServiceSpec:
        try:
            return with_replicas(spec, replicas)
        except SpecError as error:
            raise CliError(
                "scale can only be used with replicated or replicated-job mode"
            ) from error

    return change


@click.command(
    "rm",
    cls=DockerCommand,
    usage="SERVICE [SERVICE...]",
    aliases=("remove",),
    help="Remove one or more services",
)
@click.argument("services", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, services: tuple[str, ...]) -> None:
    errors: list[str] = []
    for reference in services:
        request = pb.RemoveServiceRequest(request_id=new_request_id(), reference=reference)
        try:
            session.client.ask(lambda stubs: stubs.control.RemoveService, request)
        except CliError as error:
            errors.append(error.message)
            continue
        click.echo(reference)
    if errors:
        raise CliError("\n".join(errors))
