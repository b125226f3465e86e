"""What is known of a local cluster: one JSON file in its folder, and a lock beside it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from swarm.disk import write_durably
from swarm.local.errors import LocalError

MANAGER, WORKER = "manager", "worker"
FILE, LOCK = "cluster.json", "lock"

_LOCK_TIMEOUT_S = 120.0
_LOCK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class LocalNode:
    """`name` is its hostname. `group_id`: its processes' own group id, by which the packet filter
    tells who sends; 0 where there is none."""

    name: str
    role: str
    host: str
    port: int
    state_dir: Path
    socket: Path
    group_id: int = 0

    @property
    def listen_address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        return self.state_dir / "swarmd.log"

    @property
    def runtime_dir(self) -> Path:
        """RuntimeConfig.state_dir of the node's agent."""
        return self.state_dir / "worker" / "runtime"


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """`complete` is false while `up` is at work, and after one that was killed. `block` is empty
    where the nodes share an address. `sockets` is the folder of the sockets where that is not
    the nodes' own (its name would be too long for a socket's). `docker_host` is $DOCKER_HOST of
    `up`: later verbs mean the same engine."""

    folder: Path
    runtime: str
    block: str
    nodes: tuple[LocalNode, ...]
    complete: bool = False
    sockets: str = ""
    docker_host: str = ""

    def node(self, name: str) -> LocalNode:
        """LocalError for a name that is none of its nodes'."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise LocalError(f"no such node: {name}: this cluster has {names}")

    @property
    def managers(self) -> list[LocalNode]:
        return [node for node in self.nodes if node.role == MANAGER]

    @property
    def hosts(self) -> list[str]:
        """All managers' sockets, as swarmctl takes them."""
        return [f"unix://{node.socket}" for node in self.managers]


def load(folder: Path) -> LocalCluster:
    """LocalError where there is none."""
    try:
        content: dict[str, Any] = json.loads((folder / FILE).read_text())
        nodes = tuple(_node(values) for values in content.pop("nodes"))
        return LocalCluster(folder=folder, nodes=nodes, **content)
    except (FileNotFoundError, NotADirectoryError):
        raise LocalError(
            f"there is no local cluster in {folder}: `swarmctl local up --dir {folder}` makes one"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise LocalError(f"{folder / FILE} can't be read: {error!r}") from None


def exists(folder: Path) -> bool:
    return (folder / FILE).exists()


def save(cluster: LocalCluster) -> None:
    content = asdict(cluster)
    del content["folder"]  # it is where the file is
    text = json.dumps(content, indent=2, default=str) + "\n"
    write_durably(cluster.folder / FILE, text.encode(), mode=0o600)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """One verb at a time changes a cluster. The folder must be there. LocalError."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while (handle := _try_lock(folder)) is None:
        if time.monotonic() > deadline:
            raise LocalError(f"another swarmctl is still at work on the cluster in {folder}")
        time.sleep(_LOCK_POLL_S)
    with handle:
        yield


def _try_lock(folder: Path) -> IO[str] | None:
    try:
        handle = (folder / LOCK).open("a")
    except FileNotFoundError:
        raise LocalError(f"there is no local cluster in {folder}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A `down` that held it may have removed the file: then this lock is nobody's any more.
        if os.fstat(handle.fileno()).st_ino == (folder / LOCK).stat().st_ino:
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    handle.close()
    return None


def _node(values: dict[str, Any]) -> LocalNode:
    state_dir, socket = Path(values.pop("state_dir")), Path(values.pop("socket"))
    return LocalNode(state_dir=state_dir, socket=socket, **values)
