"""What happens to an agent: everything `AgentCore.handle` takes.

Times are unix nanoseconds (`*_ns`). A completion names what it completes by the task's id, by a
ticket (saving) or by a session number; one that comes late, for something given up meanwhile, is
ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from swarm.api.v1.dispatcher_pb2 import ManagerMessage
from swarm.api.v1.node_pb2 import NodeDescription, NodeRole
from swarm.api.v1.task_pb2 import PortEndpoint
from swarm.worker.runtime.port import Exit, Found, Health, Started


class Row(NamedTuple):
    """A row of the agent's database: `value` is a serialised message."""

    kind: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """The first event: what the database holds, and what the node knows of itself.

    `managers` are addresses known from elsewhere (the configuration), tried beside the stored ones.
    `address` is the host that other nodes reach this one at.
    """

    rows: Sequence[Row]
    managers: Sequence[str]
    certificate_role: NodeRole.ValueType
    root_certificate_pem: bytes
    description: NodeDescription
    address: str


@dataclass(frozen=True, slots=True)
class Wake:
    """The time that `next_wakeup` asked for has come."""


@dataclass(frozen=True, slots=True)
class Saved:
    ticket: int


@dataclass(frozen=True, slots=True)
class SaveFailed:
    ticket: int
    error: str


@dataclass(frozen=True, slots=True)
class RuntimeListed:
    """The containers of this cluster and node that are there."""

    found: Sequence[Found]


@dataclass(frozen=True, slots=True)
class RuntimeListFailed:
    error: str


@dataclass(frozen=True, slots=True)
class Received:
    session: int
    message: ManagerMessage


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The stream broke, ended, or could not be opened. `refused`: the manager does not know us."""

    session: int
    reason: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class ManagersGiven:
    addresses: Sequence[str]


@dataclass(frozen=True, slots=True)
class CertificateRenewed:
    """The certificate on disk changed: the next session uses it."""

    role: NodeRole.ValueType
    root_certificate_pem: bytes


@dataclass(frozen=True, slots=True)
class Described:
    """The node's description changed."""

    description: NodeDescription


@dataclass(frozen=True, slots=True)
class StopAll:
    """The node leaves the cluster: stop and remove every task, then say goodbye."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The agent is about to end for longer: the managers need not wait until it is overdue."""


@dataclass(frozen=True, slots=True)
class Prepared:
    task_id: str


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    """`refused`: the task can never run here, so it is rejected rather than failed."""

    task_id: str
    error: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class TaskStarted:
    task_id: str
    started: Started


@dataclass(frozen=True, slots=True)
class StartFailed:
    task_id: str
    error: str
    refused: bool = False
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Exited:
    task_id: str
    exit: Exit


@dataclass(frozen=True, slots=True)
class WaitFailed:
    task_id: str
    error: str


@dataclass(frozen=True, slots=True)
class HealthReported:
    task_id: str
    health: Health


@dataclass(frozen=True, slots=True)
class HealthFailed:
    """The health could not be watched any longer; the task's health is unknown."""

    task_id: str
    error: str


@dataclass(frozen=True, slots=True)
class Stopped:
    task_id: str


@dataclass(frozen=True, slots=True)
class StopFailed:
    task_id: str
    error: str


@dataclass(frozen=True, slots=True)
class Removed:
    task_id: str


@dataclass(frozen=True, slots=True)
class RemoveFailed:
    task_id: str
    error: str


@dataclass(frozen=True, slots=True)
class PortsOpened:
    """Every port of the task is listened on; `endpoints` is where."""

    task_id: str
    endpoints: Sequence[PortEndpoint]


@dataclass(frozen=True, slots=True)
class PortsFailed:
    task_id: str
    error: str


@dataclass(frozen=True, slots=True)
class PortsDrained:
    """The task's listeners are closed and its connections quiet, or the time for that is over."""

    task_id: str


@dataclass(frozen=True, slots=True)
class LogsEnded:
    """All lines of one task of a log subscription are sent, or `error` says why not."""

    subscription_id: str
    task_id: str
    error: str = ""


TaskEvent = (
    Prepared
    | PrepareFailed
    | TaskStarted
    | StartFailed
    | Exited
    | WaitFailed
    | HealthReported
    | HealthFailed
    | Stopped
    | StopFailed
    | Removed
    | RemoveFailed
    | PortsOpened
    | PortsFailed
    | PortsDrained
)

Event = (
    Loaded
    | Wake
    | Saved
    | SaveFailed
    | RuntimeListed
    | RuntimeListFailed
    | Received
    | SessionClosed
    | ManagersGiven
    | CertificateRenewed
    | Described
    | StopAll
    | Goodbye
    | LogsEnded
    | TaskEvent
)
