"""What the store may never say of tasks, checked per committed transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.manager.core.store import SlotKey, StoreChange, slot_key
from swarm.simulation.violation import Violation
from swarm.simulation.words import short, state


class TaskInvariants:
    """Follows the log's changes once, whoever applies them first."""

    def __init__(self) -> None:
        # Ids of tasks wanted running, per slot and revision, each with that of the task that it
        # takes over from.
        self._wanted: dict[tuple[SlotKey, int], dict[str, str]] = {}

    def applied(self, changes: Sequence[StoreChange]) -> None:
        for _, transaction in groupby(changes, lambda change: change.revision):
            self._transaction(list(transaction))

    def _transaction(self, changes: Iterable[StoreChange]) -> None:
        touched: dict[tuple[SlotKey, int], None] = {}
        for change in changes:
            old, new = change.old, change.new
            if isinstance(old, Task) or isinstance(new, Task):
                before = old if isinstance(old, Task) else None
                after = new if isinstance(new, Task) else None
                self._task(before, after, touched)
        for slot, revision in touched:
            self._check_slot(slot, revision)

    def _task(
        self,
        old: Task | None,
        new: Task | None,
        touched: dict[tuple[SlotKey, int], None],
    ) -> None:
        if old is not None and new is not None:
            _check_progress(old, new)
        if old is not None and _runs(old):
            self._wanted[slot_key(old), old.revision].pop(old.id, None)
        if new is not None and _runs(new):
            key = (slot_key(new), new.revision)
            self._wanted.setdefault(key, {})[new.id] = new.replaces
            touched[key] = None

    def _check_slot(self, slot: SlotKey, revision: int) -> None:
        tasks = self._wanted[slot, revision]
        ids = [task_id for task_id in tasks if task_id not in tasks.values()]
        if len(ids) > 1:
            raise Violation(
                "one task per slot and revision is wanted running",
                f"slot {short(slot.service_id)}.{slot.slot}{slot.node_id} r{revision} has "
                f"{', '.join(map(short, ids))}",
            )


def _check_progress(old: Task, new: Task) -> None:
    if new.status.state < old.status.state or new.desired_state < old.desired_state:
        raise Violation(
            "no task's state goes back",
            f"task {short(new.id)} from {state(old.desired_state)}<-{state(old.status.state)} "
            f"to {state(new.desired_state)}<-{state(new.status.state)}",
        )
    if old.node_id and new.node_id != old.node_id:
        raise Violation("a task stays on its node", f"{new.id}: {old.node_id} to {new.node_id}")


def _runs(task: Task) -> bool:
    return task.desired_state == TASK_STATE_RUNNING and task.status.state <= TASK_STATE_RUNNING
