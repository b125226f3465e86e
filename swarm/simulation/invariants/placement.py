"""Where tasks may be, checked per committed entry: what nodes have is never given twice, and
a task goes only where its service's placement lets it.

A row of a node may change while a placement that was computed before is on its way: the row
before it counts too. Such a task is evicted as soon as it is seen, which rest.py looks at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.service_pb2 import ServiceRevision
from swarm.api.v1.task_pb2 import TASK_STATE_ASSIGNED, TASK_STATE_RUNNING, Task
from swarm.manager.core.orchestrator.node import keeps_tasks
from swarm.manager.core.scheduler.demand import NO_DEMAND, Demand, amounts_of, demand_of
from swarm.manager.core.store import Store, StoreChange, wanted
from swarm.simulation.violation import Violation
from swarm.simulation.words import short


class PlacementInvariants:
    """Follows the log's changes once, whoever applies them first."""

    def __init__(self) -> None:
        self._demands: dict[tuple[str, int], Demand] = {}
        # The newest row of each node, and the one before it.
        self._nodes: dict[str, list[Node]] = {}
        self._on: dict[str, dict[str, Task]] = {}

    def begin(self, store: Store) -> None:
        for node in store.nodes():
            self._nodes[node.id] = [node]

    def applied(self, changes: Sequence[StoreChange]) -> None:
        placed: list[Task] = []
        for change in changes:
            old, new = change.old, change.new
            if isinstance(new, ServiceRevision):
                self._demands[new.service_id, new.revision] = demand_of(new.spec)
            elif isinstance(new, Node):
                self._nodes[new.id] = [new, *self._nodes.get(new.id, ())][:2]
            elif isinstance(old, Task) or isinstance(new, Task):
                before = old if isinstance(old, Task) and _holds(old) else None
                after = new if isinstance(new, Task) and _holds(new) else None
                if before is not None:
                    self._on[before.node_id].pop(before.id, None)
                if after is not None:
                    self._on.setdefault(after.node_id, {})[after.id] = after
                    if before is None:
                        placed.append(after)
        for task in placed:
            self._check(task)
        self._check_replicas(placed)

    def _demand(self, task: Task) -> Demand:
        return self._demands.get((task.service_id, task.revision), NO_DEMAND)

    def _check(self, task: Task) -> None:
        rows = self._nodes.get(task.node_id, [])
        demand = self._demand(task)
        if not any(keeps_tasks(row, demand) for row in rows):
            raise Violation(
                "constraints hold, and no task goes to a drained node",
                f"task {short(task.id)} of {task.service_name} went to {task.node_id}",
            )
        if rows:
            self._check_room(rows[0])

    def _check_replicas(self, placed: Sequence[Task]) -> None:
        """An entry does not say in what order its tasks were placed: the most may be where those
        with the lowest limit came first."""
        of_place: dict[tuple[str, str], list[Task]] = {}
        for task in placed:
            of_place.setdefault((task.node_id, task.service_id), []).append(task)
        for (node_id, service_id), tasks in of_place.items():
            there = [t for t in self._on[node_id].values() if t.service_id == service_id]
            count = sum(map(wanted, there)) - sum(map(wanted, tasks))
            for task in sorted(tasks, key=self._limit):
                count += wanted(task)
                if count > self._limit(task):
                    raise Violation(
                        "no more replicas on a node than may be",
                        f"{len(there)} of {task.service_name} r{task.revision} on {node_id}: "
                        f"{', '.join(f'{t.slot} r{t.revision}' for t in there)}; "
                        f"{self._limit(task)} may be",
                    )

    def _limit(self, task: Task) -> float:
        limit = self._demand(task).max_replicas_per_node
        return limit if task.slot and limit else math.inf

    def _check_room(self, node: Node) -> None:
        has = node.description.resources
        tasks = self._on[node.id].values()
        demands = [self._demand(task) for task in tasks]
        cpus = sum(demand.nano_cpus for demand in demands)
        memory = sum(demand.memory_bytes for demand in demands)
        generic: Counter[str] = Counter()
        for demand in demands:
            generic.update(dict(demand.generic))
        held = [generic for task in tasks for generic in task.assigned_generic]
        given = Counter((generic.kind, name) for generic in held for name in generic.names)
        room = amounts_of(has)
        short_of = [kind for kind, amount in generic.items() if amount > room.get(kind, 0)]
        if cpus > has.nano_cpus or memory > has.memory_bytes or short_of:
            raise Violation(
                "no node above its reservations",
                f"{node.id} has {has}, reserved are {cpus} nano cpus, {memory} bytes, {generic}",
            )
        twice = [name for name, count in given.items() if count > 1]
        if twice:
            raise Violation(
                "a named resource is one task's", f"{twice[0]} on {node.id} was given twice"
            )


def _holds(task: Task) -> bool:
    return TASK_STATE_ASSIGNED <= task.status.state <= TASK_STATE_RUNNING
