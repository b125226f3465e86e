"""What replicated and global services do alike with one slot's tasks."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.service_pb2 import UPDATE_ORDER_START_FIRST, Service, UpdateConfig
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_READY,
    TASK_STATE_REMOVE,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    Task,
)
from swarm.manager.core.orchestrator import node as nodes
from swarm.manager.core.orchestrator import restart
from swarm.manager.core.orchestrator.update_status import judge_end
from swarm.manager.core.orchestrator.work import Work
from swarm.manager.core.store import SlotKey, ended
from swarm.manager.core.store.objects import wanted

# A replacement waits so long for its predecessor to stop (swarmkit restart.go).
STOP_WAIT_NS = 60 * 1_000_000_000


def tasks_of(work: Work, key: SlotKey) -> list[Task]:
    """The slot's tasks, oldest first."""
    return list(work.draft.tasks_of_slot(key.service_id, key.slot, key.node_id))


def stored_tasks_of(work: Work, key: SlotKey) -> list[Task]:
    """As they are stored, without this draft's changes; oldest first."""
    return list(work.draft.base.tasks_of_slot(key.service_id, key.slot, key.node_id))


def newest_wanted(tasks: Sequence[Task]) -> Task | None:
    """The task that fills the slot."""
    return next((task for task in reversed(tasks) if wanted(task)), None)


def standing_task(work: Work, tasks: Sequence[Task]) -> Task | None:
    """The task that fills the slot, or the one that gave up and leaves it quiet."""
    current = newest_wanted(tasks)
    if current is not None or not tasks:
        return current
    last = tasks[-1]
    if last.desired_state == TASK_STATE_REMOVE:
        return None
    return last if gave_up(work, last) else None


def gave_up(work: Work, task: Task) -> bool:
    """Did it end by itself, for good?"""
    return restart.gave_up(task, work.restart_policy(task))


def never_ran(task: Task) -> bool:
    """No agent ever heard of it, so none will say how it ended."""
    return task.status.state < TASK_STATE_ASSIGNED


def stop(work: Work, task: Task) -> None:
    """The task shall not run any more; it stays as history."""
    if never_ran(task):
        work.delete(task)
    elif not ended(task) and nodes.is_lost(work.node_of(task), work.now_ns):
        work.orphan(task, TASK_STATE_SHUTDOWN)
    elif task.desired_state < TASK_STATE_SHUTDOWN:
        work.desire(task, TASK_STATE_SHUTDOWN)


def remove(work: Work, task: Task) -> None:
    """The task shall be gone without history, once its agent has let go of it."""
    if ended(task) or never_ran(task) or nodes.is_lost(work.node_of(task), work.now_ns):
        work.delete(task)
    elif task.desired_state != TASK_STATE_REMOVE:
        work.desire(task, TASK_STATE_REMOVE)


def empty(work: Work, tasks: Sequence[Task]) -> None:
    """Nothing shall be left in the slot."""
    for task in tasks:
        remove(work, task)


def settle_unwanted(work: Work, tasks: Sequence[Task]) -> None:
    """Tasks on their way out: deleted when they may be, orphaned with a lost node."""
    for task in tasks:
        if wanted(task):
            continue
        if task.desired_state == TASK_STATE_REMOVE or never_ran(task):
            remove(work, task)
        elif not ended(task) and nodes.is_lost(work.node_of(task), work.now_ns):
            work.orphan(task, TASK_STATE_SHUTDOWN)


def settle_older(
    work: Work, service: Service, config: UpdateConfig, current: Task, tasks: Sequence[Task]
) -> None:
    """Wanted tasks beside the newest: stopped, but for the one that a start-first update still
    needs, or that an update which is taken back comes back to. More would hold what the newest is
    waiting for."""
    older = [task for task in tasks if wanted(task) and task.id != current.id]
    covering = [
        task
        for task in older
        if _covers(work, config, task, current)
        or _is_gone_back_to(work, service, task, current)
        or is_moving(work, task, current)
    ]
    running = [task for task in covering if task.status.state == TASK_STATE_RUNNING]
    kept = (running or covering)[-1:]
    for task in older:
        if not kept or task.id != kept[0].id:
            stop(work, task)
            if ended(task):
                judge_end(work, task)


def replace(
    work: Work,
    service: Service,
    key: SlotKey,
    old: Task | None,
    *,
    by_update: bool = False,
    start_first: bool = False,
) -> None:
    """A new task at once, because of the cluster's wish: counts as no restart, and where an update
    made the old one and does not know yet whether it runs, the new one takes its part.

    Not where one of the service's revision is there beside the old one: an update was taken back,
    and it stands in for it.
    """
    carried: list[int] = []
    if old is not None:
        if any(_is_of(service, t) and not ended(t) and t.id != old.id for t in tasks_of(work, key)):
            stop(work, old)
            return
        if old.revision == service.task_revision:
            carried = list(old.restarts_at_ns)
            by_update = by_update or (old.by_update and old.status.state < TASK_STATE_RUNNING)
        if wanted(old) and not start_first:
            stop(work, old)
    ready = start_first or may_start(work, tasks_of(work, key))
    state = TASK_STATE_RUNNING if ready else TASK_STATE_READY
    replaces = old.replaces if old is not None else ""
    work.create(service, key, state, 0, carried, by_update, replaces)


