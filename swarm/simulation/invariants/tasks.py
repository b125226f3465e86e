"""What the store may never say of tasks, checked per committed transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.service_pb2 import ServiceRevision
from swarm.api.v1.task_pb2 import TASK_STATE_ASSIGNED, TASK_STATE_RUNNING, Task
from swarm.manager.core.store import SlotKey, Store, StoreChange, slot_key
from swarm.simulation.violation import Violation
from swarm.simulation.words import short, state

_RevisionKey = tuple[str, int]


class TaskInvariants:
    """Follows the log's changes once, whoever applies them first."""

    def __init__(self) -> None:
        # Ids of tasks wanted running, per slot and revision.
        self._wanted: dict[tuple[SlotKey, int], dict[str, None]] = {}
        self._reserved: dict[_RevisionKey, tuple[int, int]] = {}
        self._room: dict[str, tuple[int, int]] = {}
        self._used: dict[str, list[int]] = {}

    def begin(self, store: Store) -> None:
        for node in store.nodes():
            self._note_node(node)

    def applied(self, changes: Sequence[StoreChange]) -> None:
        for _, transaction in groupby(changes, lambda change: change.revision):
            self._transaction(list(transaction))

    def _transaction(self, changes: Iterable[StoreChange]) -> None:
        touched: dict[tuple[SlotKey, int], None] = {}
        nodes: dict[str, None] = {}
        for change in changes:
            old, new = change.old, change.new
            if isinstance(new, ServiceRevision):
                reserved = new.spec.task.resources.reservations
                key = (new.service_id, new.revision)
                self._reserved[key] = (reserved.nano_cpus, reserved.memory_bytes)
            elif isinstance(new, Node):
                self._note_node(new)
            elif isinstance(old, Task) or isinstance(new, Task):
                before = old if isinstance(old, Task) else None
                after = new if isinstance(new, Task) else None
                self._task(before, after, touched, nodes)
        for slot, revision in touched:
            self._check_slot(slot, revision)
        for node_id in nodes:
            self._check_node(node_id)

    def _task(
        self,
        old: Task | None,
        new: Task | None,
        touched: dict[tuple[SlotKey, int], None],
        nodes: dict[str, None],
    ) -> None:
        if old is not None and new is not None:
            _check_progress(old, new)
        if old is not None:
            if _runs(old):
                self._wanted[slot_key(old), old.revision].pop(old.id, None)
            if _holds(old):
                self._use(old, -1)
        if new is not None:
            if _runs(new):
                key = (slot_key(new), new.revision)
                self._wanted.setdefault(key, {})[new.id] = None
                touched[key] = None
            if _holds(new):
                self._use(new, 1)
                if old is None or not _holds(old):
                    nodes[new.node_id] = None

    def _use(self, task: Task, sign: int) -> None:
        cpus, memory = self._reserved.get((task.service_id, task.revision), (0, 0))
        used = self._used.setdefault(task.node_id, [0, 0])
        used[0] += sign * cpus
        used[1] += sign * memory

    def _note_node(self, node: Node) -> None:
        resources = node.description.resources
        self._room[node.id] = (resources.nano_cpus, resources.memory_bytes)

    def _check_slot(self, slot: SlotKey, revision: int) -> None:
        ids = self._wanted[slot, revision]
        if len(ids) > 1:
            raise Violation(
                "one task per slot and revision is wanted running",
                f"slot {short(slot.service_id)}.{slot.slot}{slot.node_id} r{revision} has "
                f"{', '.join(map(short, ids))}",
            )

    def _check_node(self, node_id: str) -> None:
        cpus, memory = self._room.get(node_id, (0, 0))
        used = self._used[node_id]
        if used[0] > cpus or used[1] > memory:
            raise Violation(
                "no node above its reservations",
                f"{node_id} has {cpus} nano cpus and {memory} bytes, reserved are {used}",
            )


def _check_progress(old: Task, new: Task) -> None:
    if new.status.state < old.status.state or new.desired_state < old.desired_state:
        raise Violation(
            "no task's state goes back",
            f"task {short(new.id)} from {state(old.desired_state)}<-{state(old.status.state)} "
            f"to {state(new.desired_state)}<-{state(new.status.state)}",
        )
    if old.node_id and new.node_id != old.node_id:
        raise Violation("a task stays on its node", f"{new.id}: {old.node_id} to {new.node_id}")


def _runs(task: Task) -> bool:
    return task.desired_state == TASK_STATE_RUNNING and task.status.state <= TASK_STATE_RUNNING


def _holds(task: Task) -> bool:
    return TASK_STATE_ASSIGNED <= task.status.state <= TASK_STATE_RUNNING
