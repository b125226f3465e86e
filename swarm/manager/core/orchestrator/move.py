"""Tasks that leave a node which is drained in turn: the replacement runs first, then they stop.

How far a slot is is in the store: the replacement names the task that it takes over from
(`Task.replaces`). Whose turn it is is kept in memory, and found again from the tasks. Of one
service no more slots are on their way at once than the node's `max_unavailable` says. Tasks that do
not run have nothing to lose and are replaced at once; those of a job run to their end; those of a
global service have nowhere to go and are stopped.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.service_pb2 import Service, ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.manager.core.orchestrator import node as nodes
from swarm.manager.core.orchestrator import restart
from swarm.manager.core.orchestrator import slot as slots
from swarm.manager.core.orchestrator.agenda import Agenda, Intent
from swarm.manager.core.orchestrator.update import Progress, Rollout
from swarm.manager.core.orchestrator.update_status import in_progress
from swarm.manager.core.orchestrator.work import Work
from swarm.manager.core.store import SlotKey, ended
from swarm.manager.core.store.objects import wanted


class Moves:
    """The slots that are to leave their nodes, per service."""

    def __init__(self) -> None:
        self._of: dict[str, Rollout] = {}
        self._noted: dict[str, None] = {}

    def forget(self, service_id: str) -> None:
        """The service is gone."""
        self._of.pop(service_id, None)

    def look_again(self, agenda: Agenda, service_id: str) -> None:
        """The service is planned anew: what was wanted of slots whose turn had come is void."""
        moves = self._of.get(service_id)
        for key in moves.in_flux if moves is not None else ():
            agenda.add_slot(key)

    def note(self, key: SlotKey, progress: Progress) -> None:
        """A slot was looked at."""
        moves = self._of.get(key.service_id)
        if moves is None:
            if progress is Progress.DONE:
                return
            moves = self._of[key.service_id] = Rollout()
        moves.note(key, progress)
        self._noted[key.service_id] = None

    @property
    def has_news(self) -> bool:
        """Has `advance` something to look at?"""
        return bool(self._noted)

    def advance(self, work: Work) -> None:
        """Put the slots whose turn it is on the agenda."""
        noted, self._noted = self._noted, {}
        for service_id in noted:
            moves = self._of.get(service_id)
            if moves is None:
                continue
            for key in list(moves.outdated):
                if len(moves.in_flux) < _most(work, key):
                    moves.note(key, Progress.IN_FLUX)
                    work.agenda.plan(service_id, {key: Intent.MOVE})
            if not moves.outdated and not moves.in_flux:
                del self._of[service_id]


def _most(work: Work, key: SlotKey) -> int:
    """How many slots of the service may be on their way, for this one to be another."""
    current = slots.newest_wanted(slots.tasks_of(work, key))
    node = work.node_of(current) if current is not None else None
    return node.spec.drain.max_unavailable if node is not None else 0


def may_wait(work: Work, task: Task) -> bool:
    """May the task run on where it is until its turn comes?"""
    node = work.node_of(task)
    return (
        nodes.drains_in_turn(node)
        and task.status.state == TASK_STATE_RUNNING
        and node is not None
        and work.demand(task.service_id, task.revision).suits(node)
    )


def is_due(work: Work, service: Service, spec: ServiceSpec, tasks: Sequence[Task]) -> bool:
    """Is the slot's only task one that runs, and has to leave its node?

    Not while an update is to replace it anyway.
    """
    live = [task for task in tasks if wanted(task)]
    if len(live) != 1 or not may_wait(work, live[0]) or nodes.is_down(work.node_of(live[0])):
        return False
    outdated = live[0].revision != service.task_revision
    return spec.HasField("replicated") and not (outdated and in_progress(service))


def is_under_way(work: Work, tasks: Sequence[Task]) -> bool:
    """Has a replacement begun that does not run yet?"""
    current = slots.newest_wanted(tasks)
    return current is not None and any(
        wanted(task) and slots.is_moving(work, task, current) for task in tasks
    )


def begin(work: Work, service: Service, key: SlotKey, old: Task) -> None:
    """Start a task beside `old`, to take its place once it runs."""
    carried = list(old.restarts_at_ns) if old.revision == service.task_revision else []
    work.create(service, key, TASK_STATE_RUNNING, 0, carried, replaces=old.id)


def progress_of(
    work: Work, service: Service, spec: ServiceSpec, key: SlotKey, tasks: Sequence[Task]
) -> Progress:
    """Where the slot is. Sets a timer where a replacement failed: attempts are never closer than
    the service's restart delay."""
    current = slots.newest_wanted(tasks)
    if is_under_way(work, tasks):
        return Progress.IN_FLUX
    if current is None or not is_due(work, service, spec, tasks):
        return Progress.DONE
    failed = [t.meta.updated_at_ns for t in tasks if t.replaces == current.id and ended(t)]
    again_ns = max(failed, default=0) + restart.delay_ns(work.restart_policy(current))
    if failed and max(failed) <= work.now_ns < again_ns:
        work.agenda.wake_at(key, again_ns)
        return Progress.DONE
    return Progress.OUTDATED
