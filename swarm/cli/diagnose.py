"""`swarmctl diagnose`: what a bug report needs, in one file, and nothing that is secret.

Of services only named fields are taken, none of which holds an environment, a command, a label or a
file's content; text that others wrote goes through `redaction` besides. What can't be had is said
in errors.txt: it is often part of the answer.
"""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from swarm.cli.command import DockerCommand
from swarm.cli.errors import CliError
from swarm.cli.flags import STRING
from swarm.cli.redaction import redact
from swarm.cli.session import Session

_TIMEOUT_S = 5.0
_CHECK_TIMEOUT_S = 90
_LOG_LINES = 5000
_LOG_FILE = Path("/var/log/swarmd.log")
_CONFIG_FILE = Path("/etc/swarm/swarmd.toml")


@click.command(
    "diagnose",
    cls=DockerCommand,
    help="Write what a bug report needs to a tar.gz, with no secret in it",
)
@click.option("--output", "-o", type=STRING, help='Write to this file ("-" for STDOUT)')
@click.option("--log", type=STRING, help="swarmd's log (default the journal, or its file)")
@click.pass_obj
def diagnose(session: Session, output: str | None, log: str | None) -> None:
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"swarm-diagnose-{platform.node()}-{moment}"
    archive = _packed(name, _collected(session, log))
    if output == "-":
        if sys.stdout.isatty():
            raise CliError("refusing to write an archive to a terminal: use -o FILE")
        sys.stdout.buffer.write(archive)
        return
    path = Path(output or f"{name}.tar.gz")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(archive)
    click.echo(f"Wrote {path}: look at it before you give it away")


def _collected(session: Session, log: str | None) -> dict[str, str]:
    """Texts by file name."""
    parts: dict[str, Callable[[], str]] = {
        "versions.json": _versions,
        "node.json": lambda: _json(_node(session)),
        "nodes.json": lambda: _json(_nodes(session)),
        "services.json": lambda: _json(_services(session)),
        "tasks.json": lambda: _json(_tasks(session)),
        "swarmd.toml": lambda: redact(_config_file().read_text()),
        "swarmd.log": lambda: redact(_log(log)),
        "check.txt": _check,
    }
    texts: dict[str, str] = {}
    errors: list[str] = []
    for name, collect in parts.items():
        try:
            texts[name] = collect()
        except CliError as error:
            errors.append(f"{name}: {error.message}")
        except (OSError, subprocess.SubprocessError) as error:
            errors.append(f"{name}: {error}")
    texts["errors.txt"] = redact("\n".join(errors) + "\n" if errors else "")
    return texts


def _versions() -> str:
    from swarm.version import VERSION

    return _json(
        {
            "swarm": VERSION,
            "python": platform.python_version(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "distribution": _distribution(),
        }
    )


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _node(session: Session) -> dict[str, Any]:
    """This node, and Raft as it sees it."""
    from swarm.api.v1.daemon_pb2 import InfoRequest, LocalNodeState

    info = session.client.ask(lambda s: s.daemon.Info, InfoRequest(), deadline_s=_TIMEOUT_S)
    return {
        "id": info.node_id,
        "cluster": info.cluster_id,
        "hostname": info.hostname,
        "version": info.version,
        "state": LocalNodeState.Name(info.state),
        "error": redact(info.error),
        "address": info.node_address,
        "managers": list(info.manager_addresses),
        "raft": {"id": info.raft_id, "leader": info.leader_raft_id},
        "runtime": info.runtime,
        "runtimeReason": redact(info.runtime_reason),
    }


def _nodes(session: Session) -> list[dict[str, Any]]:
    from swarm.api.v1.control_pb2 import ListNodesRequest, Reachability
    from swarm.api.v1.node_pb2 import NodeAvailability, NodeRole, NodeState

    ask = session.client.ask
    answer = ask(lambda s: s.control.ListNodes, ListNodesRequest(), deadline_s=_TIMEOUT_S)
    found: list[dict[str, Any]] = []
    for view in answer.nodes:
        node, manager = view.node, view.manager
        shown: dict[str, Any] = {
            "id": node.id,
            "hostname": node.description.hostname,
            "role": NodeRole.Name(node.role),
            "availability": NodeAvailability.Name(node.spec.availability),
            "state": NodeState.Name(node.status.state),
            "message": redact(node.status.message),
            "address": node.status.address,
            "version": node.description.engine.engine_version,
            "runtime": node.description.engine.runtime,
            "nanoCpus": node.description.resources.nano_cpus,
            "memoryBytes": node.description.resources.memory_bytes,
        }
        if view.HasField("manager"):
            shown["manager"] = {
                "leader": manager.leader,
                "learner": manager.learner,
                "reachability": Reachability.Name(manager.reachability),
                "address": manager.address,
            }
        found.append(shown)
    return found


def _services(session: Session) -> list[dict[str, Any]]:
    from swarm.api.v1.control_pb2 import ListServicesRequest

    ask = session.client.ask
    answer = ask(lambda s: s.control.ListServices, ListServicesRequest(), deadline_s=_TIMEOUT_S)
    return [
        {
            "id": view.service.id,
            "name": view.spec.annotations.name,
            "version": view.service.meta.version,
            "mode": view.spec.WhichOneof("mode"),
            "image": redact(view.spec.task.container.image),
            "running": view.running_tasks,
            "desired": view.desired_tasks,
        }
        for view in answer.services
    ]


def _tasks(session: Session) -> list[dict[str, Any]]:
    from swarm.api.v1.control_pb2 import ListTasksRequest
    from swarm.api.v1.task_pb2 import TaskState

    ask = session.client.ask
    answer = ask(lambda s: s.control.ListTasks, ListTasksRequest(), deadline_s=_TIMEOUT_S)
    return [
        {
            "id": view.task.id,
            "service": view.task.service_id,
            "slot": view.task.slot,
            "node": view.task.node_id,
            "desired": TaskState.Name(view.task.desired_state),
            "state": TaskState.Name(view.task.status.state),
        }
        for view in answer.tasks
    ]


def _config_file() -> Path:
    return Path(os.environ.get("SWARMD_CONFIG") or _CONFIG_FILE)


def _log(path: str | None) -> str:
    """The last lines."""
    if path is None and not _LOG_FILE.exists():
        command = ["journalctl", "--unit=swarmd", f"--lines={_LOG_LINES}", "--no-pager"]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True
        ).stdout
    lines = Path(path or _LOG_FILE).read_text(errors="replace").splitlines(keepends=True)
    return "".join(lines[-_LOG_LINES:])


def _check() -> str:
    command = [sys.executable, "-m", "swarm.node.main", "check"]
    if _config_file().exists():
        command[3:3] = ["--config", str(_config_file())]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_CHECK_TIMEOUT_S, check=False
    )
    return redact(done.stdout + done.stderr)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _packed(folder: str, texts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in texts.items():
            content = text.encode()
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
