"""`swarmctl node update`, and how a node is read, changed and written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.node_pb2 import NodeSpec
from swarm.cli.client import Client, OutdatedError, new_request_id
from swarm.cli.command import DockerCommand
from swarm.cli.draining import wait_for_drain
from swarm.cli.errors import EXIT_USAGE, CliError
from swarm.cli.flags import LIST, STRING, UINT, docker_bool_option
from swarm.cli.plan import show_plan
from swarm.cli.planflag import check_format, plan_flags
from swarm.cli.service_flags import POSITIVE_DURATION, apply_all, flag, seconds
from swarm.cli.session import Session
from swarm.cli.specvalues import to_map
from swarm.dockerapi.json_values import ApiError
from swarm.dockerapi.words import AVAILABILITY, NODE_ROLE

_ATTEMPTS = 10


def drain_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """--max-unavailable, and how its end is waited for."""
    return apply_all(
        command,
        flag(
            "--max-unavailable",
            kind=UINT,
            about="With --availability drain: stop a task once its replacement runs and is "
            "healthy, move at most so many of a service at once, and wait until the node is empty",
        ),
        docker_bool_option(
            "--detach",
            "-d",
            help="Exit immediately instead of waiting for the node to become empty",
        ),
        docker_bool_option("--quiet", "-q", help="Suppress progress output"),
        flag(
            "--wait-timeout",
            kind=POSITIVE_DURATION,
            about="Give up waiting after this long, the drain goes on (default 5m without a "
            "terminal, never with one)",
        ),
    )


@click.command("update", cls=DockerCommand, usage="[OPTIONS] NODE", help="Update a node")
@click.option(
    "--availability", type=STRING, help='Availability of the node ("active", "pause", "drain")'
)
@click.option(
    "--label-add", type=LIST, multiple=True, help='Add or update a node label ("key=value")'
)
@click.option("--label-rm", type=LIST, multiple=True, help="Remove a node label if exists")
@click.option("--role", type=STRING, help='Role of the node ("worker", "manager")')
@drain_flags
@plan_flags
@click.argument("node_reference", metavar="NODE")
@click.pass_obj
def update(
    session: Session,
    node_reference: str,
    availability: str | None,
    label_add: tuple[str, ...],
    label_rm: tuple[str, ...],
    role: str | None,
    max_unavailable: int | None,
    detach: bool,
    quiet: bool,
    wait_timeout: int | None,
    plan: bool,
    check_index: int | None,
    format: str | None,  # noqa: A002 - the flag's name
) -> int | None:
    check_format(plan, format)
    _check_max_unavailable(max_unavailable, availability)

    def change(spec: NodeSpec) -> NodeSpec:
        new = NodeSpec()
        new.CopyFrom(spec)
        if availability is not None:
            new.availability = AVAILABILITY.member(availability)
            new.ClearField("drain")
        if max_unavailable:
            new.drain.max_unavailable = max_unavailable
        if role is not None:
            new.role = NODE_ROLE.member(role)
        new.annotations.labels.update(to_map(label_add))
        for key in label_rm:
            if key not in new.annotations.labels:
                raise CliError(f"key {key} doesn't exist in node's labels")
            del new.annotations.labels[key]
        return new

    if plan:
        request = _request(session.client, node_reference, change, check_index)
        return show_plan(session.client, [pb.PlannedChange(update_node=request)], format)
    node_id = change_node(session.client, node_reference, change, check_index)
    click.echo(node_reference)
    if max_unavailable and not detach:
        wait_for_drain(
            session.client, node_id, node_reference, quiet=quiet, timeout_s=seconds(wait_timeout)
        )
    return None


def _check_max_unavailable(most: int | None, availability: str | None) -> None:
    """Raises CliError."""
    if most is not None and availability != "drain":
        raise CliError("--max-unavailable goes with --availability drain", EXIT_USAGE)
    if most == 0:
        raise CliError(
            'invalid argument "0" for "--max-unavailable" flag: at least one task must be allowed '
            "to move",
            EXIT_USAGE,
        )


def get_node(client: Client, reference: str) -> pb.NodeView:
    request = pb.GetNodeRequest(reference=reference)
    return client.ask(lambda stubs: stubs.control.GetNode, request).node


def change_node(
    client: Client,
    reference: str,
    change: Callable[[NodeSpec], NodeSpec],
    check_index: int | None = None,
) -> str:
    """Read, change, write; where somebody else came between, once more. Gives the node's id.

    Raises CliError.
    """
    attempt = 0
    while True:
        request = _request(client, reference, change, check_index)
        try:
            client.ask(lambda stubs: stubs.control.UpdateNode, request)
            return request.node_id
        except OutdatedError:
            attempt += 1
            if attempt >= _ATTEMPTS:
                raise


def _request(
    client: Client,
    reference: str,
    change: Callable[[NodeSpec], NodeSpec],
    check_index: int | None,
) -> pb.UpdateNodeRequest:
    """From the spec as it is now."""
    found = get_node(client, reference).node
    try:
        spec = change(found.spec)
    except ApiError as error:
        raise CliError(str(error)) from error
    return pb.UpdateNodeRequest(
        request_id=new_request_id(),
        node_id=found.id,
        version=found.meta.version,
        spec=spec,
        check_index=check_index,
    )
