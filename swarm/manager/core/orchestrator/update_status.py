"""What the store says of a service's update: begun, paused, rolled back, completed.

It is all that a new leader needs to go on where the last one was. Sources of words and rules:
swarmkit manager/orchestrator/update/updater.go.
"""

from __future__ import annotations

from swarm.api.v1.service_pb2 import (
    UPDATE_FAILURE_ACTION_CONTINUE,
    UPDATE_FAILURE_ACTION_ROLLBACK,
    UPDATE_STATE_COMPLETED,
    UPDATE_STATE_NONE,
    UPDATE_STATE_PAUSED,
    UPDATE_STATE_ROLLBACK_COMPLETED,
    UPDATE_STATE_ROLLBACK_PAUSED,
    UPDATE_STATE_ROLLBACK_STARTED,
    UPDATE_STATE_UPDATING,
    Service,
    ServiceSpec,
    UpdateConfig,
    UpdateState,
    UpdateStatus,
)
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.allocator.ports import PortUnavailable
from swarm.manager.core.allocator.revision import next_revision
from swarm.manager.core.orchestrator.work import Work

_SECOND_NS = 1_000_000_000
_MONITOR_NS = 5 * _SECOND_NS
_BACK = (
    UPDATE_STATE_ROLLBACK_STARTED,
    UPDATE_STATE_ROLLBACK_PAUSED,
    UPDATE_STATE_ROLLBACK_COMPLETED,
)
_NONE_GIVEN = UpdateConfig(parallelism=1)


def in_progress(service: Service) -> bool:
    """Has it begun, and not come to any end?"""
    return service.update.state in (UPDATE_STATE_UPDATING, UPDATE_STATE_ROLLBACK_STARTED)


def is_paused(service: Service) -> bool:
    """Does it wait for a user's next update?"""
    return service.update.state in (UPDATE_STATE_PAUSED, UPDATE_STATE_ROLLBACK_PAUSED)


def config_of(service: Service, spec: ServiceSpec) -> UpdateConfig:
    """How this update goes about it; a rollback is configured by itself."""
    name = "rollback" if service.update.state in _BACK else "update"
    if not spec.HasField(name):
        return _NONE_GIVEN
    return spec.rollback if name == "rollback" else spec.update


def monitor_ns(config: UpdateConfig) -> int:
    """How long a task is watched after it runs; longer than the delay between tasks."""
    monitor = config.monitor_ns if config.HasField("monitor_ns") else _MONITOR_NS
    return config.delay_ns + _SECOND_NS if 0 < monitor <= config.delay_ns else monitor


def begin(work: Work, service: Service, outdated: int) -> Service:
    """So many slots are to be updated. Returns the service as it then is."""
    if in_progress(service) and service.update.slots:
        return service
    status = UpdateStatus()
    status.CopyFrom(service.update)
    status.slots = outdated
    if status.state == UPDATE_STATE_NONE:
        status.state = UPDATE_STATE_UPDATING
        status.message = "update in progress"
        status.started_at_ns = work.now_ns
    return _write(work, service, status)


def complete(work: Work, service: Service) -> None:
    """Every slot is updated, and was watched for long enough."""
    back = service.update.state == UPDATE_STATE_ROLLBACK_STARTED
    status = UpdateStatus()
    status.CopyFrom(service.update)
    status.state = UPDATE_STATE_ROLLBACK_COMPLETED if back else UPDATE_STATE_COMPLETED
    status.message = "rollback completed" if back else "update completed"
    status.completed_at_ns = work.now_ns
    _write(work, service, status)


def judge_end(work: Work, task: Task) -> None:
    """The task ended by itself: where an update made it and still watches it, that is a failure.

    Enough of them pause the update, or roll it back; a rollback is never rolled back.
    Call it in the transaction in which the task ceases to be wanted: it then counts once.
    """
    service = work.draft.service(task.service_id)
    spec = work.draft.spec(service.id, service.revision) if service is not None else None
    if service is None or spec is None or not in_progress(service):
        return
    config = config_of(service, spec)
    if config.failure_action == UPDATE_FAILURE_ACTION_CONTINUE or not _is_watched(
        service, task, config
    ):
        return
    status = UpdateStatus()
    status.CopyFrom(service.update)
    status.failures += 1
    if status.failures > config.max_failure_ratio * max(1, status.slots):
        _act(work, service, status, config, task)
    else:
        _write(work, service, status)


def _is_watched(service: Service, task: Task, config: UpdateConfig) -> bool:
    if not task.by_update or task.revision != service.task_revision:
        return False
    ran_ns = task.meta.updated_at_ns - task.running_at_ns
    return not task.running_at_ns or ran_ns <= monitor_ns(config)


def _act(
    work: Work, service: Service, status: UpdateStatus, config: UpdateConfig, task: Task
) -> None:
    because = f"due to failure or early termination of task {task.id}"
    if service.update.state == UPDATE_STATE_ROLLBACK_STARTED:
        _end(work, service, status, UPDATE_STATE_ROLLBACK_PAUSED, f"rollback paused {because}")
        return
    problem = ""
    if config.failure_action == UPDATE_FAILURE_ACTION_ROLLBACK:
        problem = _roll_back(work, service, status, f"update rolled back {because}")
        if not problem:
            return
    _end(work, service, status, UPDATE_STATE_PAUSED, f"update paused {because}{problem}")


def _roll_back(work: Work, service: Service, status: UpdateStatus, message: str) -> str:
    """Returns why it can't be done, to go behind another sentence; "" when it is done."""
    previous = work.draft.spec(service.id, service.previous_revision)
    if previous is None:
        return "; it can't be rolled back: there is no previous spec"
    try:
        restored, row = next_revision(work.draft, service, previous, "brain")
    except PortUnavailable as error:
        return f"; it can't be rolled back: {error}"
    restored.previous_revision = 0
    status.state = UPDATE_STATE_ROLLBACK_STARTED
    status.message = message
    status.slots = status.failures = 0
    work.create_revision(row)
    _write(work, restored, status)
    return ""


def _end(
    work: Work,
    service: Service,
    status: UpdateStatus,
    state: UpdateState.ValueType,
    message: str,
) -> None:
    status.state = state
    status.message = message
    _write(work, service, status)


def _write(work: Work, service: Service, status: UpdateStatus) -> Service:
    changed = Service()
    changed.CopyFrom(service)
    changed.update.CopyFrom(status)
    work.replace_service(changed)
    return changed
