"""`swarmctl swarm`, and its verbs at the top: the cluster as a whole."""

from __future__ import annotations

import sys
from typing import Any

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1 import daemon_pb2 as daemon
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NodeAvailability
from swarm.cli.client import Client, OutdatedError, new_request_id
from swarm.cli.command import DockerGroup, changed
from swarm.cli.errors import CliError
from swarm.cli.flags import DURATION, INT, STRING, UINT, Value, docker_bool_option
from swarm.cli.session import Session
from swarm.dockerapi.json_values import ApiError
from swarm.dockerapi.words import AVAILABILITY
from swarm.units import NS_PER_SECOND

_HEARTBEAT_NS = NS_PER_SECOND
_CERTIFICATE_EXPIRY_NS = 90 * 24 * 3600 * NS_PER_SECOND
_TASK_HISTORY_LIMIT = 5
_SNAPSHOT_INTERVAL = 10_000
_JOIN_TIMEOUT_S = 120.0
"""A manager's join ends when it has caught up with the log."""
_LEAVE_TIMEOUT_S = 60.0
_ATTEMPTS = 10

_UNITS = "(ns|us|ms|s|m|h)"
NODE_ADDRESS = Value("node-addr", str)
_SETTINGS = (
    "cert_expiry",
    "dispatcher_heartbeat",
    "max_snapshots",
    "snapshot_interval",
    "task_history_limit",
)
_UNSUPPORTED_SETTINGS = ("--autolock", "--external-ca=value")


@click.group(
    cls=DockerGroup,
    name="swarm",
    help="Manage Swarm",
    unsupported=("ca", "unlock", "unlock-key"),
)
def swarm() -> None:
    pass


def _settings(command: Any) -> Any:
    """The cluster's settings, None where not typed."""
    for decorate in (
        click.option(
            "--cert-expiry",
            type=DURATION,
            help=f"Validity period for node certificates {_UNITS} (default 2160h0m0s)",
        ),
        click.option(
            "--dispatcher-heartbeat",
            type=DURATION,
            help=f"Dispatcher heartbeat period {_UNITS} (default 1s)",
        ),
        click.option(
            "--max-snapshots",
            type=UINT,
            help="Number of additional snapshots to retain (default 0)",
        ),
        click.option(
            "--snapshot-interval",
            type=UINT,
            help="Number of log entries between Raft snapshots (default 10000)",
        ),
        click.option(
            "--task-history-limit", type=INT, help="Task history retention limit (default 5)"
        ),
    ):
        command = decorate(command)
    return command


def _addresses(command: Any) -> Any:
    for decorate in (
        click.option(
            "--advertise-addr",
            type=STRING,
            help='Advertised address (format: "<ip|interface>[:port]")',
        ),
        click.option(
            "--availability",
            type=STRING,
            help='Availability of the node ("active", "pause", "drain") (default "active")',
        ),
        click.option(
            "--listen-addr",
            type=NODE_ADDRESS,
            help='Listen address (format: "<ip|interface>[:port]") (default 0.0.0.0:2377)',
        ),
    ):
        command = decorate(command)
    return command


@swarm.command(
    "init",
    help="Initialize a swarm",
    unsupported=(
        *_UNSUPPORTED_SETTINGS,
        "--data-path-addr=value",
        "--data-path-port=value",
        "--default-addr-pool=value",
        "--default-addr-pool-mask-length=value",
    ),
)
@_addresses
@_settings
@docker_bool_option("--force-new-cluster", help="Force create a new cluster from current state")
@click.pass_context
def init(
    ctx: click.Context,
    force_new_cluster: bool,
    advertise_addr: str | None,
    listen_addr: str | None,
    availability: str | None,
    cert_expiry: int | None,
    dispatcher_heartbeat: int | None,
    max_snapshots: int | None,
    snapshot_interval: int | None,
    task_history_limit: int | None,
) -> None:
    session: Session = ctx.obj
    if force_new_cluster:
        _refuse_settings(ctx)
    history = _TASK_HISTORY_LIMIT if task_history_limit is None else task_history_limit
    request = daemon.InitRequest(
        advertise_address=advertise_addr or "",
        listen_address=listen_addr or "",
        availability=_availability(availability),
        certificate_expiry_ns=cert_expiry or _CERTIFICATE_EXPIRY_NS,
        heartbeat_period_ns=dispatcher_heartbeat or _HEARTBEAT_NS,
        task_history_limit=history,
        snapshot_interval=snapshot_interval or _SNAPSHOT_INTERVAL,
        max_snapshots=max_snapshots or 0,
        force_new_cluster=force_new_cluster,
    )
    answer = session.client.ask_local(
        lambda stubs: stubs.daemon.Init, request, timeout_s=_JOIN_TIMEOUT_S
    )
    click.echo(f"Swarm initialized: current node ({answer.node_id}) is now a manager.\n")
    _print_join_line("worker", answer.worker_token, answer.join_address)
    click.echo(
        "To add a manager to this swarm, run 'swarmctl swarm join-token manager' and follow the "
        "instructions."
    )


