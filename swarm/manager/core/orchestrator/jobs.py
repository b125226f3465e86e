"""Jobs: each slot's task runs to completion, once per update of the service.

A completion is a slot with a COMPLETE task of the service's task revision, however many of its
tasks said so: under a partition two may. Which slots come next is kept like an update's turns
(update.py): `max_concurrent` slots are at work at a time. A slot that gave up stays quiet.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.service_pb2 import Service, ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_COMPLETE, Task
from swarm.manager.core.modes import is_per_node
from swarm.manager.core.orchestrator import global_, move, replicated
from swarm.manager.core.orchestrator import node as nodes
from swarm.manager.core.orchestrator import slot as slots
from swarm.manager.core.orchestrator.agenda import BEGUN, Intent, Plan, Slice
from swarm.manager.core.orchestrator.update import Progress, Rollouts
from swarm.manager.core.orchestrator.work import Work, slices
from swarm.manager.core.store import SlotKey, ended, slot_key
from swarm.manager.core.store.objects import wanted


def plan(rollouts: Rollouts, service: Service, spec: ServiceSpec) -> Plan:
    """Slots with tasks are looked at; those without wait for their turn, the lowest first."""
    if is_per_node(spec):
        return global_.plan(service)
    return _plan_completions(rollouts, service, spec)


def _plan_completions(rollouts: Rollouts, service: Service, spec: ServiceSpec) -> Plan:
    work = yield BEGUN
    for numbers in slices(range(1, spec.replicated_job.total_completions + 1)):
        for number in numbers:
            if not work.draft.tasks_of_slot(service.id, number):
                rollouts.note(SlotKey(service.id, number, ""), Progress.OUTDATED)
        work = yield Slice({}, len(numbers))
    for tasks in slices(work.draft.tasks_of_service(service.id)):
        yield Slice({slot_key(task): Intent.CHECK for task in tasks}, len(tasks))


def settle(work: Work, service: Service, key: SlotKey, intent: Intent, spec: ServiceSpec) -> None:
    """Put one slot right."""
    tasks = slots.tasks_of(work, key)
    slots.settle_unwanted(work, tasks)
    if _is_surplus(key, spec) or is_complete(service, tasks):
        _stop_all(work, tasks)
        return
    _stop_all(work, [task for task in tasks if task.revision != service.task_revision])
    standing = _of_iteration(service, slots.tasks_of(work, key))
    if is_per_node(spec):
        _settle_on_node(work, service, key, standing)
    elif standing is not None and wanted(standing):
        replicated.settle_current(work, service, key, standing)
    elif intent is Intent.CREATE and not _gave_up(work, standing):
        slots.replace(work, service, key, standing)


def progress_of(
    work: Work, service: Service, spec: ServiceSpec, key: SlotKey, tasks: Sequence[Task]
) -> Progress:
    """Is the slot at work, over, or waiting for its turn?"""
    if is_per_node(spec) or _is_surplus(key, spec) or is_complete(service, tasks):
        return Progress.DONE
    standing = _of_iteration(service, tasks)
    if standing is not None and wanted(standing):
        return Progress.IN_FLUX
    return Progress.DONE if _gave_up(work, standing) else Progress.OUTDATED


def is_complete(service: Service, tasks: Sequence[Task]) -> bool:
    """Did the slot's task run to completion since the last update?"""
    return any(
        task.revision == service.task_revision and task.status.state == TASK_STATE_COMPLETE
        for task in tasks
    )


def is_at_work(service: Service, tasks: Sequence[Task]) -> bool:
    """Is one of them wanted, and not ended? Beside one that is complete too: that of a node which
    was given up completes beside its replacement."""
    current = (task for task in tasks if task.revision == service.task_revision)
    return any(wanted(task) and not ended(task) for task in current)


def _settle_on_node(work: Work, service: Service, key: SlotKey, standing: Task | None) -> None:
    """Nodes that come later get their task too; on one that is down it is waited for."""
    node = work.draft.node(key.node_id)
    if not nodes.keeps_tasks(node, work.demand(service.id, service.task_revision)):
        if standing is not None and wanted(standing) and not move.may_wait(work, standing):
            slots.stop(work, standing)
        return
    assert node is not None, "only a node that is there keeps tasks"
    if standing is not None and wanted(standing):
        if not ended(standing):
            slots.promote(work, key, standing)
        elif nodes.takes_tasks(node):
            slots.follow_ended(work, service, key, standing)
    elif nodes.takes_tasks(node) and not _gave_up(work, standing):
        slots.replace(work, service, key, standing)


def _of_iteration(service: Service, tasks: Sequence[Task]) -> Task | None:
    """The slot's newest task since the last update."""
    return next((t for t in reversed(tasks) if t.revision == service.task_revision), None)


def _gave_up(work: Work, standing: Task | None) -> bool:
    return standing is not None and slots.gave_up(work, standing)


def _is_surplus(key: SlotKey, spec: ServiceSpec) -> bool:
    return not is_per_node(spec) and key.slot > spec.replicated_job.total_completions


def _stop_all(work: Work, tasks: Sequence[Task]) -> None:
    for task in tasks:
        if wanted(task):
            slots.stop(work, task)
