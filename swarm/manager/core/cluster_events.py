"""Changes of the store as Docker's events: what a user would call something that happened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.control_pb2 import ClusterEvent
from swarm.api.v1.node_pb2 import Node, NodeAvailability, NodeRole, NodeState
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import Service, ServiceSpec, UpdateState
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_ORPHANED,
    TASK_STATE_REJECTED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    Task,
    TaskState,
)
from swarm.manager.core.store import StoreChange, View

KINDS = ("config", "node", "secret", "service", "task")
# What happens on the way from one to the next is of no interest a moment later.
_TASK_STATES = (
    TASK_STATE_ASSIGNED,
    TASK_STATE_RUNNING,
    TASK_STATE_COMPLETE,
    TASK_STATE_SHUTDOWN,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    TASK_STATE_ORPHANED,
)

Attributes = dict[str, str]


def events_of(changes: Iterable[StoreChange], view: View) -> Iterator[ClusterEvent]:
    """What happened, in order. `view` knows the specs that service rows name, and hostnames."""
    for change in changes:
        event = _event(change, view)
        if event is not None:
            event.revision, event.at_ns = change.revision, change.at_ns
            yield event


def _event(change: StoreChange, view: View) -> ClusterEvent | None:
    old, new = change.old, change.new
    match new if new is not None else old:
        case Service() as row:
            before = old if isinstance(old, Service) else None
            return _of(change, "service", row.id, row.name, _service(before, row, view))
        case Node() as row:
            before = old if isinstance(old, Node) else None
            name = row.description.hostname
            return _of(change, "node", row.id, name, _node(before, row))
        case Secret() as row:
            return _of(change, "secret", row.id, row.spec.annotations.name, {"": ""})
        case Config() as row:
            return _of(change, "config", row.id, row.spec.annotations.name, {"": ""})
        case Task() as row:
            return _task(change, row, view)
        case _:
            return None


def _of(
    change: StoreChange, kind: str, key: str, name: str, differing: Attributes
) -> ClusterEvent | None:
    """An update in which nothing differs that a user sees is none."""
    if change.old is None:
        action, attributes = "create", {}
    elif change.new is None:
        action, attributes = "remove", {}
    elif differing:
        action, attributes = "update", {k: v for k, v in differing.items() if k}
    else:
        return None
    return ClusterEvent(kind=kind, action=action, id=key, attributes={"name": name} | attributes)


def _service(old: Service | None, new: Service, view: View) -> Attributes:
    if old is None or old is new:
        return {}
    found: Attributes = {}
    if old.revision != new.revision:
        found["revision"] = str(new.revision)
        before = view.spec(old.id, old.revision) or ServiceSpec()
        after = view.spec(new.id, new.revision) or ServiceSpec()
        _note(found, "replicas", _replicas(before), _replicas(after))
        _note(found, "image", before.task.container.image, after.task.container.image)
    _note(found, "updatestate", _update_state(old), _update_state(new))
    if new.pending.message != old.pending.message:
        found["pending"] = new.pending.message
    return found


def _replicas(spec: ServiceSpec) -> str:
    return str(spec.replicated.replicas) if spec.HasField("replicated") else ""


def _update_state(service: Service) -> str:
    state = UpdateState.Name(service.update.state).removeprefix("UPDATE_STATE_").lower()
    return "" if state == "none" else state


def _node(old: Node | None, new: Node) -> Attributes:
    if old is None or old is new:
        return {}
    found: Attributes = {}
    availability = [
        NodeAvailability.Name(row.spec.availability).removeprefix("NODE_AVAILABILITY_").lower()
        for row in (old, new)
    ]
    roles = [NodeRole.Name(row.role).removeprefix("NODE_ROLE_").lower() for row in (old, new)]
    states = [
        NodeState.Name(row.status.state).removeprefix("NODE_STATE_").lower() for row in (old, new)
    ]
    _note(found, "availability", *availability)
    _note(found, "role", *roles)
    _note(found, "state", *states)
    if not found and old.spec != new.spec:
        found[""] = ""
    return found


def _note(found: Attributes, name: str, old: str, new: str) -> None:
    """As Docker: both values, where they differ and are there."""
    if old != new:
        found.update({f"{name}.{when}": v for when, v in (("old", old), ("new", new)) if v})


def _task(change: StoreChange, task: Task, view: View) -> ClusterEvent | None:
    state = task.status.state
    before = change.old.status.state if isinstance(change.old, Task) else None
    if change.new is None:
        action = "remove"
    elif before is None:
        action = "create"
    elif before != state and state in _TASK_STATES:
        action = TaskState.Name(state).removeprefix("TASK_STATE_").lower()
    else:
        return None
    node = view.node(task.node_id) if task.node_id else None
    attributes = {
        "name": f"{task.service_name}.{task.slot or task.node_id}",
        "service": task.service_name,
        "node": node.description.hostname if node is not None else task.node_id,
        "error": " ".join(task.status.err.split()),
    }
    if task.status.container.HasField("exit_code"):
        attributes["exitCode"] = str(task.status.container.exit_code)
    return ClusterEvent(
        kind="task",
        action=action,
        id=task.id,
        attributes={key: value for key, value in attributes.items() if value},
    )
