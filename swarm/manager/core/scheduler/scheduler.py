"""Tasks to nodes: which groups wait, what for, and when they are tried again.

A group is all unassigned tasks of one service revision (of a global service: and one node).
A group that found no room is blocked; per node it remembers the filter that rejected it, so
that a change of one node costs one check per blocked group and nothing is rescanned.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from swarm.api.v1.service_pb2 import PendingReason, Service
from swarm.api.v1.task_pb2 import TASK_STATE_ASSIGNED, Task
from swarm.manager.core.scheduler.demand import Demand
from swarm.manager.core.scheduler.explain import count_reasons, explain, same_kinds
from swarm.manager.core.scheduler.filters import (
    USAGE_REASONS,
    Reason,
    rejection,
    rejections,
)
from swarm.manager.core.scheduler.nodes import NodeSet
from swarm.manager.core.scheduler.place import Rankings
from swarm.manager.core.store import Draft, SlotKey, View, slot_key
from swarm.manager.core.store.objects import wanted

ASSIGNED_MESSAGE = "scheduler assigned task to node"


class GroupKey(NamedTuple):
    service_id: str
    revision: int
    # Set for tasks of global services, which can go nowhere else.
    node_id: str


@dataclass(slots=True)
class _Blocked:
    tasks: OrderedDict[str, None]
    # Why each node was rejected.
    rejected: dict[str, Reason] = field(default_factory=dict[str, Reason])


def unassigned(task: Task) -> bool:
    """Is it to run, and no node has it yet?"""
    return task.status.state < TASK_STATE_ASSIGNED and wanted(task)


class Scheduler:
    """Follows the store by `task_changed` and `node_changed`; decides in `run`."""

    def __init__(self) -> None:
        self.nodes = NodeSet()
        self._rankings = Rankings(self.nodes)
        # Ordered dicts, as tasks are taken from the front.
        self._queue: dict[GroupKey, OrderedDict[str, None]] = {}
        self._blocked: dict[GroupKey, _Blocked] = {}
        self._blocked_of: dict[str, dict[GroupKey, None]] = {}
        self._group_of: dict[str, GroupKey] = {}
        # Nodes that may suit a blocked group now; True: more than room was given back.
        self._touched: dict[str, bool] = {}
        # Services whose stored reason may be out of date.
        self._reasons: dict[str, None] = {}

    def node_changed(self, node_id: str, view: View) -> None:
        """The node's row is new, other or gone."""
        node = view.node(node_id)
        if node is None:
            self.nodes.remove_node(node_id)
        else:
            self.nodes.put_node(node, view.tasks_of_node(node_id), view)
        self._touched[node_id] = True

    def task_changed(self, task: Task, view: View) -> None:
        """The task is new or other: count it, and queue it where it needs a node."""
        if self.nodes.put(task, view):
            self._touched.setdefault(task.node_id, False)
        if unassigned(task):
            if task.id not in self._group_of:
                self._enqueue(task)
        elif task.id in self._group_of:
            self._dequeue(task.id)

    def task_removed(self, task: Task) -> None:
        """The task is gone from the store, or never came to be."""
        if self.nodes.forget(task):
            self._touched.setdefault(task.node_id, False)
        if task.id in self._group_of:
            self._dequeue(task.id)

    def reason_changed(self, service_id: str) -> None:
        """Look again at what the service row says of waiting tasks."""
        self._reasons[service_id] = None

    def forget_revision(self, service_id: str, revision: int) -> None:
        """No task names it any more."""
        self.nodes.forget_revision(service_id, revision)
        self._rankings.forget((service_id, revision))

    @property
    def has_work(self) -> bool:
        """Would `run` have anything to look at?"""
        return bool(self._queue or self._reasons or (self._touched and self._blocked))

    def run(self, draft: Draft, now_ns: int, most: int) -> list[Task]:
        """Place what waits, `most` tasks at a time, into `draft`. Returns the placed ones."""
        self._wake()
        placed: list[Task] = []
        for key in list(self._queue):
            if len(placed) >= most:
                break
            placed += self._run_group(draft, key, now_ns, most - len(placed))
        return placed

    def write_reasons(self, draft: Draft) -> None:
        """Service.pending of services whose reason changed in kind; call it after `run`."""
        for service_id in self._reasons:
            service = draft.service(service_id)
            if service is not None:
                _write_reason(draft, service, self._reason(service_id))
        self._reasons.clear()

    def rejections(self, service_id: str) -> dict[Reason, int]:
        """How many nodes reject the newest waiting revision of the service, per filter."""
        return self._waiting(service_id)[1]

    # Queueing

    def _enqueue(self, task: Task) -> None:
        key = GroupKey(task.service_id, task.revision, task.node_id)
        self._group_of[task.id] = key
        self._queue.setdefault(key, OrderedDict())[task.id] = None

    def _dequeue(self, task_id: str) -> None:
        key = self._group_of.pop(task_id)
        queued = self._queue.get(key)
        if queued is not None and queued.pop(task_id, 0) is None and not queued:
            del self._queue[key]
        blocked = self._blocked.get(key)
        if blocked is not None and blocked.tasks.pop(task_id, 0) is None and not blocked.tasks:
            self._unblock(key)

    def _unblock(self, key: GroupKey) -> _Blocked | None:
        blocked = self._blocked.pop(key, None)
        if blocked is not None:
            of_service = self._blocked_of[key.service_id]
            del of_service[key]
            if not of_service:
                del self._blocked_of[key.service_id]
            self._reasons[key.service_id] = None
        return blocked

    def _wake(self) -> None:
        """Queue the blocked groups that fit on a node that changed."""
        touched, self._touched = self._touched, {}
        if not touched:
            return
        for key, blocked in self._blocked.items():
            nodes = touched
            if key.node_id:
                nodes = {key.node_id: touched[key.node_id]} if key.node_id in touched else {}
            for node_id, row_changed in nodes.items():
                if row_changed or blocked.rejected.get(node_id) in USAGE_REASONS:
                    self._recheck(key, blocked, node_id)

    def _recheck(self, key: GroupKey, blocked: _Blocked, node_id: str) -> None:
        info = self.nodes.get(node_id)
        old = blocked.rejected.pop(node_id, None)
        new = None
        if info is not None:
            demand = self.nodes.known_demand(key.service_id, key.revision)
            new = rejection(info, key.service_id, demand)
            if new is None:
                self._queue.setdefault(key, OrderedDict())
                return
            blocked.rejected[node_id] = new
        if new != old:
            self._reasons[key.service_id] = None

    # Placing

    def _run_group(self, draft: Draft, key: GroupKey, now_ns: int, most: int) -> list[Task]:
        blocked, waiting = self._unblock(key), self._queue.pop(key)
        if blocked is not None:
            blocked.tasks.update(waiting)
            waiting = blocked.tasks
        tasks = self._take_waiting(draft, waiting, most)
        if not tasks:
            return []
        node_ids = self._choose(draft, key, tasks, now_ns)
        placed = [self._assign(draft, t, n, now_ns) for t, n in zip(tasks, node_ids, strict=False)]
        left = tasks[len(placed) :]
        for task in reversed(left):
            waiting[task.id] = None
            waiting.move_to_end(task.id, last=False)
        if left:
            self._block(draft, key, waiting, blocked.rejected if blocked is not None else {})
        elif waiting:
            self._queue[key] = waiting
        return placed

    def _take_waiting(self, draft: Draft, ids: OrderedDict[str, None], most: int) -> list[Task]:
        tasks: list[Task] = []
        while ids and len(tasks) < most:
            task_id, _ = ids.popitem(last=False)
            task = draft.task(task_id)
            if task is not None and unassigned(task):
                tasks.append(task)
            else:
                self._group_of.pop(task_id, None)
        return tasks

    def _choose(
        self, draft: Draft, key: GroupKey, tasks: Sequence[Task], now_ns: int
    ) -> Sequence[str]:
        """Nodes for the first of the tasks, as many as fit."""
        demand = self.nodes.demand(draft, key.service_id, key.revision)
        if key.node_id:
            fits = self._reason_on(key.node_id, key.service_id, demand) is None
            return [key.node_id] if fits else []
        claim = self.nodes.claim(draft, key.service_id, key.revision, active=True)
        ranking = self._rankings.of((key.service_id, key.revision), demand, now_ns)
        return ranking.take([task.id for task in tasks], claim)

    def _reason_on(self, node_id: str, service_id: str, demand: Demand) -> Reason | None:
        info = self.nodes.get(node_id)
        return rejection(info, service_id, demand) if info else Reason.NOT_AVAILABLE

    def _assign(self, draft: Draft, task: Task, node_id: str, now_ns: int) -> Task:
        assigned = Task()
        assigned.CopyFrom(task)
        assigned.node_id = node_id
        assigned.status.state = TASK_STATE_ASSIGNED
        assigned.status.timestamp_ns = now_ns
        assigned.status.message = ASSIGNED_MESSAGE
        demand = self.nodes.demand(draft, task.service_id, task.revision)
        info = self.nodes.get(node_id)
        if demand.generic and info is not None:
            assigned.assigned_generic.extend(info.assign(task.id, demand))
        slots = [slot_key(assigned)]
        if demand.max_replicas_per_node:
            slots += _making_room(draft, assigned)
        for slot in slots:
            with draft.group(slot):
                draft.replace(assigned)
        self._group_of.pop(task.id, None)
        self.nodes.put(assigned, draft)
        return assigned

    def _block(
        self,
        draft: Draft,
        key: GroupKey,
        tasks: OrderedDict[str, None],
        known: dict[str, Reason],
    ) -> None:
        """Remember what the group waits for, as things are after its placement. Nodes that rejected
        it before, and have not changed since, are `known`: they are not looked at again."""
        demand = self.nodes.demand(draft, key.service_id, key.revision)
        if key.node_id:
            reason = self._reason_on(key.node_id, key.service_id, demand)
            rejected = {} if reason is None else {key.node_id: reason}
        else:
            others = (info for info in self.nodes if info.node.id not in known)
            rejected = known | rejections(others, key.service_id, demand)
        self._blocked[key] = _Blocked(tasks, rejected)
        self._blocked_of.setdefault(key.service_id, {})[key] = None
        self._reasons[key.service_id] = None

    # Reasons

    def _waiting(self, service_id: str) -> tuple[int, dict[Reason, int]]:
        """The newest blocked revision of the service (0: none), and its rejections."""
        keys = list(self._blocked_of.get(service_id, ()))
        newest = max((key.revision for key in keys), default=0)
        reasons = [
            reason
            for key in keys
            if key.revision == newest
            for reason in self._blocked[key].rejected.values()
        ]
        return newest, count_reasons(reasons)

    def _reason(self, service_id: str) -> PendingReason | None:
        revision, counts = self._waiting(service_id)
        return PendingReason(revision=revision, message=explain(counts)) if revision else None


def _making_room(draft: Draft, placed: Task) -> list[SlotKey]:
    """Slots that this draft stops a task of on the same node: what counts on that stands or falls
    with it."""
    return [
        slot_key(task)
        for task in draft.tasks_of_node(placed.node_id)
        if task.service_id == placed.service_id and not wanted(task) and draft.touches(task)
    ]


def _write_reason(draft: Draft, service: Service, reason: PendingReason | None) -> None:
    has = service.HasField("pending")
    if reason is None:
        if not has:
            return
    elif (
        has
        and service.pending.revision == reason.revision
        and same_kinds(service.pending.message, reason.message)
    ):
        return
    changed = Service()
    changed.CopyFrom(service)
    changed.ClearField("pending")
    if reason is not None:
        changed.pending.CopyFrom(reason)
    draft.replace(changed)
