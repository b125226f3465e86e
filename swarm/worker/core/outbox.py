"""Task statuses on their way to the managers: the latest of each task, kept until committed."""

from __future__ import annotations

from collections.abc import Iterable

from swarm.api.v1.dispatcher_pb2 import StatusReport, TaskStatusUpdate
from swarm.api.v1.task_pb2 import TaskStatus

REPORT_MAX = 500


class Outbox:
    def __init__(self) -> None:
        self._unacknowledged: dict[str, TaskStatus] = {}
        self._unsent: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._unacknowledged)

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def put(self, task_id: str, status: TaskStatus) -> None:
        kept = TaskStatus()
        kept.CopyFrom(status)
        self._unacknowledged[task_id] = kept
        self._unsent[task_id] = None

    def discard(self, task_id: str) -> None:
        self._unacknowledged.pop(task_id, None)
        self._unsent.pop(task_id, None)

    def acknowledge(self, updates: Iterable[TaskStatusUpdate]) -> None:
        """Forgets what is committed, or superseded by a later state."""
        for update in updates:
            kept = self._unacknowledged.get(update.task_id)
            if kept is not None and (update.status.state > kept.state or update.status == kept):
                self.discard(update.task_id)

    def resend(self) -> None:
        """A new session: all of it is unsent again."""
        self._unsent = dict.fromkeys(self._unacknowledged)

    def reports(self) -> list[StatusReport]:
        """What is unsent, in messages of a bearable size; it then counts as sent."""
        task_ids = list(self._unsent)
        self._unsent = {}
        return [
            StatusReport(
                updates=[
                    TaskStatusUpdate(task_id=task_id, status=self._unacknowledged[task_id])
                    for task_id in task_ids[start : start + REPORT_MAX]
                ]
            )
            for start in range(0, len(task_ids), REPORT_MAX)
        ]
