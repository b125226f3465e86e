"""From a service or slot on the agenda to the orchestrator of its mode."""

from __future__ import annotations

from swarm.api.v1.service_pb2 import Service, ServiceSpec
from swarm.manager.core.modes import is_job
from swarm.manager.core.orchestrator import (
    dependencies,
    global_,
    jobs,
    move,
    replicated,
    update_status,
)
from swarm.manager.core.orchestrator import slot as slots
from swarm.manager.core.orchestrator.agenda import BEGUN, Intent, Plan, Slice
from swarm.manager.core.orchestrator.move import Moves
from swarm.manager.core.orchestrator.reaper import reap_slot
from swarm.manager.core.orchestrator.update import Progress, Rollouts, progress_of
from swarm.manager.core.orchestrator.work import Work, slices
from swarm.manager.core.store import SlotKey, ended, guard, slot_key


def plan_service(work: Work, rollouts: Rollouts, moves: Moves, service_id: str) -> None:
    """Begin to put those slots of a new, changed or removed service on the agenda that need it."""
    rollouts.forget(service_id)
    service = work.draft.service(service_id)
    if service is None:
        moves.forget(service_id)
        plan = _remove_all(service_id)
    elif service.held:
        plan = None
        _release(work, service)
    else:
        spec = work.draft.spec(service_id, service.revision)
        plan = _plan(rollouts, service, spec) if spec is not None else None
        moves.look_again(work.agenda, service_id)
        if update_status.in_progress(service):
            rollouts.look_at(service_id)
    if plan is not None:
        next(plan)
        work.agenda.plan_anew(service_id, plan)


def settle_slot(work: Work, rollouts: Rollouts, moves: Moves, key: SlotKey, intent: Intent) -> None:
    """Make a slot's tasks what they should be; all changes to it are one transaction.

    The transaction holds only while the service is what it was (the guard), so that an
    update or removal in the meantime drops it.
    """
    service = work.draft.service(key.service_id)
    tasks = slots.tasks_of(work, key)
    if service is None:
        with work.draft.group(key):
            slots.empty(work, tasks)
        return
    spec = work.draft.spec(service.id, service.revision)
    if spec is None or service.held:
        return
    if intent is Intent.UPDATE and update_status.is_paused(service):
        intent = Intent.CHECK
    before, stored = work.changes, slots.stored_tasks_of(work, key)
    guards = [guard(service)]
    if is_job(spec):
        # One that is stopping may say at any moment that it is complete: then nothing is begun.
        # Those that this draft made are not there to be guarded.
        guards += [guard(task) for task in tasks if task.meta.version and not ended(task)]
    with work.draft.group(key, guards):
        if spec.WhichOneof("mode") == "replicated":
            replicated.settle(work, service, spec, key, intent, tasks)
        elif spec.WhichOneof("mode") == "global":
            global_.settle(work, service, spec, key, intent, tasks)
        else:
            jobs.settle(work, service, key, intent, spec)
        if work.changes != before:
            tasks = slots.tasks_of(work, key)
        # What says that a job's slot is complete is no history, however many came after it.
        history = [t for t in tasks if not (is_job(spec) and jobs.is_complete(service, [t]))]
        reap_slot(work, history, spec.task.restart.max_attempts)
    moved = move.progress_of(work, service, spec, key, tasks)
    if moved is Progress.DONE and move.is_under_way(work, stored):
        # What this draft takes away stands until that is stored: no other slot moves before.
        moved = Progress.IN_FLUX
    moves.note(key, moved)
    now = work.draft.service(service.id)
    if now is not None and now.revision != service.revision:
        rollouts.hold(service.id)
    else:
        look = jobs.progress_of if is_job(spec) else progress_of
        progress = look(work, service, spec, key, tasks)
        if is_job(spec) and progress is Progress.DONE and jobs.is_at_work(service, stored):
            # This draft stops them; no other slot begins before that is stored.
            progress = Progress.IN_FLUX
        rollouts.note(key, progress)


def _release(work: Work, service: Service) -> None:
    """Once what it depends on has come so far, the service is planned as any other."""
    spec = work.draft.spec(service.id, service.revision)
    if spec is None or any(dependencies.unmet(work.draft, spec)):
        return
    released = Service()
    released.CopyFrom(service)
    released.held = False
    with work.draft.group(("release", service.id)):
        work.replace_service(released)


def _plan(rollouts: Rollouts, service: Service, spec: ServiceSpec) -> Plan:
    mode = spec.WhichOneof("mode")
    if mode == "replicated":
        return replicated.plan(service, spec)
    if mode == "global":
        return global_.plan(service)
    return jobs.plan(rollouts, service, spec)


def _remove_all(service_id: str) -> Plan:
    work = yield BEGUN
    for tasks in slices(work.draft.tasks_of_service(service_id)):
        yield Slice({slot_key(task): Intent.REMOVE for task in tasks}, len(tasks))
