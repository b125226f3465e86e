"""A task's life on its node, from assignment to the removal of its container.

The life is level-triggered: an event changes what is known, then `_advance` asks for the next
thing that is missing. What it asks for goes to the world (effects) or to the agent around it
(`Wish`): a place at a gate, a save, a wake-up.

Order that must hold: the state that stands for an act (PREPARING, STARTING) is durable before the
act, so a restarted agent knows what may have happened; a task is started once, ever; the observed
state only grows. Task states and messages are Docker's (swarmkit agent/exec/controller.go, Do).

A task leaves the rotation before it is stopped (rotation.py). Requests under way get up to half of
the grace period, the stop signal comes with the rest of it. So a stop takes no longer than that
period and the moment in which the leaving is announced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ACCEPTED,
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_PREPARING,
    TASK_STATE_READY,
    TASK_STATE_REJECTED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    TASK_STATE_STARTING,
    PortEndpoint,
    Task,
    TaskState,
    TaskStatus,
)
from swarm.stacks import stack_of
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev
from swarm.worker.core.dependencies import Dependencies
from swarm.worker.core.effects import ANY_PORT
from swarm.worker.core.files import needs_files
from swarm.worker.core.retries import Retries
from swarm.worker.core.rotation import Rotation
from swarm.worker.core.run import (
    DEFAULT_STOP_GRACE_NS,
    NodeFacts,
    protocol_number,
    published_ports,
    stop_grace_s,
    task_run,
)
from swarm.worker.core.status import exit_error, next_status
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
from swarm.worker.runtime.port import (
    ContainerState,
    Endpoint,
    Exit,
    Found,
    HealthStatus,
    RuntimeRefused,
    Started,
)


@dataclass(frozen=True, slots=True)
class TaskTimes:
    """Seconds. `announce_s`: between leaving the rotation and closing the listeners."""

    announce_s: float = 0.2
    drain_max_s: float = 5.0
    retry_min_s: float = 1.0
    retry_max_s: float = 30.0


class Phase(Enum):
    """What is known of the container."""

    UNKNOWN = "unknown"  # not compared with the runtime yet
    NEW = "new"
    PREPARE_QUEUED = "prepare queued"
    PREPARE_SAVING = "prepare saving"
    PREPARING = "preparing"
    CREATED = "created"
    START_QUEUED = "start queued"
    START_SAVING = "start saving"
    STARTING = "starting"
    UP = "up"
    ENDED = "ended"  # or never started; what is there is kept for its logs
    REMOVE_QUEUED = "remove queued"
    REMOVING = "removing"
    GONE = "gone"


_OVER = (Phase.ENDED, Phase.REMOVE_QUEUED, Phase.REMOVING, Phase.GONE)
_BEGUN = (Phase.STARTING, Phase.UP, *_OVER)
_HEALTHY = (HealthStatus.NONE, HealthStatus.HEALTHY)
_GATE_OF: dict[Phase, GateName] = {
    Phase.PREPARE_QUEUED: "prepare",
    Phase.PREPARE_SAVING: "prepare",
    Phase.PREPARING: "prepare",
    Phase.START_QUEUED: "start",
    Phase.START_SAVING: "start",
    Phase.STARTING: "start",
    Phase.REMOVE_QUEUED: "remove",
    Phase.REMOVING: "remove",
}


ADOPTION_ATTEMPTS = 5


class TaskLife:
    """One task. `spec` is None for a container that no task stands for: it can only be removed."""

    def __init__(
        self,
        task: Task,
        spec: ServiceSpec | None,
        node: NodeFacts,
        times: TaskTimes,
        dependencies: Dependencies | None = None,
    ) -> None:
        self.task = Task()
        self.task.CopyFrom(task)
        self.spec = spec
        self.phase = Phase.UNKNOWN
        self.withdrawn = spec is None
        # Has a manager spoken of it since the agent's start, and so given what it needs?
        self.served = False
        self._dependencies = dependencies or Dependencies()
        self._node = node
        self._times = times
        self._out: list[do.Effect | Wish] = []
        self._rotation = Rotation(task.id, times.announce_s)
        self._started: Started | None = None
        self._health: HealthStatus | None = None
        self._fault = ""  # why we end it ourselves
        self._stop_began: float | None = None
        self._waits = False
        self._watches_health = False
        self._runs_already = False  # found running: Start will adopt it
        self._cancelled = False
        self._stop_sent = False
        self._touched = False  # the runtime may know it
        self._retries = Retries(times.retry_min_s, times.retry_max_s)

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def status(self) -> TaskStatus:
        return self.task.status

    @property
    def has_output(self) -> bool:
        """Whether its container has been started, so that there are logs to read."""
        return self._touched and self.phase in (Phase.UP, *_OVER)

    @property
    def will_have_output(self) -> bool:
        return not self.has_output and self.status.state < TASK_STATE_COMPLETE

    def row(self) -> bytes:
        return self.task.SerializeToString()

    def next_wakeup(self) -> float | None:
        times = (self._retries.next_wakeup(), self._rotation.next_wakeup())
        return min((at for at in times if at is not None), default=None)

    def handle(self, event: LifeEvent, now: float, now_ns: int) -> list[do.Effect | Wish]:
        self._out = []
        self._learn(event, now, now_ns)
        self._advance(now, now_ns)
        return self._out

    # --- what an event teaches

    def _learn(self, event: LifeEvent, now: float, now_ns: int) -> None:
        match event:
            case Assigned(task):
                self.served = True
                self._assigned(task)
            case Withdrawn():
                self.withdrawn = True
            case Compared(found):
                self._compared(found, now_ns)
            case Entered():
                self._entered(now_ns)
            case TaskSaved():
                self._saved(now_ns)
            case Due():
                self._retries.end_pauses(now)
            case ev.Prepared():
                self._prepared(now_ns)
            case ev.PrepareFailed(error=error, refused=refused):
                self._prepare_failed(error, refused, now_ns)
            case ev.TaskStarted(started=started):
                self._task_started(started)
            case ev.StartFailed():
                self._start_failed(event, now, now_ns)
            case ev.Exited(exit=end):
                self._exited(end, now_ns)
            case ev.WaitFailed():
                self._waits = False
                self._retries.failed("wait", now)
            case ev.HealthReported(health=health):
                self._health_reported(health.status)
            case ev.HealthFailed():
                self._watches_health = False
                self._retries.failed("health", now)
            case ev.Stopped():
                self._stopped(now_ns)
            case ev.StopFailed():
                self._stop_sent = False
                self._retries.failed("stop", now)
            case ev.Removed():
                self._removed()
            case ev.RemoveFailed():
                self._remove_failed(now)
            case ev.PortsOpened(endpoints=endpoints):
                self._ports_opened(endpoints)
            case ev.PortsFailed(error=error):
                self._rotation.open_failed()
                if not self._ending:
                    self._fault = error
            case ev.PortsDrained():
                self._rotation.drained()

    def _assigned(self, task: Task) -> None:
        """Desired state only rises; a final state that a manager gave it ends it here as well."""
        changed = task.desired_state > self.task.desired_state
        if changed:
            self.task.desired_state = task.desired_state
        if task.status.state >= TASK_STATE_COMPLETE and self.status.state < TASK_STATE_COMPLETE:
            self.task.status.CopyFrom(task.status)
            changed = True
        self.task.start_after_ns = task.start_after_ns
        if changed:
            self._out.append(SaveTask())

    def _compared(self, found: Found | None, now_ns: int) -> None:
        if self.phase is not Phase.UNKNOWN:
            return
        state = self.status.state
        self._touched = found is not None or state >= TASK_STATE_PREPARING
        if state >= TASK_STATE_COMPLETE and not (found and found.state is ContainerState.RUNNING):
            self.phase = Phase.ENDED
        elif found is None or (
            found.state is ContainerState.CREATED and state >= TASK_STATE_RUNNING
        ):
            self._missing(now_ns)
        elif found.state is ContainerState.CREATED:
            self.phase = Phase.CREATED if state >= TASK_STATE_READY else Phase.NEW
        elif found.state is ContainerState.RUNNING and not self._ending:
            self._runs_already = True
            self.phase = Phase.CREATED
        else:
            self.phase = Phase.UP
            if found.state is ContainerState.EXITED and (found.exit or self.spec is None):
                self._exited(found.exit or Exit(None, now_ns), now_ns)

    def _missing(self, now_ns: int) -> None:
        """Never start again what may have been started already."""
        if self.status.state < TASK_STATE_STARTING:
            self.phase = Phase.NEW
            return
        self.phase = Phase.ENDED
        if self._to_stop:
            self._observe(TASK_STATE_SHUTDOWN, "shutdown", now_ns)
        else:
            error = "task: its container is gone from this node"
            self._observe(TASK_STATE_FAILED, self.status.message, now_ns, error)

    def _entered(self, now_ns: int) -> None:
        if self.phase is Phase.PREPARE_QUEUED:
            self.phase = Phase.PREPARE_SAVING
            self._observe(TASK_STATE_PREPARING, "preparing", now_ns)
            self._out.append(SaveTask(wait=True))
        elif self.phase is Phase.START_QUEUED:
            self.phase = Phase.START_SAVING
            self._observe(TASK_STATE_STARTING, "starting", now_ns)
            self._out.append(SaveTask(wait=True))
        elif self.phase is Phase.REMOVE_QUEUED:
            self.phase = Phase.REMOVING
            self._out.append(do.Remove(self.id))

    def _saved(self, now_ns: int) -> None:
        if self.phase is Phase.PREPARE_SAVING and not self._ending:
            assert self.spec is not None
            try:
                run = task_run(self.task, self.spec, self._node, self._dependencies)
            except RuntimeRefused as error:
                self._prepare_failed(str(error), True, now_ns)
                return
            self.phase = Phase.PREPARING
            self._touched = True
            self._out.append(do.Prepare(run))
        elif self.phase is Phase.START_SAVING and not self._ending:
            self.phase = Phase.STARTING
            self._out.append(do.Start(self.id))

    def _prepared(self, now_ns: int) -> None:
        if self.phase is Phase.PREPARING:
            self._leave_gate(Phase.CREATED)
            self._observe(TASK_STATE_READY, "prepared", now_ns)

    def _prepare_failed(self, error: str, refused: bool, now_ns: int) -> None:
        if self.phase in (Phase.PREPARING, Phase.PREPARE_SAVING):
            self._leave_gate(Phase.ENDED)
            state = TASK_STATE_REJECTED if refused else TASK_STATE_FAILED
            self._observe(state, "preparing", now_ns, error)

    def _task_started(self, started: Started) -> None:
        if self.phase is Phase.STARTING:
            self._leave_gate(Phase.UP)
            self._started = started

    def _start_failed(self, failed: ev.StartFailed, now: float, now_ns: int) -> None:
        if self.phase is not Phase.STARTING:
            return
        if self._runs_already:
            self._adoption_failed(failed.error, now)
            return
        self._leave_gate(Phase.ENDED)
        if self._to_stop:
            self._observe(TASK_STATE_SHUTDOWN, "shutdown", now_ns)
            return
        state = TASK_STATE_REJECTED if failed.refused else TASK_STATE_FAILED
        error = f"starting container failed: {failed.error}"
        self._observe(state, "starting", now_ns, error, failed.exit_code)

    def _adoption_failed(self, error: str, now: float) -> None:
        """It runs, but the runtime does not tell of it: not worth its life at the first time."""
        self._leave_gate(Phase.CREATED)
        if self._retries.failed("start", now) >= ADOPTION_ATTEMPTS and not self._ending:
            self._fault = f"task: cannot take over its container: {error}"

    def _exited(self, end: Exit, now_ns: int) -> None:
        if self.phase is not Phase.UP:
            return
        self.phase = Phase.ENDED
        self._waits = False
        at_ns = end.finished_at_ns or now_ns
        if self._fault:
            self._observe(TASK_STATE_FAILED, "started", at_ns, self._fault, end.exit_code)
        elif self._to_stop:
            self._observe(TASK_STATE_SHUTDOWN, "shutdown", at_ns, "", end.exit_code)
        elif end.exit_code == 0:
            self._observe(TASK_STATE_COMPLETE, "finished", at_ns, "", 0)
        else:
            self._observe(TASK_STATE_FAILED, "started", at_ns, exit_error(end), end.exit_code)

    def _stopped(self, now_ns: int) -> None:
        self._retries.succeeded("stop")
        if self.phase is Phase.UP and self.spec is None:
            self._exited(Exit(None, now_ns), now_ns)

    def _removed(self) -> None:
        if self.phase is Phase.REMOVING:
            self._leave_gate(Phase.GONE)

    def _remove_failed(self, now: float) -> None:
        if self.phase is Phase.REMOVING:
            self._leave_gate(Phase.ENDED)
            self._retries.failed("remove", now)

    def _health_reported(self, status: HealthStatus) -> None:
        self._retries.succeeded("health")
        self._health = status
        if status is HealthStatus.UNHEALTHY and not self._ending:
            self._fault = "task: unhealthy container"

    def _ports_opened(self, endpoints: Sequence[PortEndpoint]) -> None:
        if not self._rotation.opened(endpoints):
            return
        known = list(self.status.endpoints)
        if self.status.state == TASK_STATE_RUNNING and known != list(endpoints):
            # Adopted: the ports that other nodes connect to are others now.
            self._put_status(self._next_status(TASK_STATE_RUNNING, self.status.timestamp_ns))

    # --- what is missing next

    @property
    def _to_stop(self) -> bool:
        return self.withdrawn or self.task.desired_state >= TASK_STATE_SHUTDOWN

    @property
    def _ending(self) -> bool:
        """Nothing more is to be begun for it."""
        return self._to_stop or bool(self._fault) or self.status.state >= TASK_STATE_COMPLETE

    @property
    def _wants_start(self) -> bool:
        wanted = self._runs_already or self.task.desired_state == TASK_STATE_RUNNING
        return wanted and not self._retries.pauses("start")

    @property
    def _has_files(self) -> bool:
        """Whether what it is given is there: a restarted agent has no secrets in its database."""
        return self.served or self.spec is None or not needs_files(self.spec.task.container)

    def _advance(self, now: float, now_ns: int) -> None:
        if self.phase is Phase.UNKNOWN:
            return
        if self._ending:
            self._give_up_beginning(now_ns)
        else:
            self._begin(now_ns)
        if self.phase is Phase.UP:
            self._look_after(now, now_ns)
        if self.phase in _OVER:
            self._out += self._rotation.cut(self._times.drain_max_s)
        if self.phase is Phase.ENDED:
            self._clean_up()
        if self.phase is Phase.GONE and self._rotation.closed:
            self._out.append(Forget())

    def _begin(self, now_ns: int) -> None:
        self._observe(TASK_STATE_ACCEPTED, "accepted", now_ns)
        if self.phase is Phase.NEW and self._has_files:
            self.phase = Phase.PREPARE_QUEUED
            self._out.append(EnterGate("prepare"))
        elif self.phase is Phase.CREATED and self._wants_start:
            self.phase = Phase.START_QUEUED
            self._out.append(EnterGate("start"))

    def _give_up_beginning(self, now_ns: int) -> None:
        """What has not been started never will be; said at once, as a replacement may wait."""
        if self.phase in _BEGUN:
            return
        if self._runs_already:
            self._leave_gate(Phase.UP)
            return
        self._observe(TASK_STATE_SHUTDOWN, "shutdown", now_ns)
        if self.phase is not Phase.PREPARING:
            self._leave_gate(Phase.ENDED)
        elif not self._cancelled:
            self._cancelled = True
            self._out.append(do.CancelPrepare(self.id))

    def _look_after(self, now: float, now_ns: int) -> None:
        if self.spec is not None and not self._waits and not self._retries.pauses("wait"):
            self._waits = True
            self._out.append(do.Wait(self.id))
        if self._ending:
            self._stop(now)
            return
        if self._started is None:
            return  # found ended: Wait tells the rest
        self._out += self._rotation.enter(self._task_ports())
        if not self._watches_health and not self._retries.pauses("health"):
            self._watches_health = True
            self._out.append(do.WatchHealth(self.id))
        if self._health in _HEALTHY and not self._rotation.opening:
            self._observe(TASK_STATE_RUNNING, "started", now_ns)

    def _task_ports(self) -> list[do.TaskPort]:
        """What to listen on: ports that the runtime has no way into are left out."""
        if self.spec is None or self._started is None:
            return []
        before = {(e.target_port, e.protocol): e.port for e in self.status.endpoints}
        ports: list[do.TaskPort] = []
        for port, host_port in published_ports(self.spec):
            endpoint = self._started.endpoints.get(port)
            if endpoint is not None:
                preferred = before.get((port.target, protocol_number(port)), 0)
                ports.append(do.TaskPort(port, endpoint, host_port, preferred))
        if stack_of(self.spec.annotations.labels) and self._started.address:
            preferred = before.get((ANY_PORT.target, protocol_number(ANY_PORT)), 0)
            ports.append(do.TaskPort(ANY_PORT, Endpoint(self._started.address, 0), None, preferred))
        return ports

    def _stop(self, now: float) -> None:
        if self._stop_began is None:
            self._stop_began = now
        self._out += self._rotation.leave(now, self._drain_s())
        if self._rotation.left and not self._stop_sent and not self._retries.pauses("stop"):
            self._stop_sent = True
            self._out.append(do.Stop(self.id, self._grace_left_s(now)))

    def _drain_s(self) -> float:
        """How long requests under way may hold up the signal; a faulty task has no such time."""
        return 0.0 if self._fault else min(self._grace_s() / 2, self._times.drain_max_s)

    def _grace_s(self) -> float:
        return stop_grace_s(self.spec) if self.spec is not None else DEFAULT_STOP_GRACE_NS / 1e9

    def _grace_left_s(self, now: float) -> float:
        grace = self._grace_s()
        assert self._stop_began is not None
        spent = max(0.0, now - self._stop_began - self._times.announce_s)
        return max(grace - spent, grace / 2)

    def _clean_up(self) -> None:
        if not self.withdrawn or self._retries.pauses("remove"):
            return
        if self._touched:
            self.phase = Phase.REMOVE_QUEUED
            self._out.append(EnterGate("remove"))
        else:
            self.phase = Phase.GONE

    # --- small steps

    def _leave_gate(self, phase: Phase) -> None:
        gate = _GATE_OF.get(self.phase)
        self.phase = phase
        if gate is not None:
            self._out.append(LeaveGate(gate))

    def _observe(
        self,
        state: TaskState.ValueType,
        message: str,
        at_ns: int,
        error: str = "",
        exit_code: int | None = None,
    ) -> None:
        """The observed state, if it is a later one; a final one stays as it is."""
        if state <= self.status.state or self.status.state >= TASK_STATE_COMPLETE:
            return
        status = self._next_status(state, at_ns)
        status.message = message
        status.err = error
        if exit_code is not None:
            status.container.exit_code = exit_code
        self._put_status(status)

    def _next_status(self, state: TaskState.ValueType, at_ns: int) -> TaskStatus:
        endpoints = self._rotation.endpoints if state == TASK_STATE_RUNNING else ()
        return next_status(self.status, state, at_ns, self._started, endpoints)

    def _put_status(self, status: TaskStatus) -> None:
        self.task.status.CopyFrom(status)
        self._out.append(SaveTask())
        self._out.append(Report())
