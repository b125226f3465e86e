"""What a task's life and the agent around it say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swarm.api.v1.task_pb2 import Task
from swarm.worker.core.events import TaskEvent
from swarm.worker.runtime.port import Found

GateName = Literal["prepare", "start", "remove"]

# What a life is told by the agent around it.


@dataclass(frozen=True, slots=True)
class Assigned:
    """The manager's newest word on the task."""

    task: Task


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The task is gone from the assignments: its container is to go as well."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What the runtime has of this task; None for nothing."""

    found: Found | None


@dataclass(frozen=True, slots=True)
class Entered:
    """Let in at the gate that it waited for."""


@dataclass(frozen=True, slots=True)
class TaskSaved:
    """The row that it waited for is durable."""


@dataclass(frozen=True, slots=True)
class Due:
    """The time it wanted to be woken at has come."""


LifeEvent = Assigned | Withdrawn | Compared | Entered | TaskSaved | Due | TaskEvent


# What a life wants of the agent around it.


@dataclass(frozen=True, slots=True)
class EnterGate:
    gate: GateName


@dataclass(frozen=True, slots=True)
class LeaveGate:
    gate: GateName


@dataclass(frozen=True, slots=True)
class SaveTask:
    """Its row is to be saved; `wait`: it wants TaskSaved then."""

    wait: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Its status is news for the managers."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing is left of it, here or in the runtime."""


Wish = EnterGate | LeaveGate | SaveTask | Report | Forget
