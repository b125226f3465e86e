"""What a job may do, checked per committed transaction: a slot that is complete is never run again,
and no more than `max_concurrent` are at work at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from swarm.api.v1.service_pb2 import Service, ServiceRevision, ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_COMPLETE, TASK_STATE_RUNNING, Task
from swarm.manager.core.modes import is_job
from swarm.manager.core.store import SlotKey, StoreChange, slot_key, wanted
from swarm.simulation.violation import Violation
from swarm.simulation.words import short


class JobInvariants:
    """Follows the log's changes once, whoever applies them first."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._specs: dict[tuple[str, int], ServiceSpec] = {}
        self._complete: dict[tuple[SlotKey, int], str] = {}
        # Tasks at work, per service and revision: id to slot.
        self._at_work: dict[tuple[str, int], dict[str, SlotKey]] = {}

    def applied(self, changes: Sequence[StoreChange]) -> None:
        for change in changes:
            new = change.new
            if isinstance(new, ServiceRevision) and is_job(new.spec):
                self._specs[new.service_id, new.revision] = new.spec
        for _, transaction in groupby(changes, lambda change: change.revision):
            self._transaction(list(transaction))

    def _transaction(self, changes: Sequence[StoreChange]) -> None:
        begun: dict[tuple[str, int], set[SlotKey]] = {}
        for change in changes:
            task = change.new if change.new is not None else change.old
            if isinstance(change.new, Service):
                self._services[change.new.id] = change.new
            if not isinstance(task, Task):
                continue
            key = (task.service_id, task.revision)
            if key not in self._specs:
                continue
            at_work = self._at_work.setdefault(key, {})
            begun.setdefault(key, set(at_work.values()))
            if change.old is None:
                self._check_new(task)
            if change.new is not None and _works(task):
                at_work[task.id] = slot_key(task)
            else:
                at_work.pop(task.id, None)
            if task.status.state == TASK_STATE_COMPLETE and change.new is not None:
                self._complete.setdefault((slot_key(task), task.revision), task.id)
        for key, earlier in begun.items():
            self._check_concurrency(key, earlier)

    def _check_new(self, task: Task) -> None:
        done = self._complete.get((slot_key(task), task.revision))
        if done is not None:
            raise Violation(
                "a job's completions are counted once",
                f"task {short(task.id)} of {task.service_name}.{task.slot}{task.node_id} "
                f"r{task.revision} was made, and {short(done)} is complete",
            )

    def _check_concurrency(self, key: tuple[str, int], earlier: set[SlotKey]) -> None:
        spec, slots = self._specs[key], set(self._at_work[key].values())
        service = self._services.get(key[0])
        limit = spec.replicated_job.max_concurrent
        current = service is not None and service.task_revision == key[1]
        if current and spec.HasField("replicated_job") and slots - earlier and len(slots) > limit:
            raise Violation(
                "a job runs no more than it may at once",
                f"{len(slots)} of {short(key[0])} r{key[1]}, {limit} may be",
            )


def _works(task: Task) -> bool:
    return wanted(task) and task.status.state <= TASK_STATE_RUNNING