def update(
    work: Work,
    service: Service,
    config: UpdateConfig,
    key: SlotKey,
    standing: Task,
    *,
    start_first: bool,
) -> None:
    """A task of the service's revision in place of one of another. Where an update is taken back
    before it came through, the task that still stands in for it stays."""
    tasks = tasks_of(work, key)
    kept = next((t for t in reversed(tasks) if _is_of(service, t) and not ended(t)), None)
    if kept is None:
        replace(work, service, key, standing, by_update=True, start_first=start_first)
        tasks = tasks_of(work, key)
        settle_older(work, service, config, tasks[-1], tasks)
        return
    for task in tasks:
        if wanted(task) and task.id != kept.id:
            stop(work, task)


def _is_of(service: Service, task: Task) -> bool:
    return wanted(task) and task.revision == service.task_revision


def follow_ended(work: Work, service: Service, key: SlotKey, old: Task) -> None:
    """After an end: another attempt when the policy's delay is over, or none.

    Where it ended before its own delay was over (its image was missing), that is waited for first:
    attempts are never closer than the delay (swarmkit: Supervisor.waitRestart).
    """
    policy = work.restart_policy(old)
    if restart.should_restart(old, policy) and _is_delayed(work, old):
        work.agenda.wake_at(key, old.start_after_ns)
        return
    stop(work, old)
    judge_end(work, old)
    stands_in = any(_is_of(service, t) and not ended(t) for t in tasks_of(work, key))
    if stands_in or not restart.should_restart(old, policy):
        return
    same = old.revision == service.task_revision
    restarts = restart.restarts_after(old, policy, work.now_ns) if same else []
    delay = restart.delay_ns(policy)
    if delay or not may_start(work, tasks_of(work, key)):
        at_ns = work.now_ns + delay
        work.create(service, key, TASK_STATE_READY, at_ns, restarts, replaces=old.replaces)
        work.agenda.wake_at(key, at_ns)
    else:
        work.create(service, key, TASK_STATE_RUNNING, 0, restarts, replaces=old.replaces)


def promote(work: Work, key: SlotKey, current: Task) -> None:
    """READY becomes RUNNING when its delay is over and its predecessors have stopped."""
    if current.desired_state != TASK_STATE_READY:
        return
    if _is_delayed(work, current):
        work.agenda.wake_at(key, current.start_after_ns)
        return
    give_up_ns = max(current.start_after_ns, current.meta.created_at_ns) + STOP_WAIT_NS
    if may_start(work, tasks_of(work, key)) or work.now_ns >= give_up_ns:
        work.desire(current, TASK_STATE_RUNNING)
    else:
        work.agenda.wake_at(key, give_up_ns)


def _is_delayed(work: Work, task: Task) -> bool:
    """Does it wait for its restart delay to be over?"""
    # Made by a leader whose clock is ahead of this one's: nobody knows how long is left.
    ahead = task.meta.created_at_ns > work.now_ns
    return work.now_ns < task.start_after_ns and not ahead


def may_start(work: Work, tasks: Sequence[Task]) -> bool:
    """Has every task that was told to stop stopped, as far as it can be known?"""
    return not any(
        not wanted(task)
        and not ended(task)
        and not never_ran(task)
        and not nodes.is_down(work.node_of(task))
        for task in tasks
    )


def _covers(work: Work, config: UpdateConfig, old: Task, current: Task) -> bool:
    """Does `old` stand in for `current`, which has never run (and may have failed to)?"""
    return (
        config.order == UPDATE_ORDER_START_FIRST
        and old.revision != current.revision
        and not ended(old)
        and not never_ran(old)
        and not current.running_at_ns
        and not nodes.is_down(work.node_of(old))
    )


def is_moving(work: Work, old: Task, current: Task) -> bool:
    """Is `current` to take the place of `old` on a node that is drained in turn, and not there
    yet? A start-first update's task takes it too."""
    stands = current.status.state == TASK_STATE_RUNNING and not nodes.is_down(work.node_of(current))
    return (
        current.replaces == old.id
        and not stands
        and old.status.state == TASK_STATE_RUNNING
        and not nodes.is_down(work.node_of(old))
        and not nodes.drains_at_once(work.node_of(old))
    )


def _is_gone_back_to(work: Work, service: Service, old: Task, current: Task) -> bool:
    """Is `old` what the service wants again, and `current` what it wants no more?"""
    return (
        old.revision == service.task_revision != current.revision
        and not ended(old)
        and not nodes.is_down(work.node_of(old))
    )
