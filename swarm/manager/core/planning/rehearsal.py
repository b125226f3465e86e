"""What would become of the store, found out by doing it to a copy.

The copy has a leader's brain of its own, which starts from the store alone as every new leader's
does, and workers that do at once what they are told. Time is virtual: what is waited for is jumped
to. So a plan is made by the very code that would do it.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.managers_pb2 import HeardNode
from swarm.api.v1.node_pb2 import NODE_STATE_READY
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.store_pb2 import Change, LogPayload, TaskStatusChange, Transaction, Verdict
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_COMPLETE,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    Task,
    TaskState,
    TaskStatus,
)
from swarm.manager.core.brain import Brain
from swarm.manager.core.modes import is_job
from swarm.manager.core.orchestrator.update_status import in_progress
from swarm.manager.core.raft import Role, Status
from swarm.manager.core.store import Ids, Store, StoreChange, ended

_TERM = 1
_SECOND_NS = 1_000_000_000
# Turns of the brain; what needs more is cut off.
_TURNS_MAX = 5_000
# A rolling update goes on in at most so many turns, for the sake of those.
_UPDATE_TURNS = 50
# Timers further away are none of a plan's business.
_HORIZON_S = 24 * 3600.0
# Timers in a row that change nothing.
_IDLE_MAX = 20
_STATUSES_TOGETHER = 1_000
# Nodes that are up are heard of until long after.
_YEARS_NS = 10 * 365 * 24 * 3600 * _SECOND_NS


class Rehearsal:
    """`store` is its own from now on."""

    def __init__(self, store: Store, ids: Ids, now_ns: int) -> None:
        self.store = store
        # Tasks that got a node while `_noting`, as they are now.
        self.placed: dict[str, Task] = {}
        self._noting = False
        self._now, self._began_ns = 0.0, now_ns
        self._brain = Brain(ids, self._raft_status)
        self._brain.start(store, _TERM, self._now)
        for node in store.nodes():
            if node.status.state == NODE_STATE_READY:
                self._brain.heard(HeardNode(node_id=node.id, age_ns=-_YEARS_NS), self._now)
        self._changes: list[StoreChange] = []
        self._to_obey: dict[str, None] = dict.fromkeys(task.id for task in store.tasks())

    @property
    def now_ns(self) -> int:
        return self._began_ns + int(self._now * _SECOND_NS)

    def note_tasks(self) -> None:
        """From now on keep the tasks that get a node."""
        self._noting = True

    def commit(self, transaction: Transaction) -> Verdict:
        """A user's change."""
        return self._apply([_in_few_turns(transaction)])[0]

    def come_to_rest(self) -> bool:
        """Until nothing is left to be done; False where that takes too long."""
        idle = 0
        for _ in range(_TURNS_MAX):
            changes, self._changes = self._changes, []
            output = self._brain.handle(changes, self.store, self._now, self.now_ns)
            for piece in output.proposals:
                self._brain.settled(piece, self._apply(piece), self.store)
            if self._changes or output.next_wakeup == self._now or self._obey():
                idle = 0
                continue
            wake = output.next_wakeup
            idle += 1
            if not self._is_waited_for() or wake is None or idle > _IDLE_MAX:
                return True
            if wake - self._now > _HORIZON_S:
                return True
            self._now = wake
        return False

    def _is_waited_for(self) -> bool:
        """Does time alone bring more?"""
        if self.store.tasks_delayed():
            return True
        services = map(self.store.service, self.store.unsettled_services())
        return any(service is not None and in_progress(service) for service in services)

    def _apply(self, transactions: Sequence[Transaction]) -> Sequence[Verdict]:
        payload = LogPayload(proposed_at_ns=self.now_ns, transactions=transactions)
        applied = self.store.apply(self.store.applied_index + 1, _TERM, payload)
        self._changes.extend(applied.changes)
        for change in applied.changes:
            if isinstance(change.new, Task):
                self._to_obey[change.new.id] = None
                if self._noting and (_gets_node(change) or change.new.id in self.placed):
                    self.placed[change.new.id] = change.new
        return applied.verdicts

    def _obey(self) -> bool:
        """Workers do what is asked of them. True if anything was."""
        looked_at, self._to_obey = self._to_obey, {}
        reports = [report for task_id in looked_at if (report := self._report(task_id))]
        for start in range(0, len(reports), _STATUSES_TOGETHER):
            together = reports[start : start + _STATUSES_TOGETHER]
            self._apply([Transaction(who="agents", changes=together)])
        return bool(reports)

    def _report(self, task_id: str) -> Change | None:
        task = self.store.task(task_id)
        state = self._next_state(task) if task is not None else None
        if state is None:
            return None
        status = TaskStatus(state=state, timestamp_ns=self.now_ns)
        return Change(task_status=TaskStatusChange(task_id=task_id, status=status))

    def _next_state(self, task: Task) -> TaskState.ValueType | None:
        node = self.store.node(task.node_id)
        on_worker = task.status.state >= TASK_STATE_ASSIGNED and not ended(task)
        if not on_worker or node is None or node.status.state != NODE_STATE_READY:
            return None
        if task.desired_state >= TASK_STATE_SHUTDOWN:
            return TASK_STATE_SHUTDOWN
        if task.desired_state != TASK_STATE_RUNNING:
            return None
        if task.status.state < TASK_STATE_RUNNING:
            return TASK_STATE_RUNNING
        spec = self.store.spec(task.service_id, task.revision)
        # What runs now may run for long; what the plan starts makes room for the job's next.
        is_over = task.id in self.placed and spec is not None and is_job(spec)
        return TASK_STATE_COMPLETE if is_over else None

    def _raft_status(self) -> Status:
        """Of a lone leader: what becomes of the group of managers is not rehearsed."""
        return Status(1, Role.LEADER, _TERM, 1, 1, 0, 1, 1, 1, ConfState(voters=[1]), {})


def _gets_node(change: StoreChange) -> bool:
    old, new = change.old, change.new
    had_one = isinstance(old, Task) and old.status.state >= TASK_STATE_ASSIGNED
    return isinstance(new, Task) and new.status.state >= TASK_STATE_ASSIGNED and not had_one


def _in_few_turns(transaction: Transaction) -> Transaction:
    """The same, with updates that do more at once: which tasks go and come is what counts."""
    quick = Transaction()
    quick.CopyFrom(transaction)
    for change in quick.changes:
        if not change.create.HasField("service_revision"):
            continue
        spec = change.create.service_revision.spec
        least = -(-max(spec.replicated.replicas, 1) // _UPDATE_TURNS)
        for config in (spec.update, spec.rollback):
            if config.parallelism:
                config.parallelism = max(config.parallelism, least)
    return quick
