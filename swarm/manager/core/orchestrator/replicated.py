"""Replicated services: as many slots as replicas, one wanted task in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, count, filterfalse, islice
from typing import NamedTuple

from swarm.api.v1.service_pb2 import UPDATE_ORDER_START_FIRST, Service, ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.manager.core.orchestrator import move
from swarm.manager.core.orchestrator import node as nodes
from swarm.manager.core.orchestrator import slot as slots
from swarm.manager.core.orchestrator.agenda import BEGUN, Intent, Intents, Plan, Slice
from swarm.manager.core.orchestrator.update import in_flux_until_ns
from swarm.manager.core.orchestrator.update_status import config_of, in_progress
from swarm.manager.core.orchestrator.work import SLICE, Work, slices
from swarm.manager.core.store import SlotKey, ended
from swarm.manager.core.store.objects import wanted


def plan(service: Service, spec: ServiceSpec) -> Plan:
    """Which slots differ from what the spec wants, and how. Looks at every task once.

    Nothing else makes or empties slots of the service meanwhile: only tasks within them come and
    go, and whatever happens to those is looked at for itself.
    """
    work = yield BEGUN
    standing: dict[int, _Standing] = {}
    seen: set[int] = set()
    for tasks_ in slices(work.draft.tasks_of_service(service.id)):
        intents: dict[int, Intent] = {}
        for number in dict.fromkeys(task.slot for task in tasks_):
            if number in seen:
                continue
            seen.add(number)
            tasks = slots.tasks_of(work, SlotKey(service.id, number, ""))
            task = slots.standing_task(work, tasks)
            if task is None:
                intents[number] = Intent.REMOVE
                continue
            standing[number] = _Standing(task.node_id, task.status.state == TASK_STATE_RUNNING)
            if not _is_settled(service, task, tasks) or _is_in_flux(work, service, spec, task):
                intents[number] = Intent.CHECK
        work = yield Slice(_keyed(service, intents), len(tasks_))
    surplus = len(standing) - spec.replicated.replicas
    if surplus > 0:
        for numbers in slices(_victims(standing, surplus)):
            yield _slice(service, numbers, Intent.REMOVE)
    unused = filterfalse(standing.__contains__, count(1))
    while surplus < 0:
        numbers = list(islice(unused, min(SLICE, -surplus)))
        surplus += len(numbers)
        yield _slice(service, numbers, Intent.CREATE)


class _Standing(NamedTuple):
    """Of the task that fills a slot."""

    node_id: str
    runs: bool


def _slice(service: Service, numbers: Sequence[int], intent: Intent) -> Slice:
    return Slice(_keyed(service, dict.fromkeys(numbers, intent)), len(numbers))


def _keyed(service: Service, intents: Mapping[int, Intent]) -> Intents:
    return {SlotKey(service.id, number, ""): intent for number, intent in intents.items()}


def settle(
    work: Work,
    service: Service,
    spec: ServiceSpec,
    key: SlotKey,
    intent: Intent,
    tasks: Sequence[Task],
) -> None:
    """Put one slot right."""
    if intent is Intent.REMOVE:
        slots.empty(work, tasks)
        return
    config = config_of(service, spec)
    slots.settle_unwanted(work, tasks)
    current = slots.newest_wanted(tasks)
    if current is not None:
        slots.settle_older(work, service, config, current, tasks)
    standing = slots.standing_task(work, tasks)
    if standing is None:
        if intent is Intent.CREATE:
            slots.replace(work, service, key, None)
    elif intent is Intent.UPDATE and standing.revision != service.task_revision:
        start_first = config.order == UPDATE_ORDER_START_FIRST and _runs(work, standing)
        slots.update(work, service, config, key, standing, start_first=start_first)
    elif intent is Intent.MOVE and current is not None and move.is_due(work, service, spec, tasks):
        move.begin(work, service, key, current)
    elif current is not None:
        settle_current(work, service, key, current)


def _is_settled(service: Service, standing: Task, tasks: Sequence[Task]) -> bool:
    return (
        standing.revision == service.task_revision
        and standing.status.state == TASK_STATE_RUNNING
        and standing.desired_state == TASK_STATE_RUNNING
        and (len(tasks) == 1 or sum(wanted(task) for task in tasks) == 1)
    )


def _is_in_flux(work: Work, service: Service, spec: ServiceSpec, standing: Task) -> bool:
    """Does the update that made the task still wait in its slot?"""
    if not standing.by_update or not in_progress(service):
        return False
    until_ns = in_flux_until_ns(standing, config_of(service, spec))
    return until_ns is None or work.now_ns < until_ns


def settle_current(work: Work, service: Service, key: SlotKey, current: Task) -> None:
    """The task that fills the slot: followed when it has ended, moved when it can't stay."""
    if ended(current):
        slots.follow_ended(work, service, key, current)
    elif current.node_id and not _may_stay(work, current):
        # It did not end by itself, so the restart policy has no say.
        slots.replace(work, service, key, current)
    else:
        slots.promote(work, key, current)


def _may_stay(work: Work, task: Task) -> bool:
    node = work.node_of(task)
    demand = work.demand(task.service_id, task.revision)
    return not nodes.is_down(node) and (
        nodes.keeps_tasks(node, demand) or move.may_wait(work, task)
    )


def _runs(work: Work, task: Task) -> bool:
    return wanted(task) and not ended(task) and not slots.never_ran(task) and _may_stay(work, task)


def _victims(standing: dict[int, _Standing], surplus: int) -> Sequence[int]:
    """Slots to remove: those without a node, then from the nodes with most copies, of these
    rather those that do not run (swarmkit: slotsByRunningState, slotsByIndex)."""
    numbers = sorted(standing)
    running_first = [number for number in numbers if standing[number].runs]
    running_first += [number for number in numbers if not standing[number].runs]
    copies: dict[str, int] = {}
    # The first slot of each node, the second of each, and so on; at last those without a node.
    layers: list[list[int]] = []
    without: list[int] = []
    for number in running_first:
        node_id = standing[number].node_id
        if not node_id:
            without.append(number)
            continue
        layer = copies[node_id] = copies.get(node_id, -1) + 1
        if layer == len(layers):
            layers.append([])
        layers[layer].append(number)
    # Within a layer the running ones and the lower numbers are in front, and are kept.
    return [*chain(*layers), *without][-surplus:]
