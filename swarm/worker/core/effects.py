"""What an agent wants done: everything `AgentCore.handle` returns, in the order of doing.

Each names the event that completes it. Nothing here is done twice for one task unless its
completion said that it failed, or the agent was restarted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.api.v1.dispatcher_pb2 import AgentMessage, IngressService
from swarm.api.v1.logs_pb2 import LogOptions
from swarm.api.v1.node_pb2 import NodeRole
from swarm.worker.core.events import Row
from swarm.worker.runtime.port import Endpoint, Port, TaskRun


@dataclass(frozen=True, slots=True)
class Save:
    """One durable transaction; one at a time. Saved or SaveFailed."""

    ticket: int
    puts: Sequence[Row]
    deletes: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ListRuntime:
    """RuntimeListed or RuntimeListFailed."""


@dataclass(frozen=True, slots=True)
class Connect:
    """A session with the manager at `address`; Received and SessionClosed follow."""

    session: int
    address: str


@dataclass(frozen=True, slots=True)
class Send:
    session: int
    message: AgentMessage


@dataclass(frozen=True, slots=True)
class Disconnect:
    session: int


@dataclass(frozen=True, slots=True)
class KeepImages:
    """Take what is to be kept, by digest; forget what the cluster has no more. Replaces what was
    said before."""

    keep: Sequence[str]
    forget: Sequence[str]


@dataclass(frozen=True, slots=True)
class Prepare:
    """Prepared or PrepareFailed."""

    run: TaskRun


@dataclass(frozen=True, slots=True)
class CancelPrepare:
    """Nobody needs it any more: the Prepare under way may end sooner, with either event."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Start:
    """TaskStarted or StartFailed. A task that runs already is adopted."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Exited or WaitFailed."""

    task_id: str


@dataclass(frozen=True, slots=True)
class WatchHealth:
    """HealthReported for the health now and for each change, until the task ends."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Stopped or StopFailed; the Wait under way tells how it ended."""

    task_id: str
    grace_s: float


@dataclass(frozen=True, slots=True)
class Remove:
    """Removed or RemoveFailed."""

    task_id: str


# Of a task that others reach by its service's name: whichever port they ask for.
ANY_PORT = Port(0, "tcp")


@dataclass(frozen=True, slots=True)
class TaskPort:
    """A port of a task to be listened on; `ANY_PORT` for all of them.

    `host_port` is None for a port that other nodes' proxies connect to (any free one will do,
    `preferred` if it is free), the published port in host mode (0: any).
    """

    port: Port
    endpoint: Endpoint
    host_port: int | None = None
    preferred: int = 0


@dataclass(frozen=True, slots=True)
class OpenPorts:
    """PortsOpened or PortsFailed."""

    task_id: str
    ports: Sequence[TaskPort]


@dataclass(frozen=True, slots=True)
class ClosePorts:
    """No new connections; PortsDrained once none is busy, or after `drain_s`.

    `cut`: the task has ended, so what is left after that is cut. Else it stays for the task to end.
    """

    task_id: str
    drain_s: float
    cut: bool


@dataclass(frozen=True, slots=True)
class UpdateIngress:
    """What is published in the cluster; `complete` replaces all that was known."""

    complete: bool
    services: Sequence[IngressService]


@dataclass(frozen=True, slots=True)
class ReadLogs:
    """Sends the task's lines as LogBatch messages on the session; LogsEnded."""

    session: int
    subscription_id: str
    task_id: str
    options: LogOptions


@dataclass(frozen=True, slots=True)
class StopLogs:
    subscription_id: str


@dataclass(frozen=True, slots=True)
class SessionUp:
    address: str


@dataclass(frozen=True, slots=True)
class SessionDown:
    reason: str
    refused: bool


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The node's role is no longer its certificate's: it is time to renew that."""

    role: NodeRole.ValueType


@dataclass(frozen=True, slots=True)
class RootChanged:
    """The cluster's root certificate is another one."""

    root_certificate_pem: bytes


@dataclass(frozen=True, slots=True)
class AllStopped:
    """StopAll is done: no task is left and the goodbye is sent."""


@dataclass(frozen=True, slots=True)
class Warn:
    """For the node's log."""

    message: str


TaskEffect = (
    Prepare | CancelPrepare | Start | Wait | WatchHealth | Stop | Remove | OpenPorts | ClosePorts
)

Effect = (
    Save
    | ListRuntime
    | Connect
    | Send
    | Disconnect
    | UpdateIngress
    | KeepImages
    | ReadLogs
    | StopLogs
    | SessionUp
    | SessionDown
    | RoleChanged
    | RootChanged
    | AllStopped
    | Warn
    | TaskEffect
)
