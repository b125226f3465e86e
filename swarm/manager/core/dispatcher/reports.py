"""Task statuses on their way from agents to the store: kept until the store has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from swarm.api.v1.dispatcher_pb2 import TaskStatusUpdate
from swarm.api.v1.task_pb2 import Task, TaskStatus
from swarm.manager.core.store import View


@dataclass(slots=True)
class Reported:
    """What became of a report."""

    # What the store lacks, for the leader.
    relay: list[TaskStatusUpdate] = field(default_factory=list[TaskStatusUpdate])
    # Ids of tasks that are on another node: a node can speak for itself alone.
    refused: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Reports:
    """Those of one session: the latest status per task."""

    node_id: str
    waiting: dict[str, TaskStatusUpdate] = field(default_factory=dict[str, TaskStatusUpdate])
    # The agent may forget these; sent with the next flush.
    acks: list[TaskStatusUpdate] = field(default_factory=list[TaskStatusUpdate])

    def take(self, updates: Iterable[TaskStatusUpdate], view: View) -> Reported:
        """Sort a report into what is news, what the store has, and what is none of the node's."""
        reported = Reported()
        for update in updates:
            task = view.task(update.task_id)
            if task is not None and task.node_id != self.node_id:
                reported.refused.append(update.task_id)
                self.acks.append(update)
            elif task is None or supersedes(task, update.status):
                self.waiting.pop(update.task_id, None)
                self.acks.append(update)
            else:
                self.waiting[update.task_id] = update
                reported.relay.append(update)
        return reported

    def task_changed(self, task_id: str, task: Task | None) -> bool:
        """The store has something new of the task. True if an acknowledgement is due."""
        update = self.waiting.get(task_id)
        if update is None or not (task is None or supersedes(task, update.status)):
            return False
        del self.waiting[task_id]
        self.acks.append(update)
        return True


def supersedes(task: Task, status: TaskStatus) -> bool:
    """Does the store know as much as the status says, or more? States never go back."""
    stored = task.status
    if stored.state != status.state:
        return stored.state > status.state
    return stored == status or stored.timestamp_ns > status.timestamp_ns
