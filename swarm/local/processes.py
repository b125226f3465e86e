"""The processes of a local cluster's nodes: a daemon, and its agent below it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarm.local.errors import LocalError
from swarm.local.record import LocalCluster, LocalNode
from swarm.worker.runtime.processes import (
    ProcessId,
    descendants,
    is_alive,
    open_pidfd,
    send_signal,
)

_GONE_TIMEOUT_S = 10.0
_PID_FILE = "swarmd.pid"
_LAST_LINES = 3
_FATAL = "Fatal Python error"


@dataclass(frozen=True, slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    log_start: int  # bytes that earlier lives have written


# Daemons that this process has started, by their nodes' folders: how a process ended is told to
# its parent only.
_children: dict[Path, _Child] = {}


def start(node: LocalNode, cluster: LocalCluster) -> None:
    """Start the node's daemon; it outlives this process. LocalError where it runs already."""
    if daemon(node) is not None:
        raise LocalError(f"{node.name} runs already")
    node.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    node.socket.unlink(missing_ok=True)  # of a daemon that was killed: it would answer nobody
    with node.log.open("ab") as log:
        log_start = log.tell()
        process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "swarm.node.main"),
                *("--state-dir", str(node.state_dir)),
                *("--socket", str(node.socket)),
                *("--listen-addr", node.listen_address),
                *("--advertise-addr", node.host),
                *("--hostname", node.name),
                *("--runtime", cluster.runtime),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=node.state_dir,
            env=_environment(cluster),
            start_new_session=True,
            group=node.group_id or None,
        )
    _children[node.state_dir] = _Child(process, log_start)
    _remember(node, process.pid)


def _environment(cluster: LocalCluster) -> dict[str, str]:
    """The cluster's settings are its own: none comes from the caller's SWARMD_*."""
    values = {name: value for name, value in os.environ.items() if not name.startswith("SWARMD_")}
    values.pop("DOCKER_HOST", None)
    return {**values, "DOCKER_HOST": cluster.docker_host} if cluster.docker_host else values


def daemon(node: LocalNode) -> ProcessId | None:
    """The node's daemon, if it runs."""
    with suppress(OSError, ValueError, TypeError):
        found = ProcessId(*json.loads((node.state_dir / _PID_FILE).read_text()))
        if is_alive(found):
            return found
    return None


def ending(node: LocalNode) -> str:
    """How the daemon that ran last ended, as far as it can be known, and its last words."""
    child = _children.get(node.state_dir)
    code = child.process.poll() if child else None
    if code is None:
        how = "ended"
    elif code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    else:
        how = f"ended with exit code {code}"
    return f"its daemon {how}: {_last_words(node, child.log_start if child else 0)}"


def _last_words(node: LocalNode, start: int) -> str:
    try:
        lines = node.log.read_bytes()[start:].decode(errors="replace").splitlines()
    except OSError:
        return "it left no log"
    fatal = [number for number, line in enumerate(lines) if line.startswith(_FATAL)]
    if fatal:  # what follows is where each thread was
        lines = lines[: fatal[-1] + 1]
    return " / ".join(line for line in lines[-_LAST_LINES:] if line) or "it said nothing"


def is_paused(process: ProcessId) -> bool:
    with suppress(OSError):
        return _stat(process.pid)[0] == "T"
    return False


def family(node: LocalNode) -> set[ProcessId]:
    """The daemon and its agent; their tasks are children of neither."""
    root = daemon(node)
    if root is None:
        return set()
    agents = {pid for pid in descendants({root.pid}, set()) if _is_agent(pid.pid)}
    return {root, *agents}


def signal_all(processes: Iterable[ProcessId], number: signal.Signals) -> None:
    for process in processes:
        send_signal(process, number)


def kill_all(processes: Iterable[ProcessId]) -> None:
    """SIGKILL them, and return when they are gone. LocalError when that takes too long."""
    descriptors = {process: open_pidfd(process) for process in processes}
    signal_all(descriptors, signal.SIGKILL)
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    for process, descriptor in descriptors.items():
        if descriptor is None:
            continue
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        gone = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(descriptor)
        if not gone:
            raise LocalError(f"process {process.pid} does not end, even when killed")


def strays(folder: Path) -> set[ProcessId]:
    """Daemons below this folder that nobody wrote down: of an `up` that was killed right then."""
    mark = os.fsencode(folder) + b"/"
    found: set[int] = set()
    for entry in os.scandir("/proc"):
        with suppress(OSError):
            if entry.name.isdigit() and _state_dir_of(int(entry.name)).startswith(mark):
                found.add(int(entry.name))
    return descendants(found, set()) if found else set()


def _state_dir_of(pid: int) -> bytes:
    words = _command(pid)
    if b"swarm.node.main" not in words or b"--state-dir" not in words[:-1]:
        return b""
    return words[words.index(b"--state-dir") + 1]


def _is_agent(pid: int) -> bool:
    with suppress(OSError):
        return b"swarm.worker.main" in _command(pid)
    return False


def _command(pid: int) -> Sequence[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _remember(node: LocalNode, pid: int) -> None:
    path = node.state_dir / _PID_FILE
    path.write_text(json.dumps([pid, int(_stat(pid)[19])]))


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state (field 3) on."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
