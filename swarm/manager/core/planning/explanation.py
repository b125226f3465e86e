"""`explain`: why a task is where it is, or nowhere; why it fails; what a node has room for.

All of it is computed from the state of now, by the scheduler's own filters and ranking. Why a task
was placed as it was when it was placed is stored nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarm.api.v1.control_pb2 import (
    ExplainRequest,
    ExplainResponse,
    FailingSlot,
    NodeRefusal,
    NodeUse,
    PlacedTask,
    ResourceUse,
    TaskAttempt,
    WaitingTasks,
)
from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.service_pb2 import RESTART_CONDITION_NONE, RestartPolicy, ServiceSpec
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_FAILED,
    TASK_STATE_READY,
    TASK_STATE_REJECTED,
    TASK_STATE_RUNNING,
    Task,
)
from swarm.manager.core.modes import is_per_node
from swarm.manager.core.orchestrator import restart
from swarm.manager.core.planning.waiting import count_nodes, hostname_of, waiting_groups
from swarm.manager.core.scheduler.demand import NO_DEMAND, Demand, amounts_of
from swarm.manager.core.scheduler.explain import refusal, reservations
from swarm.manager.core.scheduler.nodes import NodeInfo, NodeSet
from swarm.manager.core.scheduler.place import Ranking
from swarm.manager.core.scheduler.scheduler import unassigned
from swarm.manager.core.store import SlotKey, View, ended, slot_key, wanted
from swarm.manager.core.validate import InvalidRequest, resolve

_PLACED_MAX = 100
_FAILING_MAX = 20
_ATTEMPTS_MAX = 5
# A task that runs for so long again does not fail any more.
_STEADY_NS = 5 * 60 * 1_000_000_000


def explain(view: View, request: ExplainRequest, now_ns: int) -> ExplainResponse:
    """Raises InvalidRequest for what is not there."""
    match request.WhichOneof("reference"):
        case "service":
            service = resolve.service(view, request.service)
            tasks = list(view.tasks_of_service(service.id))
            return _of_tasks(view, service.name, tasks, now_ns)
        case "task":
            task = resolve.task(view, request.task)
            return _of_task(view, task, now_ns)
        case "node":
            return _of_node(view, resolve.node(view, request.node))
        case _:
            raise InvalidRequest("explain what? Give a service, a task or a node")


def _of_tasks(view: View, name: str, tasks: Sequence[Task], now_ns: int) -> ExplainResponse:
    nodes = count_nodes(view)
    live = [task for task in tasks if wanted(task)]
    placed = [task for task in live if _has_node(task)][:_PLACED_MAX]
    return ExplainResponse(
        index=view.revision,
        name=name,
        running=sum(task.status.state == TASK_STATE_RUNNING for task in live),
        wanted=len(live),
        waiting=waiting_groups(view, [task for task in live if unassigned(task)], nodes),
        failing=_failing(view, tasks, now_ns)[:_FAILING_MAX],
        placed=[_placed(view, nodes, task, now_ns) for task in _in_order(placed)],
    )


def _of_task(view: View, task: Task, now_ns: int) -> ExplainResponse:
    slot = list(view.tasks_of_slot(*slot_key(task)))
    answer = _of_tasks(view, _name(task), slot, now_ns)
    nodes = count_nodes(view)
    for placed in answer.placed:
        nodes.forget(placed.task)
        demand = nodes.demand(view, task.service_id, placed.task.revision)
        placed.refusals.extend(_refusals(nodes, placed.task, demand))
    return answer


def _of_node(view: View, node: Node) -> ExplainResponse:
    nodes = count_nodes(view)
    info = nodes.get(node.id)
    assert info is not None, "every node of the store is counted"
    live = [task for task in view.tasks_of_node(node.id) if wanted(task) and _has_node(task)]
    waiting = waiting_groups(view, list(view.tasks_unassigned()), nodes)
    return ExplainResponse(
        index=view.revision,
        name=hostname_of(node),
        running=sum(task.status.state == TASK_STATE_RUNNING for task in live),
        wanted=len(live),
        waiting=_only_here(waiting, node.id),
        placed=[
            PlacedTask(task=task, hostname=hostname_of(node), reason=_reserved(nodes, task, view))
            for task in _in_order(live)[:_PLACED_MAX]
        ],
        node=NodeUse(
            node=node, resources=_resources(info), refusal=refusal(info, "", NO_DEMAND) or ""
        ),
    )


def _only_here(groups: Iterable[WaitingTasks], node_id: str) -> list[WaitingTasks]:
    here: list[WaitingTasks] = []
    for group in groups:
        reasons = [refused for refused in group.refusals if refused.node_id == node_id]
        if reasons:
            group.ClearField("refusals")
            group.refusals.extend(reasons)
            here.append(group)
    return here


# Where tasks are


def _placed(view: View, nodes: NodeSet, task: Task, now_ns: int) -> PlacedTask:
    spec = view.spec(task.service_id, task.revision)
    node = view.node(task.node_id)
    hostname = hostname_of(node) if node is not None else task.node_id
    return PlacedTask(
        task=task, hostname=hostname, reason=_why_there(view, nodes, task, spec, now_ns)
    )


def _why_there(
    view: View, nodes: NodeSet, task: Task, spec: ServiceSpec | None, now_ns: int
) -> str:
    own = nodes.get(task.node_id)
    if own is None:
        return "its node is gone"
    if spec is not None and is_per_node(spec):
        return "the service has a task on every node that takes it"
    demand = nodes.demand(view, task.service_id, task.revision)
    # As if it had no node yet.
    nodes.forget(task)
    refused = refusal(own, task.service_id, demand)
    taking = [info for info in nodes if refusal(info, task.service_id, demand) is None]
    today = _choice(view, nodes, task, demand, now_ns)
    load = _load(own, task)
    nodes.put(task, view)
    if refused is not None:
        return f"today it would not be placed there: the node {refused}"
    if len(taking) == 1:
        return "no other node takes it"
    text = f"{len(taking)} of {len(nodes)} nodes take it; {load}"
    text += "".join(f"; spread over {descriptor}" for descriptor in demand.preferences)
    if today is None or today is own:
        return f"{text}; the best of them"
    other = f"{hostname_of(today.node)} would be first today ({_load(today, task)})"
    return f"{text}; {other}, but tasks do not move once they are placed"


def _choice(view: View, nodes: NodeSet, task: Task, demand: Demand, now_ns: int) -> NodeInfo | None:
    """Where the scheduler would put it now. Leaves the nodes as they were."""
    key = (task.service_id, task.revision)
    claim = nodes.claim(view, *key, active=True)
    for node_id in Ranking(nodes, key, demand, now_ns).take([task.id], claim):
        info = nodes.get(node_id)
        if info is not None:
            info.release(task.id)
        return info
    return None


def _load(info: NodeInfo, task: Task) -> str:
    own = info.tasks_of.get(task.service_id, 0)
    return f"other tasks on it: {info.total}, of the service: {own}"


def _refusals(nodes: NodeSet, task: Task, demand: Demand) -> Iterable[NodeRefusal]:
    for info in nodes:
        reason = refusal(info, task.service_id, demand)
        if reason is not None and info.node.id != task.node_id:
            yield NodeRefusal(node_id=info.node.id, hostname=hostname_of(info.node), reason=reason)


# Why they fail


def _failing(view: View, tasks: Iterable[Task], now_ns: int) -> list[FailingSlot]:
    slots: dict[SlotKey, list[Task]] = {}
    for task in tasks:
        slots.setdefault(slot_key(task), []).append(task)
    found = (_failing_slot(view, key, slots[key], now_ns) for key in sorted(slots))
    return [slot for slot in found if slot is not None]


def _failing_slot(
    view: View, key: SlotKey, tasks: Sequence[Task], now_ns: int
) -> FailingSlot | None:
    failed = [
        task for task in tasks if task.status.state in (TASK_STATE_FAILED, TASK_STATE_REJECTED)
    ]
    current = next((task for task in reversed(tasks) if wanted(task)), None)
    steady = current is not None and current.status.state == TASK_STATE_RUNNING
    if not failed or (steady and failed[-1].status.timestamp_ns < now_ns - _STEADY_NS):
        return None
    last = failed[-1]
    spec = view.spec(last.service_id, last.revision)
    policy = spec.task.restart if spec is not None else RestartPolicy()
    slot = FailingSlot(
        service_name=last.service_name,
        slot=key.slot,
        node_id=key.node_id,
        attempts=[_attempt(view, task) for task in reversed(failed[-_ATTEMPTS_MAX:])],
        outlook=_outlook(current, last, policy),
    )
    if current is not None and _is_delayed(current, now_ns):
        slot.next_attempt_at_ns = current.start_after_ns
    return slot


def _attempt(view: View, task: Task) -> TaskAttempt:
    node = view.node(task.node_id)
    hostname = hostname_of(node) if node is not None else task.node_id
    return TaskAttempt(task_id=task.id, hostname=hostname, status=task.status)


def _outlook(current: Task | None, last: Task, policy: RestartPolicy) -> str:
    if current is None or ended(current):
        if restart.should_restart(last, policy):
            return "it is about to be tried again"
        if policy.condition == RESTART_CONDITION_NONE:
            return "it is not tried again: its restart condition is none"
        return f"it is not tried again: {policy.max_attempts} restarts were allowed"
    if current.status.state == TASK_STATE_RUNNING:
        return "it runs again"
    if unassigned(current) and current.desired_state == TASK_STATE_RUNNING:
        return "the next attempt waits for a node"
    if current.desired_state == TASK_STATE_READY:
        return "the next attempt waits for its restart delay, or for the last one to stop"
    return "the next attempt is starting"


def _is_delayed(task: Task, now_ns: int) -> bool:
    return task.desired_state == TASK_STATE_READY and task.start_after_ns > now_ns


# Nodes


def _resources(info: NodeInfo) -> list[ResourceUse]:
    total = info.node.description.resources
    uses = [
        _use("CPUs", total.nano_cpus, info.free_nano_cpus),
        _use("memory", total.memory_bytes, info.free_memory_bytes),
    ]
    for kind, amount in sorted(amounts_of(total).items()):
        uses.append(_use(kind, amount, info.free_generic.get(kind, 0)))
    return uses


def _use(kind: str, total: int, free: int) -> ResourceUse:
    return ResourceUse(kind=kind, total=total, reserved=total - free)


def _reserved(nodes: NodeSet, task: Task, view: View) -> str:
    reserved = reservations(nodes.demand(view, task.service_id, task.revision))
    return f"reserves {reserved}" if reserved else "reserves nothing"


def _has_node(task: Task) -> bool:
    return not ended(task) and task.status.state >= TASK_STATE_ASSIGNED


def _in_order(tasks: Iterable[Task]) -> list[Task]:
    return sorted(tasks, key=lambda task: (task.service_name, task.slot, task.node_id))


def _name(task: Task) -> str:
    return f"{task.service_name}.{task.slot or task.node_id}"
