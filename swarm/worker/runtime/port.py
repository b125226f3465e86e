"""The port between the agent and whatever runs its tasks.

One task is one container and is started once; all methods are keyed by the task's id. A driver
keeps what it needs to find its containers again (names, labels, files of its own), so an agent that
was killed makes a new driver with the same identity and goes on: `list`, then `start` and `wait` on
what it found. Every method may be called again after a crash in its middle.

Times are unix nanoseconds (`*_ns`) or seconds of patience (`*_s`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, NamedTuple, Protocol


class RuntimeRefused(Exception):  # noqa: N818 - it is the verdict REJECTED
    """This task can never run on this node as it is: the task is REJECTED.

    `field` names what is at fault ("image", "mounts", "limits.memory", ...).
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class RuntimeFailed(Exception):  # noqa: N818 - it is the verdict FAILED
    """The attempt failed, another may not: the task is FAILED.

    `exit_code` is that of a start that failed: as a shell's, 127 where there is no such command.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Port(NamedTuple):
    """A port that the service publishes, as seen inside the container."""

    target: int
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"


class Endpoint(NamedTuple):
    """Where a target port of a task is reachable from this node."""

    host: str
    port: int


# In a host entry: the address at which a container reaches its node.
HOST_GATEWAY = "host-gateway"


@dataclass(frozen=True, slots=True)
class Mount:
    """`--mount`: a bind's source must exist; an empty volume source is an anonymous volume."""

    kind: Literal["bind", "volume", "tmpfs"]
    target: str
    source: str = ""
    read_only: bool = False
    propagation: str = ""
    no_copy: bool = False
    volume_driver: str = ""
    volume_options: Mapping[str, str] = field(default_factory=dict[str, str])
    volume_labels: Mapping[str, str] = field(default_factory=dict[str, str])
    tmpfs_size_bytes: int = 0
    tmpfs_mode: int = 0o1777


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A secret or a config: laid at `target` (absolute), kept in memory only, never on disk."""

    target: str
    data: bytes = field(repr=False)
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """0 means no limit."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    memory_reservation_bytes: int = 0
    pids: int = 0
    # Beyond the memory limit; -1 for no limit, None for the runtime's own.
    swap_bytes: int | None = None
    swappiness: int | None = None

    @property
    def memory_and_swap_bytes(self) -> int | None:
        """As engines and OCI runtimes take it: the memory is part of it."""
        if self.swap_bytes is None or self.swap_bytes < 0:
            return self.swap_bytes
        return self.memory_bytes + self.swap_bytes


@dataclass(frozen=True, slots=True)
class Ulimit:
    """`--ulimit`: names as in Docker ("nofile", "nproc", ...), -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """`test` as in Docker: ("CMD", ...), ("CMD-SHELL", text), ("NONE",), or () for the image's own.

    A zero takes the image's value, or else Docker's default: 30 s, 30 s, 3, 0 s, 5 s.
    """

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    retries: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0


@dataclass(frozen=True, slots=True)
class TaskRun:
    """All that a driver needs to know of one task. Templates are expanded already.

    `command` overrides the image's ENTRYPOINT and `args` its CMD, by Docker's rules. `name` is
    Docker Swarm's container name, `<service>.<slot or node id>.<task id>`. `labels` are the
    container's labels with Docker Swarm's own among them (`task_labels`).
    """

    task_id: str
    name: str
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    working_dir: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str = ""
    tty: bool = False
    open_stdin: bool = False
    init: bool = False
    read_only: bool = False
    stop_signal: str = ""
    stop_grace_period_ns: int = 10_000_000_000
    mounts: tuple[Mount, ...] = ()
    files: tuple[TaskFile, ...] = ()
    limits: Limits = Limits()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict[str, str])
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    oom_score_adj: int = 0
    healthcheck: Healthcheck | None = None
    hosts: tuple[str, ...] = ()  # "name:address"
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    log_driver: str = ""
    log_options: Mapping[str, str] = field(default_factory=dict[str, str])
    registry_auth: str = field(default="", repr=False)  # Docker's X-Registry-Auth value


@dataclass(frozen=True, slots=True)
class Started:
    """A task that runs, or has run: then `pid` is 0.

    `address` is the container's own IP address, "" where it has none (process). `netns` is a path
    to its network namespace, "" where it shares the node's.
    """

    container_id: str
    pid: int
    started_at_ns: int
    address: str = ""
    endpoints: Mapping[Port, Endpoint] = field(default_factory=dict[Port, Endpoint])
    netns: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a task ended. `exit_code` is 128 + n after signal n, and None where nobody saw the end.

    `message` is "" or one line: why it never started, or why its end is unknown.
    """

    exit_code: int | None
    finished_at_ns: int
    oom: bool = False
    message: str = ""