def _refuse_settings(ctx: click.Context) -> None:
    """A new cluster of old state has its settings."""
    for name in ("availability", *_SETTINGS):
        if changed(ctx, name):
            flag = name.replace("_", "-")
            verb = "node update" if name == "availability" else "swarm update"
            raise CliError(
                f"--{flag} does not go with --force-new-cluster, which keeps what is set: use "
                f"'swarmctl {verb} --{flag}' afterwards"
            )


def _print_join_line(role: str, token: str, address: str) -> None:
    click.echo(f"To add a {role} to this swarm, run the following command:\n")
    click.echo(f"    swarmctl swarm join --token {token} {address}\n")


@swarm.command(
    "join",
    usage="[OPTIONS] HOST:PORT",
    help="Join a swarm as a node and/or manager",
    unsupported=("--data-path-addr=value",),
)
@_addresses
@click.option("--token", type=STRING, help='Token for entry into the swarm ("-": read from STDIN)')
@click.argument("remote", metavar="HOST:PORT")
@click.pass_obj
def join(
    session: Session,
    remote: str,
    token: str | None,
    advertise_addr: str | None,
    listen_addr: str | None,
    availability: str | None,
) -> None:
    if token == "-":  # noqa: S105 - where it comes from
        token = sys.stdin.readline().strip()
    if not token:
        raise CliError(
            "a join token is needed: --token SWMTKN-1-…; a manager prints it with "
            "'swarmctl swarm join-token worker'"
        )
    request = daemon.JoinRequest(
        token=token,
        remote_addresses=[text.strip() for text in remote.split(",") if text.strip()],
        advertise_address=advertise_addr or "",
        listen_address=listen_addr or "",
        availability=_availability(availability),
    )
    answer = session.client.ask_local(
        lambda stubs: stubs.daemon.Join, request, timeout_s=_JOIN_TIMEOUT_S
    )
    role = "manager" if answer.role == NODE_ROLE_MANAGER else "worker"
    click.echo(f"This node joined a swarm as a {role}.")


def _availability(word: str | None) -> NodeAvailability.ValueType:
    try:
        return AVAILABILITY.member(word or "active")
    except ApiError:
        raise CliError(
            f'invalid availability "{word}", only active, pause and drain are supported'
        ) from None


@swarm.command("join-token", usage="[OPTIONS] (worker|manager)", help="Manage join tokens")
@docker_bool_option("--quiet", "-q", help="Only display token")
@docker_bool_option("--rotate", help="Rotate join token")
@click.argument("role", metavar="(worker|manager)")
@click.pass_obj
def join_token(session: Session, role: str, quiet: bool, rotate: bool) -> None:
    if role not in ("worker", "manager"):
        raise CliError(f"unknown role {role}")
    request = pb.JoinTokensRequest(
        request_id=new_request_id(),
        rotate_worker=rotate and role == "worker",
        rotate_manager=rotate and role == "manager",
    )
    answer = session.client.ask(lambda stubs: stubs.control.JoinTokens, request)
    token = answer.worker if role == "worker" else answer.manager
    if quiet:
        click.echo(token)
        return
    if rotate:
        click.echo(f"Successfully rotated {role} join token.\n")
    address = answer.join_addresses[0] if answer.join_addresses else "HOST:2377"
    _print_join_line(role, token, address)


@swarm.command("leave", help="Leave the swarm")
@docker_bool_option("--force", "-f", help="Force this node to leave the swarm, ignoring warnings")
@click.pass_obj
def leave(session: Session, force: bool) -> None:
    session.client.ask_local(
        lambda stubs: stubs.daemon.Leave,
        daemon.LeaveRequest(force=force),
        timeout_s=_LEAVE_TIMEOUT_S,
    )
    click.echo("Node left the swarm.")


@swarm.command("update", help="Update the swarm", unsupported=_UNSUPPORTED_SETTINGS)
@_settings
@click.pass_context
def update(ctx: click.Context, **settings: int | None) -> None:
    if all(settings[name] is None for name in _SETTINGS):
        click.echo(ctx.get_help())
        return
    session: Session = ctx.obj
    _update_cluster(session.client, settings)
    click.echo("Swarm updated.")


def _update_cluster(client: Client, settings: dict[str, int | None]) -> None:
    fields = {
        "cert_expiry": "certificate_expiry_ns",
        "dispatcher_heartbeat": "heartbeat_period_ns",
        "max_snapshots": "max_snapshots",
        "snapshot_interval": "snapshot_interval",
        "task_history_limit": "task_history_limit",
    }
    attempt = 0
    while True:
        answer = client.ask(lambda stubs: stubs.control.GetCluster, pb.GetClusterRequest())
        cluster = answer.cluster.cluster
        request = pb.UpdateClusterRequest(
            request_id=new_request_id(), version=cluster.meta.version, spec=cluster.spec
        )
        for name, field in fields.items():
            if settings[name] is not None:
                setattr(request.spec, field, settings[name])
        try:
            client.ask(lambda stubs: stubs.control.UpdateCluster, request)
            return
        except OutdatedError:
            attempt += 1
            if attempt >= _ATTEMPTS:
                raise
