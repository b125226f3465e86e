"""What an update may do, checked per committed entry: never more slots at once than its
parallelism, a failure counted when it happens, a rollback to the previous spec and no further."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from swarm.api.v1.service_pb2 import (
    UPDATE_FAILURE_ACTION_CONTINUE,
    UPDATE_STATE_ROLLBACK_COMPLETED,
    UPDATE_STATE_ROLLBACK_STARTED,
    Service,
    ServiceRevision,
    ServiceSpec,
    UpdateConfig,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    Task,
)
from swarm.manager.core.orchestrator.update_status import config_of, in_progress, monitor_ns
from swarm.manager.core.store import SlotKey, StoreChange, slot_key, wanted
from swarm.simulation.violation import Violation
from swarm.simulation.words import short

_ENDED_BY_ITSELF = (TASK_STATE_COMPLETE, TASK_STATE_FAILED, TASK_STATE_REJECTED)


class UpdateInvariants:
    """Follows the log's changes once, whoever applies them first."""

    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._revisions: dict[tuple[str, int], ServiceRevision] = {}
        # Tasks that are wanted, oldest first, per slot of each service.
        self._wanted: dict[str, dict[SlotKey, dict[str, Task]]] = {}

    def applied(self, changes: Sequence[StoreChange]) -> None:
        for change in changes:
            if isinstance(change.new, ServiceRevision):
                self._revisions[change.new.service_id, change.new.revision] = change.new
        # By entries, not by transactions: what makes room for a slot may come behind it.
        self._check_failures(changes)
        before = {
            row.service_id: self._in_flux(row.service_id)
            for change in changes
            if isinstance(row := change.new or change.old, Task)
        }
        self._take_in(changes)
        made = {slot_key(c.new) for c in changes if c.old is None and isinstance(c.new, Task)}
        self._check_parallelism(before, made)

    def _take_in(self, changes: Sequence[StoreChange]) -> None:
        for change in changes:
            old, new = change.old, change.new
            if isinstance(old, Service) and isinstance(new, Service):
                self._check_rollback(old, new)
            if isinstance(old, Task) or isinstance(new, Task):
                self._note_task(_task(old), _task(new))
            if isinstance(new, Service):
                self._services[new.id] = new
            elif isinstance(old, Service):
                self._services.pop(old.id, None)

    def _note_task(self, old: Task | None, new: Task | None) -> None:
        task = new or old
        assert task is not None, "a change of a task"
        tasks = self._wanted.setdefault(task.service_id, {}).setdefault(slot_key(task), {})
        if new is not None and wanted(new):
            tasks[new.id] = new
        else:
            tasks.pop(task.id, None)

    def _check_parallelism(
        self, in_flux_before: Mapping[str, Sequence[SlotKey]], made: Collection[SlotKey]
    ) -> None:
        for service_id, before in in_flux_before.items():
            slots = self._in_flux(service_id)
            config = self._config(service_id)
            if self._has_surplus(service_id):
                continue  # which slots go is not said yet
            # Not those that come back to the task of an earlier update.
            begun = [slot for slot in slots if slot not in before and slot in made]
            # In a global service a node that is down holds nobody else up, and may come back.
            counted = [slot for slot in slots if slot.slot]
            if begun and config is not None and 0 < config.parallelism < len(counted):
                raise Violation(
                    "an update takes no more than its parallelism down at once",
                    f"{len(counted)} slots of {short(service_id)} are being updated, "
                    f"{config.parallelism} may be",
                )

    def _in_flux(self, service_id: str) -> list[SlotKey]:
        """Slots whose newest task the update made, and which does not run yet."""
        service = self._services.get(service_id)
        if service is None:
            return []
        newest = {
            slot: next(reversed(tasks.values()))
            for slot, tasks in self._wanted.get(service_id, {}).items()
            if tasks
        }
        return [
            slot
            for slot, task in newest.items()
            if task.by_update
            and task.revision == service.task_revision
            and task.status.state < TASK_STATE_RUNNING
        ]

    def _has_surplus(self, service_id: str) -> bool:
        service = self._services.get(service_id)
        spec = self._spec(service_id, service.revision) if service is not None else ServiceSpec()
        there = sum(1 for tasks in self._wanted.get(service_id, {}).values() if tasks)
        return there > spec.replicated.replicas

    def _config(self, service_id: str) -> UpdateConfig | None:
        service = self._services.get(service_id)
        if service is None:
            return None
        return config_of(service, self._spec(service_id, service.revision))

    def _check_failures(self, changes: Sequence[StoreChange]) -> None:
        rows = {c.new.id: c.new for c in changes if isinstance(c.new, Service)}
        for change in changes:
            old, new = change.old, change.new
            if not isinstance(old, Task) or not isinstance(new, Task):
                continue
            service = self._services.get(new.service_id)
            if service is None or not self._is_failure(service, old, new):
                continue
            after = rows.get(service.id, service)
            if after.revision == service.revision and after.update == service.update:
                raise Violation(
                    "a failure that an update watches for is counted",
                    f"task {short(new.id)} of {service.name} r{new.revision}",
                )

    def _is_failure(self, service: Service, old: Task, new: Task) -> bool:
        """Is it given up now, having ended by itself while an update watched it?"""
        spec = self._spec(service.id, service.revision)
        config = config_of(service, spec)
        ran_ns = old.meta.updated_at_ns - old.running_at_ns
        return (
            old.by_update
            and old.revision == service.task_revision
            and spec.HasField("replicated")
            and in_progress(service)
            and config.failure_action != UPDATE_FAILURE_ACTION_CONTINUE
            and old.status.state in _ENDED_BY_ITSELF
            and wanted(old)
            and new.desired_state == TASK_STATE_SHUTDOWN
            and (not old.running_at_ns or ran_ns <= monitor_ns(config))
        )

    def _check_rollback(self, old: Service, new: Service) -> None:
        state, before = new.update.state, old.update.state
        if state == UPDATE_STATE_ROLLBACK_COMPLETED and old.revision != new.revision:
            raise Violation("a rollback ends at the old spec", f"{new.name} went on to another")
        if state != UPDATE_STATE_ROLLBACK_STARTED or new.revision == old.revision:
            return
        row = self._revisions[new.id, new.revision]
        if row.spec != self._spec(new.id, old.previous_revision):
            raise Violation(
                "a rollback ends at the old spec",
                f"{new.name} r{new.revision} is not as r{old.previous_revision} was",
            )
        if row.who == "brain" and before == UPDATE_STATE_ROLLBACK_STARTED:
            raise Violation("a rollback is never rolled back", f"{new.name} r{new.revision}")

    def _spec(self, service_id: str, revision: int) -> ServiceSpec:
        return self._revisions[service_id, revision].spec


def _task(row: object) -> Task | None:
    return row if isinstance(row, Task) else None