class ContainerState(Enum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Found:
    """A container of this cluster and node that `list` found."""

    task_id: str
    name: str
    state: ContainerState
    labels: Mapping[str, str]
    exit: Exit | None = None  # when EXITED


@dataclass(frozen=True, slots=True)
class LogLine:
    """`data` holds its newline if it had one; a line above 16 KiB comes in pieces."""

    stream: Literal["stdout", "stderr"]
    timestamp_ns: int
    data: bytes


class HealthStatus(Enum):
    NONE = "none"  # no health check
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Health:
    status: HealthStatus
    failing_streak: int = 0
    output: str = ""  # of the last check, shortened


@dataclass(frozen=True, slots=True)
class Stats:
    """A measurement of a running task; 0 where the driver cannot tell."""

    cpu_total_ns: int
    memory_bytes: int
    memory_limit_bytes: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """`works` means that a container was just run and removed; else `reason` says why not."""

    works: bool
    reason: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    reference: str  # name:tag, or "" for an untagged one
    digest: str  # sha256:... of the manifest, or the engine's image id where it has no manifest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ExecOptions:
    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    tty: bool = False
    open_stdin: bool = False


class ExecProcess(Protocol):
    """A command running inside a task."""

    def output(self) -> AsyncIterator[LogLine]:
        """What it writes, raw pieces as they come; ends when the command ends."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    async def resize(self, rows: int, columns: int) -> None: ...

    async def wait(self) -> int:
        """The exit code; call it after `output` has ended."""
        ...

    async def close(self) -> None:
        """Lets go of it; kills the command where it still runs and the driver can."""
        ...


class Images(Protocol):
    """The images on this node."""

    async def has(self, reference: str) -> bool: ...

    async def list(self) -> list[Image]: ...

    async def load(self, archive: Path) -> list[str]:
        """Takes in a `docker save` or OCI archive; returns the references that it held.

        Raises RuntimeRefused when the file is no such archive or is damaged.
        """
        ...

    async def save(self, reference: str, archive: Path) -> None:
        """Writes an archive that `load` takes; RuntimeRefused when there is no such image."""
        ...

    async def remove(self, reference: str) -> None: ...


class Runtime(Protocol):
    """What the agent uses. Methods raise RuntimeRefused or RuntimeFailed, nothing else."""

    @property
    def name(self) -> str:
        """ "docker", "oci", "process" or "fake"."""
        ...

    @property
    def images(self) -> Images: ...

    async def probe(self) -> Probe:
        """Runs and removes a container; never raises."""
        ...

    async def bridge(self) -> str:
        """The interface by which tasks' packets come to this node; "" where there is none."""
        ...

    async def prepare(self, run: TaskRun) -> None:
        """Makes the image be there and the container be created. Again: adopts what exists.

        Raises RuntimeRefused when a field cannot be honoured, or there is no such image.
        """
        ...

    async def start(self, task_id: str) -> Started:
        """Starts a prepared task; one that was started already is adopted, and told about.

        Raises RuntimeFailed when its process cannot be started (the container is then exited).
        """
        ...

    async def wait(self, task_id: str) -> Exit:
        """Returns when the task has ended; at once when it did so meanwhile."""
        ...

    async def stop(self, task_id: str, signal: str = "", grace_s: float = 10.0) -> None:
        """Sends `signal` ("" is the task's or image's, or SIGTERM), after `grace_s` SIGKILL.

        Returns when it has ended. A task that is unknown or has ended is no error.
        """
        ...

    async def kill(self, task_id: str) -> None:
        """`stop` without grace."""
        ...

    async def remove(self, task_id: str) -> None:
        """Leaves nothing of the task: process, cgroup, mounts, network, files, log. Repeatable."""
        ...

    def logs(
        self,
        task_id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ns: int = 0,
        until_ns: int = 0,
        streams: Sequence[str] = ("stdout", "stderr"),
    ) -> AsyncIterator[LogLine]:
        """The output in order; with `follow` it goes on until the task has ended.

        `tail` counts lines from the end. It works on ended tasks until they are removed.
        """
        ...

    async def list(self) -> list[Found]:
        """The containers of this cluster and node, no others."""
        ...

    def health(self, task_id: str) -> AsyncIterator[Health]:
        """The health now, then each change of status, until the task ends.

        Without a health check: NONE, and the end. The check runs while this is iterated, where the
        driver runs it (process, oci).
        """
        ...

    async def stats(self, task_id: str) -> Stats: ...

    async def exec(self, task_id: str, options: ExecOptions) -> ExecProcess: ...

    async def close(self) -> None:
        """Lets go of sockets and helpers; containers stay."""
        ...


CLUSTER_LABEL = "swarm.cluster.id"
NODE_LABEL = "com.docker.swarm.node.id"
TASK_LABEL = "com.docker.swarm.task.id"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose containers a driver looks after."""

    cluster_id: str
    node_id: str


def task_labels(
    run_labels: Mapping[str, str],
    *,
    node_id: str,
    service_id: str,
    service_name: str,
    task_id: str,
    task_name: str,
) -> dict[str, str]:
    """The container labels of a task as Docker Swarm sets them (moby executor/container)."""
    return {
        **run_labels,
        "com.docker.swarm.task": "",
        TASK_LABEL: task_id,
        "com.docker.swarm.task.name": task_name,
        NODE_LABEL: node_id,
        "com.docker.swarm.service.id": service_id,
        "com.docker.swarm.service.name": service_name,
    }
