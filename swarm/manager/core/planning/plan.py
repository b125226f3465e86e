"""`--plan`: requests as users make them, and what they would lead to. Nothing is changed.

Several requests are planned as one, in their order: a stack's services at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.node_pb2 import NodeSpec
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.store_pb2 import TABLE_SERVICE, VERDICT_OK, Transaction
from swarm.api.v1.task_pb2 import TASK_STATE_ASSIGNED, Task
from swarm.manager.core.planning.rehearsal import Rehearsal
from swarm.manager.core.planning.waiting import hostname_of, waiting_groups
from swarm.manager.core.scheduler.scheduler import unassigned
from swarm.manager.core.store import Ids, Store, View, ended, wanted
from swarm.manager.core.validate import InvalidRequest, node, refusal, resolve, service, stack

# Tasks that are listed; beyond that they are counted.
_LISTED_MAX = 5_000
_WHO = "plan"


@dataclass(slots=True)
class _Objects:
    """The specs before and after, by the object's id."""

    services: dict[str, ServiceSpec | None] = field(default_factory=dict[str, ServiceSpec | None])
    nodes: dict[str, NodeSpec] = field(default_factory=dict[str, NodeSpec])
    names: dict[str, str] = field(default_factory=dict[str, str])


def plan(
    store: Store, changes: Sequence[pb.PlannedChange], ids: Ids, now_ns: int
) -> pb.PlanResponse:
    """What `changes` would lead to. `store` is a copy, and of no use afterwards.

    What is under way already is brought to its end first, and is no part of the answer.
    Raises InvalidRequest, as the requests themselves would.
    """
    index = store.revision
    for change in changes:
        _check_version(store, change)
    rehearsal = Rehearsal(store, ids, now_ns)
    complete = rehearsal.come_to_rest()
    before = {task.id: task for task in store.tasks() if _is_live(task)}
    waited = frozenset(task.id for task in store.tasks_unassigned())
    rehearsal.note_tasks()
    objects = _Objects()
    for change in changes:
        _do(rehearsal, change, ids, objects)
    complete = rehearsal.come_to_rest() and complete
    stopped = [task for task in before.values() if not _still_lives(store.task(task.id))]
    started = list(rehearsal.placed.values())
    answer = pb.PlanResponse(
        index=index,
        objects=_planned_objects(store, objects),
        tasks_started=len(started),
        tasks_stopped=len(stopped),
        waiting=waiting_groups(store, _newly_waiting(store, waited, objects.services)),
        cut_off=not complete,
    )
    answer.started.extend(_listed(store, started))
    answer.stopped.extend(_listed(store, stopped))
    return answer


def _check_version(view: View, change: pb.PlannedChange) -> None:
    """What the changes were made from must be what is there. Raises InvalidRequest."""
    match change.WhichOneof("kind"):
        case "update_service":
            asked = change.update_service
            index = asked.check_index if asked.HasField("check_index") else None
            service.check_version(view, asked.service_id, asked.version, index)
        case "update_node":
            asked_node = change.update_node
            index = asked_node.check_index if asked_node.HasField("check_index") else None
            node.check_version(view, asked_node.node_id, asked_node.version, index)
        case _:
            pass


def _do(rehearsal: Rehearsal, change: pb.PlannedChange, ids: Ids, objects: _Objects) -> None:
    store, now_ns = rehearsal.store, rehearsal.now_ns
    service_id = node_id = ""
    match change.WhichOneof("kind"):
        case "create_service":
            transaction = service.create(store, change.create_service.spec, ids, now_ns, _WHO)
            service_id = transaction.changes[0].create.service.id
        case "update_service":
            service_id = change.update_service.service_id
            transaction = _update(store, change.update_service, now_ns)
        case "remove_service":
            service_id = resolve.service(store, change.remove_service.reference).id
            transaction = service.remove(store, service_id, _WHO)
        case "update_node":
            node_id = change.update_node.node_id
            everybody = [member.raft_id for member in store.members()]
            spec = change.update_node.spec
            transaction = node.update(store, node_id, 0, spec, everybody, now_ns, _WHO)
        case "deploy_stack":
            _deploy(rehearsal, change.deploy_stack, ids, objects)
            return
        case _:
            raise InvalidRequest("a change of a kind that this version can't plan")
    _note_old(store, objects, service_id, node_id)
    verdict = rehearsal.commit(transaction)
    if verdict.code != VERDICT_OK:
        raise refusal(verdict)
    found = store.service(service_id)
    if found is not None:
        objects.names[service_id] = found.name


