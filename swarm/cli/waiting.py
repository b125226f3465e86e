"""Waiting for a service to become what its spec says, while showing how far it is.

A watch says that something changed, and what is then read is shown. Where the watch is silent
the state is read anyway, so that a manager that hangs costs two seconds.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.service_pb2 import (
    UPDATE_STATE_PAUSED,
    UPDATE_STATE_ROLLBACK_COMPLETED,
    UPDATE_STATE_ROLLBACK_PAUSED,
    UPDATE_STATE_ROLLBACK_STARTED,
    UPDATE_STATE_UPDATING,
    UpdateStatus,
)
from swarm.api.v1.store_pb2 import TABLE_SERVICE, TABLE_TASK
from swarm.api.v1.task_pb2 import TASK_STATE_COMPLETE, TASK_STATE_RUNNING, Task
from swarm.cli.client import Client, NotFoundError
from swarm.cli.errors import CliError
from swarm.cli.progress import ServiceProgress, ServiceView, SlotView
from swarm.dockerapi.words import TASK_STATE
from swarm.manager.core.modes import is_job
from swarm.units import NS_PER_SECOND, format_duration, truncate_id

DEFAULT_TIMEOUT_S = 300.0
_SILENCE_S = 2.0
_UNDER_WAY = (UPDATE_STATE_UPDATING, UPDATE_STATE_ROLLBACK_STARTED)
_BACK = (
    UPDATE_STATE_ROLLBACK_STARTED,
    UPDATE_STATE_ROLLBACK_PAUSED,
    UPDATE_STATE_ROLLBACK_COMPLETED,
)
_PAUSE_S = 0.05
"""Between two reads, however many changes there are."""


@dataclass(frozen=True)
class Outlook:
    """What a service's tasks amount to.

    `failure`: how the last task ended in a slot that does not run, "" where none did.
    `ended`: why waiting is in vain, as the update was paused or rolled back; "" otherwise.
    """

    view: ServiceView
    converged: bool
    failure: str = ""
    ended: str = ""


def outlook(service: pb.ServiceView, tasks: Iterable[Task], *, asked_back: bool = False) -> Outlook:
    """Converged: every wanted task runs what the spec says, no other is wanted, and an update is
    over. `asked_back`: it was a rollback that was asked for. Pure."""
    all_tasks = list(tasks)
    if is_job(service.spec):
        return _job_outlook(service, all_tasks)
    wanted = [task for task in all_tasks if task.desired_state <= TASK_STATE_RUNNING]
    is_global = service.spec.HasField("global")
    of_spec = [task for task in all_tasks if task.revision == service.service.task_revision]
    current = _one_per_slot(
        [task for task in of_spec if task.desired_state <= TASK_STATE_RUNNING], is_global
    )
    total = len(current) if is_global else service.spec.replicated.replicas
    running = sum(task.status.state == TASK_STATE_RUNNING for task in current)
    slots = _slots(current, total, is_global)
    message = service.service.pending.message or _held(service)
    if message in (slot.error for slot in slots):
        message = ""
    update = service.service.update
    settled = running == total == len(wanted) and not (is_global and not total)
    view = ServiceView(
        running=running,
        total=total,
        slots=slots,
        message=message,
        rollback=update.state in _BACK,
        rollback_message=update.message if update.state == UPDATE_STATE_ROLLBACK_STARTED else "",
        verify_seconds=_watch_s(service) if settled and update.state in _UNDER_WAY else None,
    )
    converged = settled and update.state not in _UNDER_WAY
    failure = "" if converged else _last_failure(of_spec, current)
    return Outlook(view, converged, failure, _ended(update, asked_back=asked_back))


def _job_outlook(service: pb.ServiceView, tasks: Iterable[Task]) -> Outlook:
    """Converged: every slot ran to completion, since the last update of the job."""
    of_iteration = [task for task in tasks if task.revision == service.service.task_revision]
    per_node = service.spec.HasField("global_job")
    current = _furthest_per_slot(of_iteration)
    total = len(current) if per_node else service.spec.replicated_job.total_completions
    complete = sum(task.status.state == TASK_STATE_COMPLETE for task in current)
    active = [
        task
        for task in current
        if task.desired_state <= TASK_STATE_RUNNING and task.status.state < TASK_STATE_COMPLETE
    ]
    view = ServiceView(
        running=complete,
        total=total,
        slots=_slots(current, total, per_node),
        message=service.service.pending.message,
        job=True,
        active=0 if per_node else len(active),
        active_max=0
        if per_node
        else min(total - complete, service.spec.replicated_job.max_concurrent),
    )
    converged = complete == total and not (per_node and not total)
    return Outlook(view, converged, "" if converged else _last_failure(of_iteration, active))


def _furthest_per_slot(tasks: Iterable[Task]) -> list[Task]:
    """Of each slot the one that is complete, else the newest."""
    slots: dict[object, Task] = {}
    for task in sorted(tasks, key=lambda task: (task.meta.created_at_ns, task.id)):
        known = slots.get(_slot(task))
        if known is None or known.status.state != TASK_STATE_COMPLETE:
            slots[_slot(task)] = task
    return sorted(slots.values(), key=lambda task: (task.slot, task.node_id))


def _watch_s(service: pb.ServiceView) -> int:
    back = service.service.update.state in _BACK
    config = service.spec.rollback if back else service.spec.update
    return -(-config.monitor_ns // NS_PER_SECOND)


def _ended(update: UpdateStatus, *, asked_back: bool) -> str:
    """Docker's words for an update that did not come through."""
    if update.state == UPDATE_STATE_PAUSED:
        return f"service update paused: {update.message}"
    if update.state == UPDATE_STATE_ROLLBACK_PAUSED:
        return f"service rollback paused: {update.message}"
    if update.state == UPDATE_STATE_ROLLBACK_COMPLETED and not asked_back:
        return f"service update rolled back: {update.message}"
    return ""


