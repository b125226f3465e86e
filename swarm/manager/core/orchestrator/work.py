"""One pass of the brain: the draft it writes to, and what orchestrators need beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.service_pb2 import (
    RESTART_CONDITION_ANY,
    RESTART_CONDITION_ON_FAILURE,
    RestartPolicy,
    Service,
    ServiceRevision,
)
from swarm.api.v1.store_pb2 import TABLE_TASK
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ORPHANED,
    TASK_STATE_PENDING,
    Task,
    TaskState,
    TaskStatus,
)
from swarm.manager.core.modes import is_job
from swarm.manager.core.orchestrator.agenda import Agenda
from swarm.manager.core.scheduler.demand import Demand
from swarm.manager.core.scheduler.scheduler import Scheduler
from swarm.manager.core.store import Draft, Ids, SlotKey

PENDING_MESSAGE = "pending task scheduling"
ORPHANED_MESSAGE = "its node is gone"
# Of a plan, so that no turn of the loop is long: some 3 ms each.
SLICE = 500

_T = TypeVar("_T")


def slices(items: Iterable[_T]) -> Iterator[Sequence[_T]]:
    """What is there now, in pieces for one step of a plan each."""
    all_ = list(items)
    return (all_[start : start + SLICE] for start in range(0, len(all_), SLICE))


@dataclass(slots=True)
class Work:
    """Every write goes through here, so that the scheduler counts it at once."""

    draft: Draft
    scheduler: Scheduler
    agenda: Agenda
    ids: Ids
    now_ns: int
    # Writes so far: what bounds a pass.
    changes: int = 0

    def create(
        self,
        service: Service,
        key: SlotKey,
        desired: TaskState.ValueType,
        start_after_ns: int,
        restarts_at_ns: list[int],
        by_update: bool = False,
        replaces: str = "",
    ) -> Task:
        """A task of the service's newest task revision, without a node as yet.

        A global service's is bound to the slot's node, and waits for the scheduler's consent.
        """
        status = TaskStatus(
            state=TASK_STATE_PENDING, timestamp_ns=self.now_ns, message=PENDING_MESSAGE
        )
        task = Task(
            id=self.ids.new(),
            service_id=service.id,
            service_name=service.name,
            slot=key.slot,
            node_id=key.node_id,
            revision=service.task_revision,
            desired_state=desired,
            status=status,
            start_after_ns=start_after_ns,
            restarts_at_ns=restarts_at_ns,
            by_update=by_update,
            replaces=replaces,
        )
        self.changes += 1
        self.draft.create(task)
        self.scheduler.task_changed(task, self.draft)
        return task

    def desire(self, task: Task, state: TaskState.ValueType) -> None:
        """Set what the task's agent is to reach."""
        changed = Task()
        changed.CopyFrom(task)
        changed.desired_state = state
        self._replace(changed)

    def orphan(self, task: Task, desired: TaskState.ValueType) -> None:
        """Nobody will ever say how it ended: say so in its stead."""
        changed = Task()
        changed.CopyFrom(task)
        changed.desired_state = desired
        changed.status.state = TASK_STATE_ORPHANED
        changed.status.timestamp_ns = self.now_ns
        changed.status.message = ORPHANED_MESSAGE
        self._replace(changed)

    def delete(self, task: Task) -> None:
        """The task leaves the store."""
        self.changes += 1
        self.draft.delete(TABLE_TASK, task.id)
        self.scheduler.task_removed(task)

    def replace_service(self, service: Service) -> None:
        """Its row says something else. Tasks of it in this pass are guarded as before."""
        self.changes += 1
        self.draft.replace(service)

    def create_revision(self, row: ServiceRevision) -> None:
        """A spec of the brain's own making."""
        self.changes += 1
        self.draft.create(row)

    def restart_policy(self, task: Task) -> RestartPolicy:
        """Of the revision that the task runs."""
        spec = self.draft.spec(task.service_id, task.revision)
        if spec is None:
            return RestartPolicy()
        policy = spec.task.restart
        if is_job(spec) and policy.condition == RESTART_CONDITION_ANY:
            # What is complete is not run again (swarmkit restart.go).
            policy = RestartPolicy()
            policy.CopyFrom(spec.task.restart)
            policy.condition = RESTART_CONDITION_ON_FAILURE
        return policy

    def demand(self, service_id: str, revision: int) -> Demand:
        """Constraints and reservations of a revision."""
        return self.scheduler.nodes.demand(self.draft, service_id, revision)

    def node_of(self, task: Task) -> Node | None:
        return self.draft.node(task.node_id) if task.node_id else None

    def _replace(self, task: Task) -> None:
        self.changes += 1
        self.draft.replace(task)
        self.scheduler.task_changed(task, self.draft)
