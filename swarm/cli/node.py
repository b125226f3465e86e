"""`swarmctl node`: the machines of the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER, NodeRole, NodeSpec
from swarm.cli.client import Client, NotFoundError, new_request_id
from swarm.cli.command import DockerGroup
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
from swarm.cli.names import has_label, natural
from swarm.cli.node_update import change_node, get_node, update
from swarm.cli.output import print_inspect
from swarm.cli.pretty import node_text
from swarm.cli.session import Session
from swarm.cli.tables import Column, print_list
from swarm.cli.tasklist import FILTERS as TASK_FILTERS
from swarm.cli.tasklist import print_tasks
from swarm.dockerapi.node import node_to_json
from swarm.dockerapi.tls import tls_info_to_json
from swarm.dockerapi.words import AVAILABILITY, NODE_ROLE, NODE_STATE, REACHABILITY

_ATTEMPTS = 10
_FILTERS = ("id", "label", "membership", "name", "node.label", "role")
_TABLE = (
    "table {{.ID}} {{if .Self}}*{{else}} {{end}}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}"
    "\t{{.ManagerStatus}}\t{{.EngineVersion}}"
)
_COLUMNS = (
    Column("ID", "ID"),
    Column("Self", ""),
    Column("Hostname", "HOSTNAME"),
    Column("Status", "STATUS"),
    Column("Availability", "AVAILABILITY"),
    Column("ManagerStatus", "MANAGER STATUS"),
    Column("EngineVersion", "ENGINE VERSION"),
    Column("TLSStatus", "TLS STATUS"),
)


@click.group(cls=DockerGroup, name="node", help="Manage Swarm nodes")
def node() -> None:
    pass


node.add_command(update)


@node.command("ls", aliases=("list",), help="List nodes in the swarm")
@filter_option()
@format_option()
@quiet_option()
@click.pass_obj
def ls(session: Session, filter: tuple[str, ...], format: str | None, quiet: bool) -> None:  # noqa: A002
    filters = parse_filters(filter, _FILTERS)
    client = session.client
    nodes = client.ask(lambda stubs: stubs.control.ListNodes, pb.ListNodesRequest()).nodes
    own_id = get_node(client, "self").node.id
    chosen = [view for view in nodes if _matches(view, filters)]
    chosen.sort(key=lambda view: (natural(view.node.description.hostname), view.node.id))
    rows = [_row(view, own_id) for view in chosen]
    if not quiet and format in (None, "table"):
        format = _TABLE  # noqa: A001
    print_list(rows, _COLUMNS, format=format, quiet=quiet)


def _row(view: pb.NodeView, own_id: str) -> dict[str, object]:
    found = view.node
    return {
        "ID": found.id,
        "Self": found.id == own_id,
        "Hostname": found.description.hostname,
        "Status": NODE_STATE.word(found.status.state).capitalize(),
        "Availability": AVAILABILITY.word(found.spec.availability).capitalize(),
        "ManagerStatus": _manager_status(view),
        "EngineVersion": found.description.engine.engine_version,
        "TLSStatus": "Ready",
    }


def _manager_status(view: pb.NodeView) -> str:
    if not view.HasField("manager"):
        return ""
    if view.manager.leader:
        return "Leader"
    if view.manager.learner:
        return "Joining"
    return REACHABILITY.word(view.manager.reachability).capitalize()


def _matches(view: pb.NodeView, filters: Mapping[str, Sequence[str]]) -> bool:
    found = view.node
    for key, value in (("id", found.id), ("name", found.description.hostname)):
        wanted = filters.get(key, ())
        if wanted and not value.startswith(tuple(wanted)):
            return False
    roles = filters.get("role", ())
    if roles and NODE_ROLE.word(found.role) not in roles:
        return False
    memberships = filters.get("membership", ())
    if memberships and "accepted" not in memberships:
        return False
    labels = found.spec.annotations.labels
    engine = found.description.engine.labels
    return all(has_label(labels, text) for text in filters.get("node.label", ())) and all(
        has_label(engine, text) for text in filters.get("label", ())
    )


@node.command(
    "inspect",
    usage="[OPTIONS] self|NODE [NODE...]",
    help="Display detailed information on one or more nodes",
)
@inspect_format_option()
@docker_bool_option("--pretty", help="Print the information in a human friendly format")
@click.argument("nodes", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, nodes: tuple[str, ...], format: str | None, pretty: bool) -> None:  # noqa: A002
    if pretty and format:
        raise CliError("--format is incompatible with human friendly format")
    found, errors = _find(session.client, nodes)
    tls_info = tls_info_to_json(_root(session.client)) if found else {}
    objects = [node_to_json(view, tls_info) for view in found]
    if not pretty:
        print_inspect(objects, errors, format=format)
        return
    click.echo("\n".join(node_text(item) for item in objects), nl=False)
    if errors:
        raise CliError("\n".join(errors))


def _root(client: Client) -> bytes:
    answer = client.ask(lambda stubs: stubs.control.GetCluster, pb.GetClusterRequest())
    return answer.cluster.cluster.root_certificate_pem


@node.command(
    "ps",
    usage="[OPTIONS] [NODE...]",
    help="List tasks running on one or more nodes, defaults to current node",
)
@filter_option()
@format_option()
@docker_bool_option("--no-resolve", help="Do not map IDs to Names")
@no_trunc_option()
@quiet_option("Only display task IDs")
@click.argument("nodes", nargs=-1)
@click.pass_obj
def ps(
    session: Session,
    nodes: tuple[str, ...],
    filter: tuple[str, ...],  # noqa: A002 - the flag's name
    format: str | None,  # noqa: A002
    no_resolve: bool,
    no_trunc: bool,
    quiet: bool,
) -> None:
    filters = parse_filters(filter, TASK_FILTERS)
    client = session.client
    found, errors = _find(client, nodes or ("self",))
    if found:
        request = pb.ListTasksRequest(node_ids=[view.node.id for view in found])
        tasks = client.ask(lambda stubs: stubs.control.ListTasks, request).tasks
        print_tasks(
            tasks,
            found,
            filters=filters,
            format=format,
            quiet=quiet,
            no_trunc=no_trunc,
            no_resolve=no_resolve,
        )
    if errors:
        raise CliError("\n".join(errors))


@node.command("promote", help="Promote one or more nodes to manager in the swarm")
@click.argument("nodes", metavar="NODE [NODE...]", nargs=-1, required=True)
@click.pass_obj
def promote(session: Session, nodes: tuple[str, ...]) -> None:
    _set_roles(
        session.client, nodes, NODE_ROLE_MANAGER, "is already a manager", "promoted to a manager in"
    )


@node.command("demote", help="Demote one or more nodes from manager in the swarm")
@click.argument("nodes", metavar="NODE [NODE...]", nargs=-1, required=True)
@click.pass_obj
def demote(session: Session, nodes: tuple[str, ...]) -> None:
    _set_roles(session.client, nodes, NODE_ROLE_WORKER, "is already a worker", "demoted in")


def _set_roles(
    client: Client,
    references: Sequence[str],
    role: NodeRole.ValueType,
    already: str,
    done: str,
) -> None:
    def change(spec: NodeSpec) -> NodeSpec:
        new = NodeSpec()
        new.CopyFrom(spec)
        new.role = role
        return new

    errors: list[str] = []
    for reference in references:
        try:
            if get_node(client, reference).node.spec.role == role:
                click.echo(f"Node {reference} {already}.")
                continue
            change_node(client, reference, change)
        except CliError as error:
            errors.append(error.message)
            continue
        manager = "Manager " if role == NODE_ROLE_WORKER else "Node "
        click.echo(f"{manager}{reference} {done} the swarm.")
    if errors:
        raise CliError("\n".join(errors))


@node.command(
    "rm",
    usage="[OPTIONS] NODE [NODE...]",
    aliases=("remove",),
    help="Remove one or more nodes from the swarm",
)
@docker_bool_option("--force", "-f", help="Force remove a node from the swarm")
@click.argument("nodes", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, nodes: tuple[str, ...], force: bool) -> None:
    errors: list[str] = []
    for reference in nodes:
        try:
            _remove(session.client, reference, force)
        except CliError as error:
            errors.append(error.message)
            continue
        click.echo(reference)
    if errors:
        raise CliError("\n".join(errors))


def _remove(client: Client, reference: str, force: bool) -> None:
    if reference == "self":
        reference = get_node(client, reference).node.id
    request = pb.RemoveNodeRequest(request_id=new_request_id(), reference=reference, force=force)
    client.ask(lambda stubs: stubs.control.RemoveNode, request)


def _find(client: Client, references: Sequence[str]) -> tuple[list[pb.NodeView], list[str]]:
    """Each node once, and a line for each that is not there."""
    found: dict[str, pb.NodeView] = {}
    errors: list[str] = []
    for reference in references:
        try:
            view = get_node(client, reference)
        except NotFoundError as error:
            errors.append(error.message)
            continue
        found.setdefault(view.node.id, view)
    return list(found.values()), errors
