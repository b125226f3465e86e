"""`swarmctl info` and `swarmctl version`."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import click

from swarm.cli.command import DockerCommand
from swarm.cli.errors import CliError
from swarm.cli.flags import inspect_format_option
from swarm.cli.output import print_inspect
from swarm.cli.session import Session
from swarm.units import format_duration, human_duration

Json = Mapping[str, Any]

_TIMEOUT_S = 10.0
_API_VERSION = "1"


def program_version() -> str:
    return metadata.version("swarm")


@click.command("info", cls=DockerCommand, help="Display system-wide information")
@inspect_format_option()
@click.pass_obj
def info(session: Session, format: str | None) -> None:  # noqa: A002 - the flag's name
    shown = _information(session)
    if format == "json":
        from swarm.gotemplate import to_json

        click.echo(to_json(shown))
    elif format:
        print_inspect([shown], format=format)
    else:
        click.echo("\n".join(_information_lines(shown)))


def _information(session: Session) -> dict[str, Any]:
    from swarm.api.v1.daemon_pb2 import InfoRequest
    from swarm.dockerapi.cluster import info_to_json

    client = session.client
    own = client.ask(lambda stubs: stubs.daemon.Info, InfoRequest())
    swarm = info_to_json(own)
    if swarm["ControlAvailable"]:
        swarm = _with_cluster(session, own, swarm)
    return {
        "ID": own.node_id,
        "Name": own.hostname,
        "ServerVersion": own.version,
        "DefaultRuntime": own.runtime,
        "RuntimeReason": own.runtime_reason,
        "StateDir": own.state_dir,
        "OSType": platform.system().lower(),
        "Architecture": platform.machine(),
        "Pid": own.pid,
        "Swarm": swarm,
    }


def _with_cluster(session: Session, own: Any, swarm: dict[str, Any]) -> dict[str, Any]:
    """With what the managers know; without, and the reason as its error, if they don't answer."""
    from swarm.api.v1 import control_pb2 as pb
    from swarm.dockerapi.cluster import info_to_json
    from swarm.dockerapi.tls import tls_info_to_json

    client = session.client
    try:
        cluster = client.ask(
            lambda stubs: stubs.control.GetCluster, pb.GetClusterRequest(), deadline_s=_TIMEOUT_S
        ).cluster
        nodes = client.ask(
            lambda stubs: stubs.control.ListNodes, pb.ListNodesRequest(), deadline_s=_TIMEOUT_S
        ).nodes
    except CliError as error:
        return swarm | {"Error": swarm["Error"] or error.message}
    managers = {view.node.id: view.manager.address for view in nodes if view.HasField("manager")}
    tls_info = tls_info_to_json(cluster.cluster.root_certificate_pem)
    return info_to_json(own, cluster, managers, tls_info)


def _information_lines(shown: Json) -> list[str]:
    swarm = shown["Swarm"]
    lines = [
        "Client:",
        f" Version:    {program_version()}",
        "",
        "Server:",
        f" Server Version: {shown['ServerVersion']}",
        f" Swarm: {swarm['LocalNodeState']}",
        *_swarm_lines(swarm),
        f" Default Runtime: {shown['DefaultRuntime']}",
    ]
    if shown["RuntimeReason"]:
        lines.append(f"  Chosen Because: {shown['RuntimeReason']}")
    return [
        *lines,
        f" OSType: {shown['OSType']}",
        f" Architecture: {shown['Architecture']}",
        f" Name: {shown['Name']}",
        f" State Dir: {shown['StateDir']}",
    ]


def _swarm_lines(swarm: Json) -> list[str]:
    if swarm["LocalNodeState"] == "inactive":
        return []
    lines = [f"  NodeID: {swarm['NodeID']}"]
    if swarm["Error"]:
        lines.append(f"  Error: {swarm['Error']}")
    lines.append(f"  Is Manager: {str(swarm['ControlAvailable']).lower()}")
    cluster = swarm.get("Cluster")
    if cluster is not None:
        spec = cluster["Spec"]
        history = spec["Orchestration"]["TaskHistoryRetentionLimit"]
        lines += [
            f"  ClusterID: {cluster['ID']}",
            f"  Managers: {swarm['Managers']}",
            f"  Nodes: {swarm['Nodes']}",
            "  Orchestration:",
            f"   Task History Retention Limit: {history}",
            "  Raft:",
            f"   Snapshot Interval: {spec['Raft']['SnapshotInterval']}",
            f"   Number of Old Snapshots to Retain: {spec['Raft']['KeepOldSnapshots']}",
            "  Dispatcher:",
            f"   Heartbeat Period: {_period(spec['Dispatcher']['HeartbeatPeriod'])}",
            "  CA Configuration:",
            f"   Expiry Duration: {human_duration(spec['CAConfig']['NodeCertExpiry'])}",
            "  Autolock Managers: false",
        ]
    lines.append(f"  Node Address: {swarm['NodeAddr']}")
    peers: list[Json] = swarm["RemoteManagers"] or []
    if peers:
        lines += ["  Manager Addresses:", *sorted(f"   {peer['Addr']}" for peer in peers)]
    return lines


def _period(duration_ns: int) -> str:
    """A whole number of seconds in words, as Docker prints it; less than that exactly."""
    whole = duration_ns and duration_ns % 1_000_000_000 == 0
    return human_duration(duration_ns) if whole else format_duration(duration_ns)


@click.command("version", cls=DockerCommand, help="Show the Swarm version information")
@inspect_format_option()
@click.pass_obj
def version(session: Session, format: str | None) -> None:  # noqa: A002 - the flag's name
    client = {
        "Version": program_version(),
        "ApiVersion": _API_VERSION,
        "PythonVersion": platform.python_version(),
        "Os": platform.system().lower(),
        "Arch": platform.machine(),
    }
    server, failure = _server_version(session)
    if format:
        print_inspect([{"Client": client, "Server": server}], format=format)
    else:
        lines = ["Client:", *_version_lines(client)]
        if server:
            lines += ["", "Server:", *_version_lines(server)]
        click.echo("\n".join(lines))
    if failure is not None:
        sys.stdout.flush()
        raise failure


def _server_version(session: Session) -> tuple[dict[str, str] | None, CliError | None]:
    from swarm.api.v1.daemon_pb2 import InfoRequest

    try:
        own = session.client.ask(lambda stubs: stubs.daemon.Info, InfoRequest())
    except CliError as error:
        return None, error
    return {"Version": own.version, "ApiVersion": _API_VERSION, "Runtime": own.runtime}, None


def _version_lines(fields: Mapping[str, str]) -> list[str]:
    titles = {
        "Version": "Version",
        "ApiVersion": "API version",
        "PythonVersion": "Python version",
        "Runtime": "Runtime",
    }
    lines = [f" {titles[key] + ':':<18} {value}" for key, value in fields.items() if key in titles]
    if "Os" in fields:
        lines.append(f" {'OS/Arch:':<18} {fields['Os']}/{fields['Arch']}")
    return lines
