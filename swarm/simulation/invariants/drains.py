"""What a drain in turn may do, checked per committed entry: a task that runs is stopped once
another runs in its stead, and no more of a service are on their way at once than it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swarm.api.v1.node_pb2 import NODE_STATE_READY, Node
from swarm.api.v1.service_pb2 import Service, ServiceRevision
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, TASK_STATE_SHUTDOWN, Task
from swarm.manager.core.orchestrator.node import drains_in_turn
from swarm.manager.core.scheduler.demand import demand_of
from swarm.manager.core.store import SlotKey, StoreChange, slot_key, wanted
from swarm.simulation.violation import Violation
from swarm.simulation.words import short


class DrainInvariants:
    """Follows the log's changes once, whoever applies them first."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._services: dict[str, Service] = {}
        self._revisions: dict[tuple[str, int], ServiceRevision] = {}
        # Tasks that are wanted, per slot of each service.
        self._wanted: dict[str, dict[SlotKey, dict[str, Task]]] = {}

    def applied(self, changes: Sequence[StoreChange]) -> None:
        after = {c.new.id: c.new for c in changes if isinstance(c.new, Node)}
        stopped = [task for change in changes if (task := self._stopped_by_drain(change, after))]
        begun = [task for change in changes if (task := self._sets_out(change))]
        self._take_in(changes)
        for task in stopped:
            self._check_stop(task)
        for task in begun:
            self._check_most(task)

    def _take_in(self, changes: Sequence[StoreChange]) -> None:
        for change in changes:
            row = change.new or change.old
            if isinstance(row, Task):
                slots = self._wanted.setdefault(row.service_id, {})
                tasks = slots.setdefault(slot_key(row), {})
                if change.new is not None and wanted(row):
                    tasks[row.id] = row
                else:
                    tasks.pop(row.id, None)
            elif isinstance(row, ServiceRevision):
                self._revisions[row.service_id, row.revision] = row
            elif isinstance(row, Node):
                self._nodes.pop(row.id, None)
                if change.new is not None:
                    self._nodes[row.id] = row
            elif isinstance(row, Service):
                self._services.pop(row.id, None)
                if change.new is not None:
                    self._services[row.id] = row

    def _sets_out(self, change: StoreChange) -> Task | None:
        """The new task of a slot that was not on its way yet: an update may replace what is."""
        new = change.new
        if change.old is not None or not isinstance(new, Task) or not new.replaces:
            return None
        tasks = self._wanted.get(new.service_id, {}).get(slot_key(new), {})
        return None if _is_moving(tasks) else new

    def _stopped_by_drain(self, change: StoreChange, after: Mapping[str, Node]) -> Task | None:
        """The task as it was, where it ran on such a node and nothing else makes it go: that the
        node went down may be of the same entry (`after`)."""
        old, new = change.old, change.new
        if not isinstance(old, Task) or not isinstance(new, Task):
            return None
        node, service = self._nodes.get(old.node_id), self._services.get(old.service_id)
        told = wanted(old) and new.desired_state == TASK_STATE_SHUTDOWN
        if not told or old.status.state != TASK_STATE_RUNNING or service is None or node is None:
            return None
        spec = self._revisions[old.service_id, old.revision].spec
        stays = (
            all(
                drains_in_turn(row)
                and row.status.state == NODE_STATE_READY
                and demand_of(spec).suits(row)
                for row in (node, after.get(node.id, node))
            )
            and spec.HasField("replicated")
            and old.revision == service.task_revision
        )
        return old if stays else None

    def _check_stop(self, task: Task) -> None:
        left = self._wanted[task.service_id][slot_key(task)]
        if not any(other.status.state == TASK_STATE_RUNNING for other in left.values()):
            raise Violation(
                "a drain in turn stops what runs once another runs",
                f"task {short(task.id)} of {task.service_name}.{task.slot} on {task.node_id}",
            )

    def _check_most(self, begun: Task) -> None:
        old = self._wanted[begun.service_id].get(slot_key(begun), {}).get(begun.replaces)
        node = self._nodes.get(old.node_id) if old is not None else None
        if node is None or not drains_in_turn(node):
            return
        slots = self._wanted[begun.service_id].values()
        moving = sum(map(_is_moving, slots))
        if moving > node.spec.drain.max_unavailable:
            raise Violation(
                "a drain in turn moves no more of a service at once than it says",
                f"{moving} slots of {begun.service_name}, "
                f"{node.spec.drain.max_unavailable} may be on their way from {node.id}",
            )


def _is_moving(tasks: dict[str, Task]) -> bool:
    newest = next(reversed(tasks.values()), None)
    if newest is None or newest.replaces not in tasks:
        return False
    return (
        newest.status.state < TASK_STATE_RUNNING
        and tasks[newest.replaces].status.state == TASK_STATE_RUNNING
    )
