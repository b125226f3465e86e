"""A machine's containers, as a runtime driver shows them: made once, started once, ending by
themselves or when told to, outliving the agent, and dying with the power."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from swarm.simulation.files import check_laid
from swarm.simulation.loop import Loop
from swarm.simulation.violation import Violation
from swarm.worker.core import events as happened
from swarm.worker.runtime.port import (
    ContainerState,
    Endpoint,
    Exit,
    Found,
    Health,
    HealthStatus,
    Started,
    TaskRun,
)

# No container of it ever starts.
BROKEN_IMAGE = "image:broken"
# Its containers end by themselves, most of them well.
JOB_IMAGE = "image:job"

Tell = Callable[[happened.Event], None]


@dataclass(slots=True)
class Behaviour:
    """How containers fare; the faults change it. Probabilities, and seconds."""

    prepare_fails: float = 0.0
    start_fails: float = 0.0
    # Of those that start: how many end by themselves, and within what time.
    exits: float = 0.0
    exits_within_s: float = 10.0
    never_healthy: float = 0.0
    slow: float = 1.0


@dataclass(slots=True)
class Container:
    run: TaskRun
    state: ContainerState = ContainerState.CREATED
    exit: Exit | None = None
    started: Started | None = None
    healthy_at: float = 0.0
    ever_healthy: bool = True


@dataclass(slots=True)
class Containers:
    """`starts` is shared by all machines: no task's container is started twice anywhere."""

    loop: Loop
    rng: random.Random
    behaviour: Behaviour
    starts: dict[str, str]
    name: str
    by_task: dict[str, Container] = field(default_factory=dict[str, Container])
    # Who waits for ends: the agent of now.
    _waiting: dict[str, Tell] = field(default_factory=dict[str, Tell])
    _number: int = 0

    def agent_gone(self) -> None:
        self._waiting.clear()

    def power_cut(self) -> None:
        """Everything that ran has ended, and nobody saw how."""
        self._waiting.clear()
        for container in self.by_task.values():
            if container.state is ContainerState.RUNNING:
                container.state = ContainerState.EXITED
                container.exit = Exit(None, 0)

    def running(self) -> list[str]:
        return [t for t, c in self.by_task.items() if c.state is ContainerState.RUNNING]

    def found(self) -> list[Found]:
        return [
            Found(task_id, container.run.name, container.state, {}, container.exit)
            for task_id, container in self.by_task.items()
        ]

    # What the agent asks; each returns how long it takes, and what to tell it then

    def prepare(self, run: TaskRun) -> tuple[float, happened.Event]:
        check_laid(run.task_id, run.files)
        delay = self.behaviour.slow * self.rng.uniform(0.01, 0.3)
        if self.rng.random() < self.behaviour.prepare_fails:
            refused = self.rng.random() < 0.3
            return delay, happened.PrepareFailed(run.task_id, "no such image", refused)
        self.by_task.setdefault(run.task_id, Container(run))
        return delay, happened.Prepared(run.task_id)

    def start(self, task_id: str, now_ns: int) -> tuple[float, happened.Event]:
        delay = self.behaviour.slow * self.rng.uniform(0.01, 0.2)
        container = self.by_task.get(task_id)
        if container is None or container.state is ContainerState.EXITED:
            return delay, happened.StartFailed(task_id, "no such container")
        if container.state is ContainerState.RUNNING:
            assert container.started is not None, "it runs"
            return delay, happened.TaskStarted(task_id, container.started)
        self._note_start(task_id)
        if self.rng.random() < self.behaviour.start_fails or container.run.image == BROKEN_IMAGE:
            container.state, container.exit = ContainerState.EXITED, Exit(127, now_ns)
            return delay, happened.StartFailed(task_id, "exec format error")
        self._number += 1
        endpoints = {
            port: Endpoint("127.0.0.1", 20_000 + (self._number * 10 + offset) % 20_000)
            for offset, port in enumerate(container.run.ports)
        }
        container.state = ContainerState.RUNNING
        container.started = Started(f"c{self._number}", self._number, now_ns, "", endpoints)
        container.healthy_at = self.loop.now + self.rng.uniform(0.0, 1.0)
        container.ever_healthy = self.rng.random() >= self.behaviour.never_healthy
        if container.run.image == JOB_IMAGE:
            fails = self.rng.random() < self.behaviour.exits
            self.loop.after(self.rng.uniform(0.0, 2.0), self.end, task_id, int(fails))
        elif self.rng.random() < self.behaviour.exits:
            code = 0 if self.rng.random() < 0.3 else 1
            life_s = self.rng.uniform(0.0, self.behaviour.exits_within_s)
            self.loop.after(life_s, self._end_by_itself, task_id, code)
        return delay, happened.TaskStarted(task_id, container.started)

    def wait(self, task_id: str, tell: Tell) -> None:
        container = self.by_task.get(task_id)
        if container is None:
            tell(happened.WaitFailed(task_id, "no such container"))
        elif container.exit is not None:
            tell(happened.Exited(task_id, container.exit))
        else:
            self._waiting[task_id] = tell

    def health(self, task_id: str) -> tuple[float, happened.Event] | None:
        container = self.by_task.get(task_id)
        if container is None:
            return 0.01, happened.HealthFailed(task_id, "no such container")
        if container.run.healthcheck is None:
            return 0.001, happened.HealthReported(task_id, Health(HealthStatus.NONE))
        delay = max(0.001, container.healthy_at - self.loop.now)
        status = HealthStatus.HEALTHY if container.ever_healthy else HealthStatus.UNHEALTHY
        return delay, happened.HealthReported(task_id, Health(status))

    def stop_takes_s(self, grace_s: float) -> float:
        """Seconds until a signalled container has stopped; call `end` then."""
        return min(grace_s, self.rng.uniform(0.01, 0.6))

    def remove(self, task_id: str) -> None:
        self.end(task_id, 137)
        self.by_task.pop(task_id, None)

    # What happens to containers

    def end(self, task_id: str, code: int) -> None:
        """It ends, by itself or by a signal; nothing if it does not run."""
        container = self.by_task.get(task_id)
        if container is None or container.state is not ContainerState.RUNNING:
            return
        container.state = ContainerState.EXITED
        container.exit = Exit(code, 0)
        tell = self._waiting.pop(task_id, None)
        if tell is not None:
            tell(happened.Exited(task_id, container.exit))

    def _end_by_itself(self, task_id: str, code: int) -> None:
        """Unless such things are over."""
        if self.behaviour.exits:
            self.end(task_id, code)

    def _note_start(self, task_id: str) -> None:
        if task_id in self.starts:
            raise Violation(
                "a task's container is started once",
                f"task {task_id} on {self.name}, before on {self.starts[task_id]}",
            )
        self.starts[task_id] = self.name
