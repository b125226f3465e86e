"""Global services: a task on every node that takes it; the slot is the node."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.service_pb2 import UPDATE_ORDER_START_FIRST, Service, ServiceSpec
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.orchestrator import node as nodes
from swarm.manager.core.orchestrator import restart
from swarm.manager.core.orchestrator import slot as slots
from swarm.manager.core.orchestrator.agenda import BEGUN, Intent, Plan, Slice
from swarm.manager.core.orchestrator.update_status import config_of
from swarm.manager.core.orchestrator.work import Work, slices
from swarm.manager.core.store import SlotKey, ended
from swarm.manager.core.store.objects import wanted


def plan(service: Service) -> Plan:
    """Every node, and every slot of a node that is gone: eligibility is looked at per slot."""
    work = yield BEGUN
    for nodes_ in slices(work.draft.nodes()):
        keys = [slot_on(service.id, node.id) for node in nodes_]
        work = yield Slice(dict.fromkeys(keys, Intent.CHECK), len(nodes_))
    for tasks in slices(work.draft.tasks_of_service(service.id)):
        keys = [slot_on(service.id, t.node_id) for t in tasks if not work.draft.node(t.node_id)]
        work = yield Slice(dict.fromkeys(keys, Intent.CHECK), len(tasks))


def slot_on(service_id: str, node_id: str) -> SlotKey:
    """The service's slot on a node."""
    return SlotKey(service_id, 0, node_id)


def settle(
    work: Work,
    service: Service,
    spec: ServiceSpec,
    key: SlotKey,
    intent: Intent,
    tasks: Sequence[Task],
) -> None:
    """Put the slot of one node right.

    On a node that is down nothing is stopped: its task has nowhere else to go, and is still
    there when the node comes back. (Swarm stops it then, and starts another.)
    """
    node = work.draft.node(key.node_id)
    slots.settle_unwanted(work, tasks)
    if not nodes.keeps_tasks(node, work.demand(service.id, service.task_revision)):
        for task in tasks:
            if wanted(task):
                slots.stop(work, task)
    elif node is not None and nodes.is_down(node):
        _settle_down(work, tasks)
    elif node is not None:
        _settle_up(work, service, spec, key, intent, node, tasks)


def _settle_down(work: Work, tasks: Sequence[Task]) -> None:
    for task in tasks:
        lost = nodes.is_lost(work.node_of(task), work.now_ns)
        if wanted(task) and (lost or ended(task) or slots.never_ran(task)):
            slots.stop(work, task)


def _settle_up(
    work: Work,
    service: Service,
    spec: ServiceSpec,
    key: SlotKey,
    intent: Intent,
    node: Node,
    tasks: Sequence[Task],
) -> None:
    config = config_of(service, spec)
    current = slots.newest_wanted(tasks)
    if current is not None:
        slots.settle_older(work, service, config, current, tasks)
    standing = slots.standing_task(work, tasks)
    if standing is None:
        if nodes.takes_tasks(node):
            slots.replace(work, service, key, tasks[-1] if tasks else None)
    elif _is_due(service, standing, node, intent):
        start_first = config.order == UPDATE_ORDER_START_FIRST and wanted(standing)
        slots.update(work, service, config, key, standing, start_first=start_first)
    elif current is not None:
        if not ended(current):
            slots.promote(work, key, current)
        elif nodes.takes_tasks(node) or restart.gave_up(current, work.restart_policy(current)):
            slots.follow_ended(work, service, key, current)
        else:
            slots.stop(work, current)


def _is_due(service: Service, standing: Task, node: Node, intent: Intent) -> bool:
    """A paused node keeps the task it has: there is no other to be had."""
    outdated = standing.revision != service.task_revision
    return outdated and intent is Intent.UPDATE and nodes.takes_tasks(node)