def _held(service: pb.ServiceView) -> str:
    """What a service whose tasks are held back waits for."""
    return f"waits for {' and '.join(service.waits_for)}" if service.waits_for else ""


def _last_failure(tasks: Iterable[Task], current: Iterable[Task]) -> str:
    """Of tasks in slots whose current one does not run."""
    running = {_slot(task) for task in current if task.status.state == TASK_STATE_RUNNING}
    failed = [task for task in tasks if task.status.err and _slot(task) not in running]
    last = max(failed, key=lambda task: task.status.timestamp_ns, default=None)
    return last.status.err if last is not None else ""


def _slot(task: Task) -> tuple[int, str]:
    """Of a global service the node is the slot."""
    return (task.slot, "" if task.slot else task.node_id)


def _one_per_slot(tasks: Iterable[Task], is_global: bool) -> list[Task]:
    """The newest of each slot, in the slots' order."""
    slots: dict[object, Task] = {}
    for task in sorted(tasks, key=lambda task: (task.meta.created_at_ns, task.id)):
        slots[task.node_id if is_global else task.slot] = task
    return sorted(slots.values(), key=lambda task: (task.slot, task.node_id))


def _slots(tasks: Sequence[Task], total: int, is_global: bool) -> list[SlotView]:
    """One line a slot; slots of a replicated service are counted from 1, whatever their number."""
    shown: list[SlotView] = []
    for number, task in enumerate(tasks, start=1):
        name = truncate_id(task.node_id) if is_global else f"{number}/{total}"
        shown.append(SlotView(name, TASK_STATE.word(task.status.state), task.status.err))
    if not is_global:
        missing = range(len(tasks) + 1, total + 1)
        shown += [SlotView(f"{number}/{total}") for number in missing]
    return shown


