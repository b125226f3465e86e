"""Tasks that find no node: for every node the first filter that refuses them, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarm.api.v1.control_pb2 import NodeRefusal, WaitingTasks
from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.scheduler.explain import refusal
from swarm.manager.core.scheduler.nodes import NodeInfo, NodeSet
from swarm.manager.core.store import View

_SLOTS_MAX = 20


def count_nodes(view: View) -> NodeSet:
    """All nodes with what is claimed of them, counted anew."""
    nodes = NodeSet()
    for node in view.nodes():
        nodes.put_node(node, view.tasks_of_node(node.id), view)
    return nodes


def waiting_groups(
    view: View, tasks: Sequence[Task], nodes: NodeSet | None = None
) -> list[WaitingTasks]:
    """`tasks`, which have no node, in groups that wait for the same: one per service revision, and
    of global services one per node."""
    if not tasks:
        return []
    counted = nodes or count_nodes(view)
    groups: dict[tuple[str, str, int, str], list[Task]] = {}
    for task in tasks:
        key = (task.service_name, task.service_id, task.revision, task.node_id)
        groups.setdefault(key, []).append(task)
    return [_group(view, groups[key], counted) for key in sorted(groups)]


def hostname_of(node: Node) -> str:
    return node.description.hostname or node.id


def _group(view: View, tasks: Sequence[Task], nodes: NodeSet) -> WaitingTasks:
    first = tasks[0]
    slots = sorted(task.slot for task in tasks)[:_SLOTS_MAX]
    return WaitingTasks(
        service_id=first.service_id,
        service_name=first.service_name,
        tasks=len(tasks),
        slots=slots,
        refusals=_refusals(view, first, nodes),
    )


def _refusals(view: View, task: Task, nodes: NodeSet) -> Iterable[NodeRefusal]:
    demand = nodes.demand(view, task.service_id, task.revision)
    own = nodes.get(task.node_id)
    candidates: Iterable[NodeInfo] = nodes if own is None else (own,)
    for info in candidates:
        reason = refusal(info, task.service_id, demand)
        if reason is not None:
            yield NodeRefusal(node_id=info.node.id, hostname=hostname_of(info.node), reason=reason)
