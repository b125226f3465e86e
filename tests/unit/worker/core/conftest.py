"""A node in memory for the agent's core: database, runtime, one manager, and time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from swarm.api.v1.dispatcher_pb2 import (
    AgentMessage,
    Assignments,
    Dependencies,
    IngressService,
    ManagerAddress,
    ManagerMessage,
    SessionInfo,
    StatusAck,
)
from swarm.api.v1.node_pb2 import NODE_ROLE_WORKER, Node, NodeDescription
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import ServiceRevision, ServiceSpec
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_COMPLETE,
    TASK_STATE_PREPARING,
    TASK_STATE_RUNNING,
    TASK_STATE_STARTING,
    PortEndpoint,
    Task,
    TaskState,
    TaskStatus,
)
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev
from swarm.worker.core.agent import AgentConfig, AgentCore
from swarm.worker.runtime.port import (
    ContainerState,
    Endpoint,
    Exit,
    Found,
    Health,
    HealthStatus,
    Port,
    Started,
)

SECOND_NS = 1_000_000_000


@dataclass
class Container:
    state: ContainerState = ContainerState.CREATED
    exit: Exit | None = None
    starts: int = 0


@dataclass
class ManagerSide:
    """What the manager knows, and what its session has been sent."""

    tasks: dict[str, Task] = field(default_factory=dict)
    revisions: dict[str, ServiceRevision] = field(default_factory=dict)
    ingress: list[IngressService] = field(default_factory=list)
    revision: int = 1
    incarnation: int = 1
    acknowledges: bool = True
    session: int | None = None
    heard: list[AgentMessage] = field(default_factory=list)
    reported: dict[str, list[TaskStatus]] = field(default_factory=dict)


class World:
    """Performs effects at once or, with `held` kinds, when told; crashes and restarts the agent."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 100.0
        self.rng = random.Random(seed)
        self.config = AgentConfig()
        self.rows: dict[tuple[str, str], bytes] = {}
        self.containers: dict[str, Container] = {}
        self.manager = ManagerSide()
        self.manager_up = True
        self.health: dict[str, HealthStatus] = {}
        self.prepare_fails: dict[str, tuple[str, bool]] = {}
        self.start_fails: dict[str, tuple[object, ...]] = {}
        self.held: set[type] = set()
        self.pending: list[tuple[do.Effect, Callable[[], ev.Event | None]]] = []
        self.waits: set[str] = set()
        self.watched: set[str] = set()
        self.open_ports: dict[str, tuple[do.TaskPort, ...]] = {}
        self.done: list[do.Effect] = []
        self.core = AgentCore("node1", self.rng, self.config)
        self.managers = ("m1:2378",)
        self.secrets_at_hello: list[Secret] = []

    @property
    def now_ns(self) -> int:
        return int(self.now * SECOND_NS)

    # --- the agent

    def start(self) -> None:
        rows = [ev.Row(kind, key, value) for (kind, key), value in self.rows.items()]
        self.give(
            ev.Loaded(
                rows=rows,
                managers=self.managers,
                certificate_role=NODE_ROLE_WORKER,
                root_certificate_pem=b"root",
                description=NodeDescription(hostname="host1"),
                address="10.0.0.1",
            )
        )

    def crash(self) -> None:
        """The agent dies: all it knew but had not saved is gone, and its listeners."""
        self.core = AgentCore("node1", self.rng, self.config)
        self.pending.clear()
        self.waits.clear()
        self.watched.clear()
        self.open_ports.clear()
        self.manager.session = None

    def give(self, *events: ev.Event) -> None:
        for event in events:
            for effect in self.core.handle(event, self.now, self.now_ns):
                self._take(effect)

    def _take(self, effect: do.Effect) -> None:
        self.done.append(effect)
        self.pending.append((effect, lambda: self._perform(effect)))

    def step(self, index: int = 0) -> None:
        """Performs one effect that is not held, and hands in what it gives."""
        free = [entry for entry in self.pending if type(entry[0]) not in self.held]
        entry = free[index]
        self.pending.remove(entry)
        event = entry[1]()
        if event is not None:
            self.give(event)

    @property
    def free(self) -> int:
        return sum(type(effect) not in self.held for effect, _ in self.pending)

    def settle(self) -> None:
        for _ in range(10_000):
            if not self.free:
                return
            self.step()
        raise AssertionError("the agent does not come to rest")

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        self.settle()
        for _ in range(10_000):
            at = self.core.next_wakeup()
            if at is None or at > end:
                self.now = end
                return
            self.now = max(self.now, at)
            self.give(ev.Wake())
            self.settle()
        raise AssertionError("the agent wants to be woken all the time")

    def release(self, *kinds: type) -> None:
        self.held -= set(kinds)
        self.settle()

    def of(self, kind: type) -> list:
        return [effect for effect in self.done if isinstance(effect, kind)]

    # --- the world's side of each effect

    def _perform(self, effect: do.Effect) -> ev.Event | None:
        method = getattr(self, f"_do_{type(effect).__name__}", None)
        return method(effect) if method else None

    def _do_Save(self, save: do.Save) -> ev.Event:
        for kind, key, value in save.puts:
            self.rows[kind, key] = value
        for place in save.deletes:
            self.rows.pop(place, None)
        return ev.Saved(save.ticket)

    def _do_ListRuntime(self, _: do.ListRuntime) -> ev.Event:
        return ev.RuntimeListed(
            [Found(key, key, c.state, {}, c.exit) for key, c in self.containers.items()]
        )

    def saved_state(self, task_id: str) -> int:
        row = self.rows.get(("task", task_id))
        return Task.FromString(row).status.state if row is not None else -1

    def _do_Prepare(self, effect: do.Prepare) -> ev.Event:
        task_id = effect.run.task_id
        assert self.saved_state(task_id) >= TASK_STATE_PREPARING, "not durable before the act"
        if task_id in self.prepare_fails:
            return ev.PrepareFailed(task_id, *self.prepare_fails[task_id])
        self.containers.setdefault(task_id, Container())
        return ev.Prepared(task_id)

    def _do_Start(self, effect: do.Start) -> ev.Event:
        task_id = effect.task_id
        assert self.saved_state(task_id) >= TASK_STATE_STARTING, "not durable before the act"
        if task_id in self.start_fails:
            return ev.StartFailed(task_id, *self.start_fails[task_id])
        container = self.containers[task_id]
        if container.state is ContainerState.CREATED:
            container.state = ContainerState.RUNNING
            container.starts += 1
            assert container.starts == 1, "started twice"
        endpoints = {Port(80): Endpoint("127.0.0.1", 40000)}
        return ev.TaskStarted(task_id, Started(f"c-{task_id}", 4711, self.now_ns, "", endpoints))

    def _do_Wait(self, effect: do.Wait) -> ev.Event | None:
        container = self.containers.get(effect.task_id)
        if container is None:
            return ev.WaitFailed(effect.task_id, "no such container")
        if container.exit is not None:
            return ev.Exited(effect.task_id, container.exit)
        self.waits.add(effect.task_id)
        return None

    def _do_WatchHealth(self, effect: do.WatchHealth) -> ev.Event:
        self.watched.add(effect.task_id)
        status = self.health.get(effect.task_id, HealthStatus.NONE)
        return ev.HealthReported(effect.task_id, Health(status))

    def _do_Stop(self, effect: do.Stop) -> ev.Event:
        self.exit(effect.task_id, 143)
        return ev.Stopped(effect.task_id)

    def _do_Remove(self, effect: do.Remove) -> ev.Event:
        self.containers.pop(effect.task_id, None)
        return ev.Removed(effect.task_id)

    def _do_OpenPorts(self, effect: do.OpenPorts) -> ev.Event:
        self.open_ports[effect.task_id] = tuple(effect.ports)
        ports = [
            PortEndpoint(target_port=p.port.target, host="10.0.0.1", port=p.preferred or 50000 + n)
            for n, p in enumerate(effect.ports)
        ]
        return ev.PortsOpened(effect.task_id, ports)

    def _do_ClosePorts(self, effect: do.ClosePorts) -> ev.Event:
        self.open_ports.pop(effect.task_id, None)
        return ev.PortsDrained(effect.task_id)

    def _do_Connect(self, effect: do.Connect) -> ev.Event | None:
        if not self.manager_up:
            return ev.SessionClosed(effect.session, "connection refused")
        self.manager.session = effect.session
        return None

    def _do_Disconnect(self, effect: do.Disconnect) -> None:
        if self.manager.session == effect.session:
            self.manager.session = None

    def _do_Send(self, effect: do.Send) -> ev.Event | None:
        if effect.session != self.manager.session:
            return None
        self.manager.heard.append(effect.message)
        kind = effect.message.WhichOneof("kind")
        if kind == "hello":
            self.send_info()
            if self.secrets_at_hello:
                self.receive(dependencies=Dependencies(secrets=self.secrets_at_hello))
            self.send_complete()
        elif kind == "heartbeat":
            return self._message(ManagerMessage(acknowledged=StatusAck()))
        elif kind == "statuses":
            return self._take_statuses(effect.message)
        return None

    def _take_statuses(self, message: AgentMessage) -> ev.Event | None:
        for update in message.statuses.updates:
            history = self.manager.reported.setdefault(update.task_id, [])
            latest = TaskStatus()
            latest.CopyFrom(update.status)
            assert not history or latest.state >= history[-1].state, "a state went back"
            history.append(latest)
            task = self.manager.tasks.get(update.task_id)
            if task is not None:
                task.status.CopyFrom(latest)
        if not self.manager.acknowledges:
            return None
        return self._message(
            ManagerMessage(acknowledged=StatusAck(updates=message.statuses.updates))
        )

    def _message(self, message: ManagerMessage) -> ev.Received:
        assert self.manager.session is not None
        return ev.Received(self.manager.session, message)

    # --- the manager

    def receive(self, **kind: object) -> None:
        if self.manager.session is not None:
            self.give(self._message(ManagerMessage(**kind)))

    def send_info(self, **fields: object) -> None:
        node = Node(id="node1", role=NODE_ROLE_WORKER)
        managers = [ManagerAddress(node_id="m", address=a) for a in self.managers]
        info = {"session_id": "s", "node": node, "managers": managers} | fields
        self.receive(info=SessionInfo(**info))

    def send_complete(self) -> None:
        self.receive(
            assignments=Assignments(
                incarnation=self.manager.incarnation,
                revision=self.manager.revision,
                complete=True,
                tasks=self.manager.tasks.values(),
                revisions=self.manager.revisions.values(),
                ingress=self.manager.ingress,
            )
        )

    def send_change(self, tasks: Sequence[Task] = (), removed: Sequence[str] = ()) -> None:
        self.manager.revision += 1
        self.receive(
            assignments=Assignments(
                incarnation=self.manager.incarnation,
                revision=self.manager.revision,
                tasks=tasks,
                removed_task_ids=removed,
                revisions=self.manager.revisions.values(),
            )
        )

    def assign(
        self,
        task_id: str,
        spec: ServiceSpec | None = None,
        desired: TaskState.ValueType = TASK_STATE_RUNNING,
    ) -> Task:
        spec = spec or ServiceSpec()
        spec.annotations.name = "web"
        key = f"svc-{task_id}.1"
        self.manager.revisions[key] = ServiceRevision(
            id=key, service_id=f"svc-{task_id}", revision=1, spec=spec
        )
        task = Task(
            id=task_id,
            service_id=f"svc-{task_id}",
            service_name="web",
            slot=1,
            node_id="node1",
            revision=1,
            desired_state=desired,
            status=TaskStatus(state=TASK_STATE_ASSIGNED),
        )
        self.manager.tasks[task_id] = task
        self.send_change([task])
        return task

    def want(self, task_id: str, desired: TaskState.ValueType) -> None:
        task = self.manager.tasks[task_id]
        task.desired_state = desired
        self.send_change([task])

    def withdraw(self, task_id: str) -> None:
        self.manager.tasks.pop(task_id, None)
        self.send_change(removed=[task_id])

    # --- what happens to tasks

    def exit(self, task_id: str, code: int | None, **fields: object) -> None:
        container = self.containers.get(task_id)
        if container is None or container.state is not ContainerState.RUNNING:
            return
        container.state = ContainerState.EXITED
        container.exit = replace(Exit(code, self.now_ns), **fields)
        if task_id in self.waits:
            self.waits.discard(task_id)
            self.give(ev.Exited(task_id, container.exit))

    def report_health(self, task_id: str, status: HealthStatus) -> None:
        self.health[task_id] = status
        self.give(ev.HealthReported(task_id, Health(status)))

    # --- what is to be seen

    def status(self, task_id: str) -> TaskStatus:
        """As the manager knows it."""
        return self.manager.reported[task_id][-1]

    def states(self, task_id: str) -> list[int]:
        return [status.state for status in self.manager.reported.get(task_id, [])]

    def ended(self, task_id: str) -> bool:
        return self.states(task_id)[-1:] >= [TASK_STATE_COMPLETE]


@pytest.fixture
def world() -> World:
    """An agent with a session, and nothing to do."""
    world = World()
    world.start()
    world.settle()
    return world


@pytest.fixture(scope="session")
def new_world() -> Callable[[int], World]:
    """Makes worlds whose agent has not been started."""
    return World
