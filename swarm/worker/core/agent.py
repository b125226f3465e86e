"""The agent: what is assigned against what is there, with the session and the tasks around it.

`AgentCore.handle` takes one event and returns what is to be done; it decides everything and does
nothing. `next_wakeup` says when it wants Wake.

After a start the order is: the database is loaded (the session begins), the runtime is listed, and
each task of the database is compared with its container. Containers that no task stands for are
removed only once a manager has sent complete assignments, as the database may be older than they.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from swarm.api.v1.dispatcher_pb2 import Assignments, IngressService, SessionInfo
from swarm.api.v1.logs_pb2 import LogSubscription
from swarm.api.v1.node_pb2 import NodeDescription
from swarm.api.v1.service_pb2 import ServiceRevision, ServiceSpec
from swarm.api.v1.task_pb2 import Task
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev
from swarm.worker.core.dependencies import Dependencies
from swarm.worker.core.gate import Gate
from swarm.worker.core.journal import Journal
from swarm.worker.core.outbox import Outbox
from swarm.worker.core.retries import Retries
from swarm.worker.core.run import NodeFacts
from swarm.worker.core.session import (
    Rng,
    Session,
    SessionOver,
    SessionTimes,
    SessionWish,
    Subscribe,
    TakeAssignments,
    TakeDependencies,
    TakeImageDuties,
    TakeManagers,
    Unsubscribe,
)
from swarm.worker.core.subscriptions import Subscriptions
from swarm.worker.core.task import TaskLife, TaskTimes
from swarm.worker.core.wakeups import Wakeups
from swarm.worker.core.wishes import (
    Assigned,
    Compared,
    Due,
    Entered,
    EnterGate,
    Forget,
    GateName,
    LeaveGate,
    LifeEvent,
    Report,
    SaveTask,
    TaskSaved,
    Wish,
    Withdrawn,
)
from swarm.worker.runtime.port import Found

# Kinds of rows in the database.
TASK = "task"
REVISION = "revision"
INGRESS = "ingress"
MANAGERS = "managers"  # one row: the SessionInfo last heard
POSITION = "position"  # one row: an Assignments with incarnation and revision alone


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """`parallel_*`: how many tasks may do that at once, as many starts at a time hurt a node."""

    parallel_prepares: int = 4
    parallel_starts: int = 4
    parallel_removes: int = 4
    # Whether this node answers for the names of services (`network/stack_names.py`).
    names: bool = False
    session: SessionTimes = field(default_factory=SessionTimes)
    task: TaskTimes = field(default_factory=TaskTimes)


class AgentCore:
    def __init__(self, node_id: str, rng: Rng, config: AgentConfig | None = None) -> None:
        self._config = config or AgentConfig()
        self._node_id = node_id
        self._facts = NodeFacts(node_id, names=self._config.names)
        self._session = Session(rng, self._config.session, Outbox())
        self._journal = Journal()
        self._dependencies = Dependencies()
        self._subscriptions = Subscriptions()
        self._gates: Mapping[GateName, Gate] = {
            "prepare": Gate(self._config.parallel_prepares),
            "start": Gate(self._config.parallel_starts),
            "remove": Gate(self._config.parallel_removes),
        }
        self._lives: dict[str, TaskLife] = {}
        # In the order of assignment: what is done must not depend on how strings are hashed.
        self._assigned: dict[str, None] = {}
        self._revisions: dict[str, ServiceRevision] = {}
        self._ingress: dict[str, IngressService] = {}
        self._found: dict[str, Found] | None = None  # until compared; None: not listed yet
        self._complete_heard = False
        self._stopping_all = False
        self._all_stopped = False
        self._retries = Retries(self._config.task.retry_min_s, self._config.task.retry_max_s)
        self._wakeups = Wakeups()
        self._out: list[do.Effect] = []

    @property
    def tasks(self) -> Mapping[str, TaskLife]:
        """For looking at only."""
        return self._lives

    @property
    def dependencies(self) -> Dependencies:
        """For looking at only."""
        return self._dependencies

    @property
    def connected(self) -> bool:
        """Has a manager answered in the session of now?"""
        return self._session.is_up

    @property
    def position(self) -> tuple[int, int]:
        """(incarnation, revision) of the assignments taken last."""
        return self._session.position

    @property
    def managers(self) -> list[str]:
        """HOST:PORT of all managers that are known."""
        return self._session.managers

    def next_wakeup(self) -> float | None:
        times = (
            self._session.next_wakeup(),
            self._wakeups.earliest(),
            self._retries.next_wakeup(),
        )
        return min((at for at in times if at is not None), default=None)

    def handle(self, event: ev.Event, now: float, now_ns: int) -> list[do.Effect]:
        """What is to be done now. `now`: monotonic seconds; `now_ns`: unix nanoseconds."""
        self._out = []
        self._dispatch(event, now, now_ns)
        self._wake_tasks(now, now_ns)
        self._admit(now, now_ns)
        self._save()
        self._finish_stop_all()
        self._perform(self._session.settle(now), now, now_ns)
        self._save()
        return self._out

    def _dispatch(self, event: ev.Event, now: float, now_ns: int) -> None:
        match event:
            case ev.Loaded():
                self._loaded(event, now)
            case ev.Saved(ticket=ticket):
                self._retries.succeeded("save")
                for task_id in self._journal.saved(ticket):
                    self._tell(task_id, TaskSaved(), now, now_ns)
            case ev.SaveFailed(ticket=ticket, error=error):
                self._save_failed(ticket, error, now)
            case ev.RuntimeListed(found=found):
                self._listed(found, now, now_ns)
            case ev.RuntimeListFailed(error=error):
                self._retries.failed("list", now)
                self._out.append(do.Warn(f"the runtime cannot list its containers: {error}"))
            case ev.LogsEnded(subscription_id=subscription_id, task_id=task_id, error=error):
                self._subscriptions.ended(subscription_id, task_id, error)
                self._end_subscriptions()
            case ev.StopAll():
                self._stop_all(now, now_ns)
            case ev.Goodbye():
                self._out += self._session.goodbye()
            case (
                ev.Wake()
                | ev.Received()
                | ev.SessionClosed()
                | ev.ManagersGiven()
                | ev.CertificateRenewed()
            ):
                self._perform(self._session.handle(event, now), now, now_ns)
            case ev.Described():
                self._facts = _facts(self._node_id, event.description, self._config.names)
                self._perform(self._session.handle(event, now), now, now_ns)
            case _:
                self._warn_of(event)
                self._tell(event.task_id, event, now, now_ns)

    # --- starting

    def _loaded(self, loaded: ev.Loaded, now: float) -> None:
        known: list[str] = []
        self._facts = _facts(self._node_id, loaded.description, self._config.names)
        tasks: list[Task] = []
        for row in loaded.rows:
            match row.kind:
                case "task":
                    tasks.append(Task.FromString(row.value))
                case "revision":
                    self._revisions[row.key] = ServiceRevision.FromString(row.value)
                case "ingress":
                    self._ingress[row.key] = IngressService.FromString(row.value)
                case "managers":
                    info = SessionInfo.FromString(row.value)
                    known = [manager.address for manager in info.managers]
                case "position":
                    position = Assignments.FromString(row.value)
                    self._session.position = (position.incarnation, position.revision)
                case _:
                    self._out.append(do.Warn(f"the database has a row of unknown kind {row.kind}"))
        for task in tasks:
            self._load_task(task)
        self._session.begin(loaded, known, now)
        if self._ingress:
            self._out.append(do.UpdateIngress(True, list(self._ingress.values())))
        self._out.append(do.ListRuntime())

    def _load_task(self, task: Task) -> None:
        spec = self._spec(task)
        if spec is None:
            self._out.append(do.Warn(f"the database has task {task.id} without its spec"))
            return
        self._assigned[task.id] = None
        self._lives[task.id] = self._life(task, spec)
        self._session.put_status(task.id, task.status)

    def _life(self, task: Task, spec: ServiceSpec | None) -> TaskLife:
        return TaskLife(task, spec, self._facts, self._config.task, self._dependencies)

    def _listed(self, found: Iterable[Found], now: float, now_ns: int) -> None:
        self._retries.succeeded("list")
        if self._found is not None:
            return
        self._found = {container.task_id: container for container in found}
        for task_id in list(self._lives):
            self._compare(task_id, now, now_ns)
        if self._complete_heard:
            self._remove_strays(now, now_ns)

    def _compare(self, task_id: str, now: float, now_ns: int) -> None:
        if self._found is not None:
            self._tell(task_id, Compared(self._found.pop(task_id, None)), now, now_ns)

    def _remove_strays(self, now: float, now_ns: int) -> None:
        """Containers of ours that no task stands for."""
        for task_id in list(self._found or {}):
            stray = Task(id=task_id)
            self._lives[task_id] = self._life(stray, None)
            self._compare(task_id, now, now_ns)

    # --- what the session says

    def _perform(self, wishes: Iterable[do.Effect | SessionWish], now: float, now_ns: int) -> None:
        for wish in wishes:
            match wish:
                case TakeAssignments(assignments):
                    self._take_assignments(assignments, now, now_ns)
                case TakeDependencies(dependencies):
                    self._dependencies.arrived(dependencies)
                case TakeImageDuties(duties):
                    self._out.append(do.KeepImages(list(duties.keep), list(duties.forget)))
                case TakeManagers(info):
                    self._journal.put(MANAGERS, "", _managers_row(info))
                case Subscribe(session, subscription):
                    self._subscribe(session, subscription)
                case Unsubscribe(subscription_id):
                    self._out += self._subscriptions.remove(subscription_id)
                case SessionOver():
                    self._dependencies.session_over()
                    self._out += self._subscriptions.clear()
                case _:
                    self._out.append(wish)

    def _take_assignments(self, assignments: Assignments, now: float, now_ns: int) -> None:
        if self._stopping_all:
            return
        for revision in assignments.revisions:
            self._put_revision(revision)
        unknown = [t.id for t in assignments.tasks if t.id not in self._lives and not self._spec(t)]
        if unknown:
            reason = f"the manager sent tasks without their specs: {', '.join(unknown[:3])}"
            self._perform(self._session.protest(reason, now), now, now_ns)
            return
        self._dependencies.take(assignments)
        position = Assignments(incarnation=assignments.incarnation, revision=assignments.revision)
        self._journal.put(POSITION, "", position.SerializeToString())
        for task in assignments.tasks:
            self._take_task(task, now, now_ns, complete=assignments.complete)
        removed: Iterable[str] = assignments.removed_task_ids
        if assignments.complete:
            wanted = {task.id for task in assignments.tasks}
            removed = [task_id for task_id in self._assigned if task_id not in wanted]
        for task_id in removed:
            self._withdraw(task_id, now, now_ns)
        self._take_ingress(assignments)
        if assignments.complete:
            self._complete_heard = True
            self._remove_strays(now, now_ns)
            self._drop_revisions(assignments)

    def _take_task(self, task: Task, now: float, now_ns: int, *, complete: bool) -> None:
        self._assigned[task.id] = None
        life = self._lives.get(task.id)
        if life is None:
            life = self._life(task, self._spec(task))
            life.served = True
            self._lives[task.id] = life
            self._journal.put(TASK, task.id, life.row())
            self._compare(task.id, now, now_ns)
            return
        if complete and task.status == life.status:
            self._session.forget_status(task.id)
        elif complete and task.status.state <= life.status.state:
            # A manager restored from a backup has lost what was acknowledged once.
            self._session.put_status(task.id, life.status)
        self._tell(task.id, Assigned(task), now, now_ns)

    def _withdraw(self, task_id: str, now: float, now_ns: int) -> None:
        self._assigned.pop(task_id, None)
        self._session.forget_status(task_id)
        self._tell(task_id, Withdrawn(), now, now_ns)

    def _put_revision(self, revision: ServiceRevision) -> None:
        """One with this number may be known from a cluster that was set back since."""
        key = f"{revision.service_id}.{revision.revision}"
        if self._revisions.get(key) != revision:
            self._revisions[key] = revision
            self._journal.put(REVISION, key, revision.SerializeToString())

    def _drop_revisions(self, assignments: Assignments) -> None:
        """Those no task here names; only now, as a session sends each of them once."""
        used = {_revision_key(life.task) for life in self._lives.values()}
        used |= {f"{r.service_id}.{r.revision}" for r in assignments.revisions}
        for key in [key for key in self._revisions if key not in used]:
            del self._revisions[key]
            self._journal.delete(REVISION, key)

    def _spec(self, task: Task) -> ServiceSpec | None:
        revision = self._revisions.get(_revision_key(task))
        return revision.spec if revision is not None else None

    def _take_ingress(self, assignments: Assignments) -> None:
        if assignments.complete:
            kept = {service.service_id for service in assignments.ingress}
            for service_id in [key for key in self._ingress if key not in kept]:
                del self._ingress[service_id]
                self._journal.delete(INGRESS, service_id)
        for service in assignments.ingress:
            if not service.ports:
                self._ingress.pop(service.service_id, None)
                self._journal.delete(INGRESS, service.service_id)
            elif self._ingress.get(service.service_id) != service:
                self._ingress[service.service_id] = service
                self._journal.put(INGRESS, service.service_id, service.SerializeToString())
        if assignments.complete or assignments.ingress:
            self._out.append(do.UpdateIngress(assignments.complete, list(assignments.ingress)))

    # --- logs

    def _subscribe(self, session: int, subscription: LogSubscription) -> None:
        for task_id in self._subscriptions.add(session, subscription):
            life = self._lives.get(task_id)
            if life is None:
                error = f"task {task_id} is not on this node any more"
                self._subscriptions.unreadable(task_id, following=True, error=error)
            else:
                self._show_logs(life)
        self._end_subscriptions()

    def _show_logs(self, life: TaskLife) -> None:
        if life.has_output:
            self._out += self._subscriptions.readable(life.id)
        else:
            self._subscriptions.unreadable(life.id, following=not life.will_have_output)

    def _end_subscriptions(self) -> None:
        for subscription_id, error in self._subscriptions.take_done():
            self._out += self._session.logs_done(subscription_id, error)

    # --- tasks

    def _tell(self, task_id: str, event: LifeEvent, now: float, now_ns: int) -> None:
        life = self._lives.get(task_id)
        if life is None:
            return
        for wish in life.handle(event, now, now_ns):
            self._grant(life, wish)
        self._wakeups.set(task_id, life.next_wakeup() if task_id in self._lives else None)
        if self._subscriptions.waits_for(task_id):
            self._show_logs(life)
            self._end_subscriptions()

    def _grant(self, life: TaskLife, wish: do.Effect | Wish) -> None:
        match wish:
            case EnterGate(gate):
                self._gates[gate].enter(life.id)
            case LeaveGate(gate):
                self._gates[gate].leave(life.id)
            case SaveTask(wait):
                if life.id in self._assigned:
                    self._journal.put(TASK, life.id, life.row())
                if wait:
                    self._journal.notify(life.id)
            case Report():
                if life.id in self._assigned:
                    self._session.put_status(life.id, life.status)
            case Forget():
                self._forget(life.id)
            case _:
                self._out.append(wish)

    def _forget(self, task_id: str) -> None:
        del self._lives[task_id]
        self._journal.delete(TASK, task_id)

    def _wake_tasks(self, now: float, now_ns: int) -> None:
        while (task_id := self._wakeups.pop_due(now)) is not None:
            self._tell(task_id, Due(), now, now_ns)
        at = self._retries.next_wakeup()
        if at is None or at > now:
            return
        listing = self._retries.pauses("list")
        self._retries.end_pauses(now)
        if listing and not self._retries.pauses("list"):
            self._out.append(do.ListRuntime())

    def _admit(self, now: float, now_ns: int) -> None:
        for gate in self._gates.values():
            while (task_id := gate.admit()) is not None:
                self._tell(task_id, Entered(), now, now_ns)

    def _warn_of(self, event: ev.TaskEvent) -> None:
        """Failures that are only retried would be seen nowhere else."""
        match event:
            case (
                ev.WaitFailed(task_id=task_id, error=error)
                | ev.HealthFailed(task_id=task_id, error=error)
                | ev.StopFailed(task_id=task_id, error=error)
                | ev.RemoveFailed(task_id=task_id, error=error)
            ):
                self._out.append(do.Warn(f"task {task_id}: {error}; trying again"))
            case _:
                pass

    # --- the database

    def _save(self) -> None:
        if self._retries.pauses("save"):
            return
        save = self._journal.next_save()
        if save is not None:
            self._out.append(save)

    def _save_failed(self, ticket: int, error: str, now: float) -> None:
        if self._journal.failed(ticket):
            self._retries.failed("save", now)
            self._out.append(
                do.Warn(f"the agent's database cannot be written: {error}; tasks wait for it")
            )

    # --- the end

    def _stop_all(self, now: float, now_ns: int) -> None:
        self._stopping_all = True
        self._complete_heard = True
        for task_id in list(self._lives):
            self._tell(task_id, Withdrawn(), now, now_ns)
        self._remove_strays(now, now_ns)
        self._ingress.clear()
        self._out.append(do.UpdateIngress(True, []))

    def _finish_stop_all(self) -> None:
        if not self._stopping_all or self._all_stopped or self._lives or self._found is None:
            return
        if not self._journal.is_clean:
            return
        self._all_stopped = True
        self._out += self._session.goodbye()
        self._out.append(do.AllStopped())


def _facts(node_id: str, description: NodeDescription, names: bool) -> NodeFacts:
    platform = description.platform
    return NodeFacts(node_id, description.hostname, platform.architecture, platform.os, names)


def _revision_key(task: Task) -> str:
    return f"{task.service_id}.{task.revision}"


def _managers_row(info: SessionInfo) -> bytes:
    """The managers alone: the rest is asked for again, and would change the row all the time."""
    return SessionInfo(managers=info.managers).SerializeToString(deterministic=True)