def _deploy(
    rehearsal: Rehearsal, request: pb.DeployStackRequest, ids: Ids, objects: _Objects
) -> None:
    store = rehearsal.store
    transaction, parts = stack.deploy(store, request, ids, rehearsal.now_ns, _WHO)
    for part in parts:
        if part.table == TABLE_SERVICE and part.action != pb.STACK_ACTION_UNCHANGED:
            _note_old(store, objects, part.id, "")
            objects.names[part.id] = part.name
    verdict = rehearsal.commit(transaction)
    if verdict.code != VERDICT_OK:
        raise refusal(verdict)


def _update(view: View, asked: pb.UpdateServiceRequest, now_ns: int) -> Transaction:
    if asked.rollback:
        return service.rollback(view, asked.service_id, 0, now_ns, _WHO, asked.rollback_to)
    return service.update(view, asked.service_id, 0, asked.spec, now_ns, _WHO)


def _note_old(view: View, objects: _Objects, service_id: str, node_id: str) -> None:
    found = view.service(service_id)
    if service_id and service_id not in objects.services:
        objects.services[service_id] = view.spec(service_id, found.revision) if found else None
        objects.names[service_id] = found.name if found else ""
    machine = view.node(node_id)
    if machine is not None and node_id not in objects.nodes:
        objects.nodes[node_id] = machine.spec
        objects.names[node_id] = machine.description.hostname


def _planned_objects(view: View, objects: _Objects) -> Iterable[pb.PlannedObject]:
    for service_id, old in objects.services.items():
        found = view.service(service_id)
        new = view.spec(service_id, found.revision) if found is not None else None
        yield pb.PlannedObject(
            id=service_id if old is not None else "",
            name=objects.names[service_id],
            old_service=old,
            new_service=new,
        )
    for node_id, old_spec in objects.nodes.items():
        machine = view.node(node_id)
        new_spec = machine.spec if machine is not None else None
        yield pb.PlannedObject(
            id=node_id, name=objects.names[node_id], old_node=old_spec, new_node=new_spec
        )


def _is_live(task: Task) -> bool:
    """Has a node been told to run it, and does it?"""
    return wanted(task) and not ended(task) and task.status.state >= TASK_STATE_ASSIGNED


def _still_lives(task: Task | None) -> bool:
    return task is not None and _is_live(task)


def _newly_waiting(
    view: View, waited: Collection[str], services: Mapping[str, object]
) -> list[Task]:
    """Of the services that are changed all, of others those that did not wait before."""
    return [
        task
        for task in view.tasks_unassigned()
        if unassigned(task) and (task.service_id in services or task.id not in waited)
    ]


def _listed(view: View, tasks: Iterable[Task]) -> list[pb.PlannedTask]:
    ordered = sorted(tasks, key=lambda task: (task.service_name, task.slot, task.node_id))
    return [
        pb.PlannedTask(
            service_name=task.service_name,
            slot=task.slot,
            node_id=task.node_id,
            hostname=_hostname(view, task.node_id),
        )
        for task in ordered[:_LISTED_MAX]
    ]


def _hostname(view: View, node_id: str) -> str:
    machine = view.node(node_id)
    return hostname_of(machine) if machine is not None else node_id
