"""Rolling updates: which slots run an older revision, and whose turn it is.

Whose turn it is is kept in memory and found again from the tasks; how far the update is, and how
it ended, is in the store (update_status.py). A slot is outdated while the task that fills it
names another revision than the service's, and in flux from its replacement until the new task
runs or has ended (and `delay` is over). `parallelism` slots are in flux at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, islice

from swarm.api.v1.service_pb2 import Service, ServiceSpec, UpdateConfig
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.manager.core.modes import is_job
from swarm.manager.core.orchestrator import node as nodes
from swarm.manager.core.orchestrator import slot as slots
from swarm.manager.core.orchestrator import update_status
from swarm.manager.core.orchestrator.agenda import Intent
from swarm.manager.core.orchestrator.work import Work
from swarm.manager.core.store import SlotKey, guard

# What is more follows when the first of these were looked at.
TAKEN_AT_ONCE = 500


class Progress(Enum):
    """Where one slot is on its way to the service's revision."""

    # Outdated, and nothing runs in it: it goes first.
    BROKEN = "broken"
    OUTDATED = "outdated"
    IN_FLUX = "in flux"
    DONE = "done"


@dataclass(slots=True)
class Rollout:
    """One service's update; insertion ordered."""

    broken: OrderedDict[SlotKey, None] = field(default_factory=OrderedDict[SlotKey, None])
    outdated: OrderedDict[SlotKey, None] = field(default_factory=OrderedDict[SlotKey, None])
    in_flux: dict[SlotKey, None] = field(default_factory=dict[SlotKey, None])

    @property
    def to_update(self) -> int:
        """Slots whose turn has not come yet."""
        return len(self.broken) + len(self.outdated)

    def note(self, key: SlotKey, progress: Progress) -> None:
        """The slot was looked at."""
        for slots_of, state in (
            (self.broken, Progress.BROKEN),
            (self.outdated, Progress.OUTDATED),
            (self.in_flux, Progress.IN_FLUX),
        ):
            if progress is not state:
                slots_of.pop(key, None)
            else:
                slots_of[key] = None

    def take(self, parallelism: int) -> list[SlotKey]:
        """The slots to be updated now, TAKEN_AT_ONCE at most. They count as in flux until they are
        noted again."""
        free = TAKEN_AT_ONCE if not parallelism else parallelism - len(self.in_flux)
        keys = list(islice(chain(self.broken, self.outdated), max(0, min(free, TAKEN_AT_ONCE))))
        for key in keys:
            self.note(key, Progress.IN_FLUX)
        return keys


