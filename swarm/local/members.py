"""Nodes of a local cluster as they see themselves and each other, asked over their sockets."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.daemon_pb2 import (
    LOCAL_NODE_STATE_INACTIVE,
    InfoRequest,
    InfoResponse,
    InitRequest,
    JoinRequest,
)
from swarm.api.v1.node_pb2 import NODE_STATE_READY
from swarm.cli.client import Client
from swarm.cli.endpoints import parse_endpoints
from swarm.cli.errors import CliError
from swarm.local import processes
from swarm.local.errors import LocalError
from swarm.local.record import MANAGER, LocalCluster, LocalNode

_POLL_S = 0.05
_INFO_TIMEOUT_S = 2.0
_JOIN_TIMEOUT_S = 60.0
_ENDING_S = 0.5


@contextmanager
def asking(cluster: LocalCluster) -> Generator[Client]:
    """A client of all the cluster's managers."""
    with Client(parse_endpoints(cluster.hosts)) as client:
        yield client


def info(node: LocalNode, timeout_s: float = _INFO_TIMEOUT_S) -> InfoResponse | None:
    """What the daemon says of itself; None where it does not answer."""
    if not node.socket.exists():
        return None
    with Client(parse_endpoints([f"unix://{node.socket}"])) as client:
        try:
            return client.ask_local(
                lambda stubs: stubs.daemon.Info, InfoRequest(), timeout_s=timeout_s
            )
        except CliError:
            return None


def wait_for_daemons(nodes: Sequence[LocalNode], timeout_s: float) -> None:
    """Until all their sockets answer. LocalError with the last words of one that ended."""
    deadline = time.monotonic() + timeout_s
    for node in nodes:
        while info(node) is None:
            _check_running(nodes)
            if time.monotonic() > deadline:
                raise LocalError(f"{node.name} does not answer within {timeout_s:g} s")
            time.sleep(_POLL_S)


def _check_running(nodes: Sequence[LocalNode]) -> None:
    """LocalError for one whose daemon has ended."""
    for node in nodes:
        if processes.daemon(node) is None:
            raise LocalError(f"{node.name}: {processes.ending(node)}")


def form(cluster: LocalCluster) -> None:
    """The first manager makes the cluster, the others join it. CliError as swarmctl says it;
    LocalError where the reason is a daemon that ended."""
    try:
        _form(cluster)
    except CliError:
        # A process that dies closes its connections a moment before it is gone.
        deadline = time.monotonic() + _ENDING_S
        while time.monotonic() < deadline:
            _check_running(cluster.nodes)
            time.sleep(_POLL_S)
        raise


def _form(cluster: LocalCluster) -> None:
    first, *others = cluster.nodes
    with Client(parse_endpoints([f"unix://{first.socket}"])) as client:
        made = client.ask_local(
            lambda stubs: stubs.daemon.Init, InitRequest(), timeout_s=_JOIN_TIMEOUT_S
        )
    tokens = {MANAGER: made.manager_token}

    def join(node: LocalNode) -> None:
        request = JoinRequest(
            token=tokens.get(node.role, made.worker_token),
            remote_addresses=[made.join_address],
        )
        with Client(parse_endpoints([f"unix://{node.socket}"])) as client:
            client.ask_local(lambda stubs: stubs.daemon.Join, request, timeout_s=_JOIN_TIMEOUT_S)

    with ThreadPoolExecutor(max(1, len(others))) as threads:
        list(threads.map(join, others))


def wait_ready(cluster: LocalCluster, names: Collection[str], timeout_s: float) -> None:
    """Until the managers have these nodes as Ready, and those of them that are managers as
    reachable voters. LocalError, at once where one of their daemons ended."""
    deadline = time.monotonic() + timeout_s
    problem = ""
    with asking(cluster) as client:
        while time.monotonic() < deadline:
            _check_running([cluster.node(name) for name in names])
            try:
                nodes = client.ask(
                    lambda stubs: stubs.control.ListNodes, pb.ListNodesRequest(), deadline_s=5.0
                ).nodes
            except CliError as error:
                problem = str(error.message)
            else:
                problem = _unready(cluster, names, nodes)
                if not problem:
                    return
            time.sleep(_POLL_S)
    raise LocalError(f"not ready within {timeout_s:g} s: {problem}")


def leader(cluster: LocalCluster, client: Client) -> LocalNode | None:
    """The node that leads, as far as the managers know. CliError without a quorum."""
    nodes = client.ask(lambda stubs: stubs.control.ListNodes, pb.ListNodesRequest()).nodes
    for view in nodes:
        if view.manager.leader:
            return cluster.node(view.node.description.hostname)
    return None


def _unready(cluster: LocalCluster, names: Collection[str], nodes: Collection[pb.NodeView]) -> str:
    views = {view.node.description.hostname: view for view in nodes}
    for name in names:
        view = views.get(name)
        if view is None:
            return f"{name} has not joined"
        if view.node.status.state != NODE_STATE_READY:
            return f"{name}: {_why_down(cluster.node(name), view)}"
        if cluster.node(name).role == MANAGER and not _is_voter(view):
            return f"{name} is no reachable manager yet"
    return "" if any(view.manager.leader for view in nodes) else "no manager leads"


def _is_voter(view: pb.NodeView) -> bool:
    manager = view.manager
    return manager.reachability == pb.REACHABILITY_REACHABLE and not manager.learner


def _why_down(node: LocalNode, view: pb.NodeView) -> str:
    said = info(node)
    if said is not None and said.state == LOCAL_NODE_STATE_INACTIVE:
        return "it is in no swarm"
    problem = said.error if said is not None else "its daemon does not answer"
    return problem or view.node.status.message or "it has not reported yet"
