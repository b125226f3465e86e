"""A stack to the cluster: what changes is said, or only planned, or waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.service_pb2 import DEPENDENCY_CONDITION_COMPLETED
from swarm.api.v1.store_pb2 import TABLE_CONFIG, TABLE_SECRET, TABLE_SERVICE
from swarm.cli.client import Client, new_request_id
from swarm.cli.errors import CliError
from swarm.cli.image_builds import build_images
from swarm.cli.specdiff import differences
from swarm.cli.waiting import wait_for_service
from swarm.dockerapi.service import service_spec_to_json
from swarm.stacks import stack_of
from swarm.units import NS_PER_SECOND

if TYPE_CHECKING:
    from swarm.compose.stack import Stack

_NOUNS = {TABLE_SERVICE: "service", TABLE_SECRET: "secret", TABLE_CONFIG: "config"}
_DOES = {
    pb.STACK_ACTION_CREATED: "Creating",
    pb.STACK_ACTION_UPDATED: "Updating",
    pb.STACK_ACTION_REMOVED: "Removing",
}
_WOULD = {
    pb.STACK_ACTION_CREATED: "create",
    pb.STACK_ACTION_UPDATED: "update",
    pb.STACK_ACTION_REMOVED: "remove",
}


def request_of(
    stack: Stack, *, prune: bool, plan: bool = False, check_index: int | None = None
) -> pb.DeployStackRequest:
    return pb.DeployStackRequest(
        request_id=new_request_id(),
        name=stack.name,
        services=stack.services,
        secrets=stack.secrets,
        configs=stack.configs,
        prune=prune,
        plan=plan,
        check_index=check_index,
    )


def deploy(
    client: Client,
    stack: Stack,
    *,
    prune: bool,
    quiet: bool = False,
    check_index: int | None = None,
    login: Callable[[str], str] | None = None,
) -> list[str]:
    """Build what is to be built, then change the cluster, at once. The names of its services, in
    the order in which they depend on each other. `login`: from an image to what it is pulled with,
    to be sent along. Raises CliError.
    """
    build_images(client, stack.builds)
    # Those are not waited for to run: who depends on them waits for them to be done.
    completing = {
        dependency.service_name
        for spec in stack.services
        for dependency in spec.depends_on
        if dependency.condition == DEPENDENCY_CONDITION_COMPLETED
    }
    request = request_of(stack, prune=prune, check_index=check_index)
    if login is not None:
        logins = {s.annotations.name: login(s.task.container.image) for s in stack.services}
        request.registry_auths.update({name: auth for name, auth in logins.items() if auth})
    changes = client.ask(lambda stubs: stubs.control.DeployStack, request).changes
    for change in changes:
        if not quiet:
            click.echo(_said(change))
    return [
        change.name
        for change in changes
        if change.table == TABLE_SERVICE
        and change.action != pb.STACK_ACTION_REMOVED
        and change.name not in completing
    ]


def wait_for_services(
    client: Client, names: Sequence[str], *, quiet: bool, timeout: int | None
) -> None:
    """One after the other, as they depend on each other; `timeout` in ns for each."""
    timeout_s = None if timeout is None else timeout / NS_PER_SECOND
    for name in names:
        if not quiet:
            click.echo(f"{name}:")
        service = client.ask(lambda s: s.control.GetService, pb.GetServiceRequest(reference=name))
        key = service.service.service.id
        wait_for_service(client, key, name, quiet=quiet, timeout_s=timeout_s)


def diff(client: Client, stack: Stack, *, prune: bool) -> bool:
    """Show how the cluster differs from the files. Whether it does."""
    request = request_of(stack, prune=prune, plan=True)
    changes = client.ask(lambda stubs: stubs.control.DeployStack, request).changes
    differing = [change for change in changes if change.action != pb.STACK_ACTION_UNCHANGED]
    for change in differing:
        click.echo(f"{_WOULD[change.action]} {_NOUNS[change.table]} {change.name}")
        if change.HasField("before") and change.HasField("after"):
            before, after = service_spec_to_json(change.before), service_spec_to_json(change.after)
            for difference in differences(before, after):
                click.echo(f"  {difference}")
    if not differing:
        click.echo(f"stack {stack.name} is as the files say: nothing to change")
    return bool(differing)


def say_changes(changes: Sequence[pb.StackChange]) -> None:
    for change in changes:
        click.echo(_said(change))


def _said(change: pb.StackChange) -> str:
    noun = _NOUNS[change.table]
    if change.action == pb.STACK_ACTION_UNCHANGED:
        return f"Unchanged {noun} {change.name}"
    known = f" (id: {change.id})" if change.action == pb.STACK_ACTION_UPDATED else ""
    return f"{_DOES[change.action]} {noun} {change.name}{known}"


def services_of(client: Client, name: str) -> list[pb.ServiceView]:
    """Those of the stack, by name."""
    answer = client.ask(lambda stubs: stubs.control.ListServices, pb.ListServicesRequest())
    found = [view for view in answer.services if stack_name(view) == name]
    return sorted(found, key=lambda view: view.service.name)


def stack_name(view: pb.ServiceView) -> str:
    """Empty: of none."""
    return stack_of(view.spec.annotations.labels)


def existing(client: Client, name: str) -> list[pb.ServiceView]:
    """As `services_of`. Raises CliError where there are none."""
    found = services_of(client, name)
    if not found:
        raise CliError(f"nothing found in stack: {name}")
    return found