def wait_for_service(
    client: Client,
    service_id: str,
    name: str,
    *,
    quiet: bool = False,
    timeout_s: float | None = None,
    asked_back: bool = False,
) -> None:
    """Show progress until the service has converged.

    Ctrl-C ends the waiting, not the work. Without a terminal, or with `timeout_s`, it ends after
    a while with a CliError; so it does where the service is removed meanwhile, and where its
    update is paused, or rolled back without having been `asked_back`.
    """
    tty = sys.stdout.isatty()
    if timeout_s is None and not tty:
        timeout_s = DEFAULT_TIMEOUT_S
    width = shutil.get_terminal_size().columns if tty else 80
    progress = ServiceProgress(sys.stdout, tty=tty, quiet=quiet, width=width)
    try:
        with _changes(client, service_id) as bell:
            read = functools.partial(_read, client, service_id, name, asked_back=asked_back)
            seen = _wait(read, name, progress, bell, timeout_s)
    except KeyboardInterrupt:
        click.echo("Operation continuing in background.")
        click.echo(f"Use `swarmctl service ps {name}` to check progress.")
        return
    progress.finish("job complete" if seen.view.job else f"verify: Service {name} converged")


def _wait(
    read: Callable[[], Outlook],
    name: str,
    progress: ServiceProgress,
    bell: queue.Queue[None],
    timeout_s: float | None,
) -> Outlook:
    started = time.monotonic()
    while True:
        seen = read()
        progress.update(seen.view)
        if seen.ended:
            raise CliError(seen.ended)
        if seen.converged:
            return seen
        waited = time.monotonic() - started
        if timeout_s is not None and waited >= timeout_s:
            raise CliError(_gave_up(name, seen, timeout_s))
        left = _SILENCE_S if timeout_s is None else min(_SILENCE_S, timeout_s - waited)
        with contextlib.suppress(queue.Empty):
            bell.get(timeout=left)
            time.sleep(_PAUSE_S)
            while True:
                bell.get_nowait()


def _read(client: Client, service_id: str, name: str, *, asked_back: bool) -> Outlook:
    try:
        answer = client.ask(
            lambda stubs: stubs.control.GetService, pb.GetServiceRequest(reference=service_id)
        )
    except NotFoundError as error:
        raise CliError(f"service {name} was removed while waiting for it") from error
    tasks = client.ask(
        lambda stubs: stubs.control.ListTasks, pb.ListTasksRequest(service_ids=[service_id])
    ).tasks
    return outlook(answer.service, [view.task for view in tasks], asked_back=asked_back)


def _gave_up(name: str, seen: Outlook, timeout_s: float) -> str:
    view = seen.view
    errors = [slot.error for slot in view.slots if slot.error]
    reason = view.message or next(iter(errors), seen.failure) or "tasks are still starting"
    waited = format_duration(int(timeout_s * NS_PER_SECOND))
    done = "complete" if view.job else "running"
    return (
        f"service {name} has not converged after {waited}: {view.running} out of {view.total} "
        f"tasks are {done}: {' '.join(reason.split())}. The service is left as it is and goes "
        f"on trying: see `swarmctl service ps {name}`, or remove it with "
        f"`swarmctl service rm {name}`"
    )


@contextlib.contextmanager
def _changes(client: Client, service_id: str) -> Generator[queue.Queue[None]]:
    """A queue that gets an item for each change of the service and its tasks, while it lasts."""
    bell: queue.Queue[None] = queue.Queue()
    watcher = client.clone()
    request = pb.WatchRequest(tables=[TABLE_SERVICE, TABLE_TASK], service_id=service_id)

    def watch() -> None:
        # A watch that can't be had only makes the display slower.
        with contextlib.suppress(CliError, ValueError):
            for _ in watcher.follow(lambda stubs: stubs.control.Watch, lambda: request):
                bell.put(None)

    threading.Thread(target=watch, name="watch", daemon=True).start()
    try:
        yield bell
    finally:
        watcher.close()
