"""Rolling updates: which slots run an older revision, and whose turn it is.

In memory only; a new leader finds the same from the tasks. A slot is outdated while the task
that fills it names another revision than the service's, and in flux from its replacement until
the new task runs (and `delay` is over). `parallelism` slots are in flux at a time; a
replacement that does not come up holds the rest back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from swarm.api.v1.service_pb2 import Service, ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.manager.core.orchestrator import node as nodes
from swarm.manager.core.orchestrator import slot as slots
from swarm.manager.core.orchestrator.agenda import Intent
from swarm.manager.core.orchestrator.work import Work
from swarm.manager.core.store import SlotKey, ended
from swarm.manager.core.store.objects import wanted


class Progress(Enum):
    """Where one slot is on its way to the service's revision."""

    OUTDATED = "outdated"
    IN_FLUX = "in flux"
    # A first task without a node: holds the update up where the update made it, but not
    # where scaling did.
    UNPLACED = "unplaced"
    DONE = "done"


@dataclass(slots=True)
class Rollout:
    """One service's update; insertion ordered."""

    outdated: dict[SlotKey, None] = field(default_factory=dict[SlotKey, None])
    in_flux: dict[SlotKey, None] = field(default_factory=dict[SlotKey, None])

    def note(self, key: SlotKey, progress: Progress) -> None:
        """The slot was looked at."""
        if progress is Progress.UNPLACED and key in self.in_flux:
            return
        self.outdated.pop(key, None)
        self.in_flux.pop(key, None)
        if progress is Progress.OUTDATED:
            self.outdated[key] = None
        elif progress is Progress.IN_FLUX:
            self.in_flux[key] = None

    def take(self, parallelism: int) -> list[SlotKey]:
        """The slots to be updated now. They count as in flux until they are noted again."""
        free = len(self.outdated) if not parallelism else parallelism - len(self.in_flux)
        keys = list(self.outdated)[: max(0, free)]
        for key in keys:
            self.note(key, Progress.IN_FLUX)
        return keys


class Rollouts:
    """The updates under way."""

    def __init__(self) -> None:
        self._rollouts: dict[str, Rollout] = {}
        self._noted: dict[str, None] = {}

    def forget(self, service_id: str) -> None:
        """The service is planned anew, or gone."""
        self._rollouts.pop(service_id, None)

    def note(self, key: SlotKey, progress: Progress) -> None:
        """A slot was looked at: an update begins with the first that is outdated."""
        rollout = self._rollouts.get(key.service_id)
        if rollout is None:
            if progress in (Progress.DONE, Progress.UNPLACED):
                return
            rollout = self._rollouts[key.service_id] = Rollout()
        rollout.note(key, progress)
        self._noted[key.service_id] = None

    def advance(self, work: Work) -> None:
        """Put the slots whose turn it is on the agenda."""
        noted, self._noted = self._noted, {}
        for service_id in noted:
            rollout = self._rollouts.get(service_id)
            service = work.draft.service(service_id)
            if rollout is None or service is None:
                continue
            spec = work.draft.spec(service_id, service.revision)
            if spec is not None and rollout.outdated:
                taken = rollout.take(parallelism_of(spec))
                work.agenda.plan(service_id, dict.fromkeys(taken, Intent.UPDATE))
            if not rollout.outdated and not rollout.in_flux:
                del self._rollouts[service_id]


def parallelism_of(spec: ServiceSpec) -> int:
    """Slots updated at once; 0 for all. 1 where nothing is said."""
    return spec.update.parallelism if spec.HasField("update") else 1


def progress_of(
    work: Work, service: Service, spec: ServiceSpec, key: SlotKey, tasks: Sequence[Task]
) -> Progress:
    """Where the slot is. Sets a timer where only the update's delay is to be waited for."""
    standing = slots.standing_task(work, tasks)
    if standing is None or not _can_update(work, key):
        return Progress.DONE
    if standing.revision != service.task_revision:
        return Progress.OUTDATED
    if not wanted(standing) or ended(standing):
        return Progress.DONE
    if standing.status.state == TASK_STATE_RUNNING:
        # By the leaders' clocks, not the worker's; what lies ahead of this one's is not waited for.
        since_ns = standing.meta.updated_at_ns
        until_ns = since_ns + spec.update.delay_ns
        if not since_ns <= work.now_ns < until_ns:
            return Progress.DONE
        work.agenda.wake_at(key, until_ns)
        return Progress.IN_FLUX
    return Progress.IN_FLUX if standing.node_id or len(tasks) > 1 else Progress.UNPLACED


def _can_update(work: Work, key: SlotKey) -> bool:
    """A global service's slot waits for a node that is down or paused."""
    if not key.node_id:
        return True
    node = work.draft.node(key.node_id)
    return node is not None and nodes.takes_tasks(node)