class Rollouts:
    """The updates under way."""

    def __init__(self) -> None:
        self._rollouts: dict[str, Rollout] = {}
        self._noted: dict[str, None] = {}
        # Their spec has just been replaced by the brain itself: what is said of their slots is
        # void until they are planned anew.
        self._held: dict[str, None] = {}
        # All their slots are updated. Unix: when they are complete, unless a task fails before.
        self._complete_at: dict[str, int] = {}

    def forget(self, service_id: str) -> None:
        """The service is planned anew, or gone."""
        self._rollouts.pop(service_id, None)
        self._held.pop(service_id, None)
        self._complete_at.pop(service_id, None)

    def hold(self, service_id: str) -> None:
        """Do nothing until the service is planned anew."""
        self.forget(service_id)
        self._held[service_id] = None

    def look_at(self, service_id: str) -> None:
        """Its update may go on, or be over."""
        self._rollouts.setdefault(service_id, Rollout())
        self._noted[service_id] = None

    def note(self, key: SlotKey, progress: Progress) -> None:
        """A slot was looked at: an update begins with the first that is outdated."""
        rollout = self._rollouts.get(key.service_id)
        if rollout is None:
            if progress is Progress.DONE or key.service_id in self._held:
                return
            rollout = self._rollouts[key.service_id] = Rollout()
        rollout.note(key, progress)
        self._noted[key.service_id] = None

    @property
    def has_news(self) -> bool:
        """Has `advance` something to look at?"""
        return bool(self._noted)

    def next_timer_ns(self) -> int | None:
        """When `advance` has something next."""
        return min(self._complete_at.values(), default=None)

    def clock_set(self, by_ns: int) -> None:
        """The clock was set forward by so much: what was to be waited for goes along."""
        self._complete_at = {key: at_ns + by_ns for key, at_ns in self._complete_at.items()}

    def advance(self, work: Work) -> None:
        """Put the slots whose turn it is on the agenda; end what is over."""
        noted, self._noted = self._noted, {}
        noted |= {key: None for key, at_ns in self._complete_at.items() if at_ns <= work.now_ns}
        for service_id in noted:
            rollout = self._rollouts.get(service_id)
            service = work.draft.service(service_id)
            if rollout is None or service is None:
                continue
            spec = work.draft.spec(service_id, service.revision)
            if spec is None:
                continue
            with work.draft.group(("update", service_id), [guard(service)]):
                if rollout.to_update or rollout.in_flux:
                    self._complete_at.pop(service_id, None)
                    _go_on(work, service, spec, rollout)
                elif self._is_over(work, service, spec):
                    self.forget(service_id)

    def _is_over(self, work: Work, service: Service, spec: ServiceSpec) -> bool:
        """All slots are updated; an update that had any is watched a little longer."""
        if not update_status.in_progress(service):
            return True
        watched_ns = update_status.monitor_ns(update_status.config_of(service, spec))
        at_ns = work.now_ns + (watched_ns if service.update.slots else 0)
        if work.now_ns < self._complete_at.setdefault(service.id, at_ns):
            return False
        update_status.complete(work, service)
        return True


def _go_on(work: Work, service: Service, spec: ServiceSpec, rollout: Rollout) -> None:
    if not rollout.to_update or update_status.is_paused(service):
        return
    if is_job(spec):
        taken = rollout.take(spec.replicated_job.max_concurrent)
        work.agenda.plan(service.id, dict.fromkeys(taken, Intent.CREATE))
        return
    service = update_status.begin(work, service, rollout.to_update + len(rollout.in_flux))
    taken = rollout.take(update_status.config_of(service, spec).parallelism)
    work.agenda.plan(service.id, dict.fromkeys(taken, Intent.UPDATE))


def progress_of(
    work: Work, service: Service, spec: ServiceSpec, key: SlotKey, tasks: Sequence[Task]
) -> Progress:
    """Where the slot is. Sets a timer where only the update's delay is to be waited for."""
    standing = slots.standing_task(work, tasks)
    if standing is None or not _can_update(work, key):
        return Progress.DONE
    if standing.revision != service.task_revision:
        runs = any(task.status.state == TASK_STATE_RUNNING for task in tasks)
        return Progress.OUTDATED if runs else Progress.BROKEN
    made = next((t for t in reversed(tasks) if _was_updated(service, t)), None)
    if made is None:
        return Progress.DONE
    until_ns = in_flux_until_ns(made, update_status.config_of(service, spec))
    if until_ns is None:
        return Progress.IN_FLUX
    # By the leaders' clocks, not the worker's; what lies ahead of this one's is not waited for.
    since_ns = made.running_at_ns or made.meta.updated_at_ns
    if not since_ns <= work.now_ns < until_ns:
        return Progress.DONE
    work.agenda.wake_at(key, until_ns)
    return Progress.IN_FLUX


def in_flux_until_ns(made: Task, config: UpdateConfig) -> int | None:
    """When the slot of a task that an update made is updated; None: not known yet."""
    if made.status.state < TASK_STATE_RUNNING:
        return None
    return (made.running_at_ns or made.meta.updated_at_ns) + config.delay_ns


def _was_updated(service: Service, task: Task) -> bool:
    return task.by_update and task.revision == service.task_revision


def _can_update(work: Work, key: SlotKey) -> bool:
    """A global service's slot waits for a node that is down or paused."""
    if not key.node_id:
        return True
    node = work.draft.node(key.node_id)
    return node is not None and nodes.takes_tasks(node)
