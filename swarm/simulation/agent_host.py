"""An agent's shell in virtual time: database, runtime and session around the real AgentCore."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from swarm.api.v1.dispatcher_pb2 import AgentMessage, ManagerMessage
from swarm.api.v1.node_pb2 import NodeDescription
from swarm.api.v1.task_pb2 import PortEndpoint
from swarm.simulation.containers import Containers
from swarm.simulation.files import check_row
from swarm.simulation.invariants.files import check_held
from swarm.simulation.violation import Violation
from swarm.worker.core import effects as do
from swarm.worker.core import events as happened
from swarm.worker.core.agent import AgentCore

if TYPE_CHECKING:
    from swarm.simulation.cluster import Cluster
    from swarm.simulation.machine import Machine
    from swarm.simulation.manager_host import ManagerHost


class AgentStream:
    """A session's stream between one agent process and one manager process."""

    def __init__(
        self, agent: AgentHost, session: int, manager: ManagerHost, session_id: str
    ) -> None:
        self._agent = agent
        self._agent_epoch = agent.epoch
        self._session = session
        self._manager = manager
        self._manager_epoch = manager.epoch
        self._session_id = session_id
        self._loop = agent.cluster.loop
        self._network = agent.cluster.network
        self.broken = False

    def open(self) -> None:
        self._from_agent(
            lambda: self._manager.open_session(self, self._session_id, self._agent.name)
        )

    def to_manager(self, message: AgentMessage) -> None:
        self._from_agent(lambda: self._manager.session_message(self._session_id, message))

    def to_agent(self, message: ManagerMessage) -> None:
        self._from_manager(lambda: self._tell_agent(happened.Received(self._session, message)))

    def close_from_manager(self, reason: str) -> None:
        """After what was sent before."""
        self._from_manager(lambda: self._tell_agent(happened.SessionClosed(self._session, reason)))
        self.broken = True

    def agent_gone(self) -> None:
        """The agent disconnected, or its process ended."""
        if self.broken:
            return
        self.broken = True
        self._loop.after(0.002, self._manager_hears_end)

    def manager_gone(self) -> None:
        """The manager's process ended. The news may take a while: a machine can be dead, too."""
        if self.broken:
            return
        self.broken = True
        self._agent_hears_end(self._agent.cluster.network_rng.choice((0.002, 0.1, 4.0)))

    def _from_agent(self, arrive: Callable[[], None]) -> None:
        if self.broken:
            return

        def deliver() -> None:
            if self._manager.epoch == self._manager_epoch:
                arrive()
            elif not self.broken:
                self.broken = True
                self._agent_hears_end(0.002)

        if not self._network.segment(self._agent.name, self._manager.name, deliver):
            self._break()

    def _from_manager(self, arrive: Callable[[], None]) -> None:
        if self.broken:
            return
        if not self._network.segment(self._manager.name, self._agent.name, arrive):
            self._break()

    def _break(self) -> None:
        """What is lost breaks the stream; each side learns it after a time of its own."""
        self.broken = True
        rng = self._agent.cluster.network_rng
        self._loop.after(rng.uniform(0.1, 6.0), self._manager_hears_end)
        self._agent_hears_end(rng.uniform(0.1, 6.0))

    def _manager_hears_end(self) -> None:
        if self._manager.epoch == self._manager_epoch:
            self._manager.session_closed(self._session_id)

    def _agent_hears_end(self, delay: float) -> None:
        self._loop.after(
            delay,
            self._tell_agent,
            happened.SessionClosed(self._session, "the connection broke"),
        )

    def _tell_agent(self, event: happened.Event) -> None:
        if self._agent.epoch == self._agent_epoch:
            self._agent.submit(event)


class AgentHost:
    """One agent process after another, with one database, on one machine."""

    def __init__(self, cluster: Cluster, machine: Machine, containers: Containers) -> None:
        self.cluster = cluster
        self.machine = machine
        self.name = machine.name
        self.containers = containers
        self.rows: dict[tuple[str, str], bytes] = {}
        self.core: AgentCore | None = None
        self.epoch = 0
        self._streams: dict[int, AgentStream] = {}
        self._wake_at: float | None = None
        # Of the assignments that this process took last.
        self._position = (0, 0)
        self._paused = False
        self._backlog: list[happened.Event] = []
        self._rng = cluster.streams.of(f"agent/{machine.name}")

    # Life

    def start(self, description: NodeDescription) -> None:
        self.epoch += 1
        rng = self.cluster.streams.of(f"agent/{self.name}/{self.epoch}")
        self.core = AgentCore(self.name, rng)
        self._position = (0, 0)
        self.cluster.note(self.name, "agent starts")
        self.submit(
            happened.Loaded(
                rows=[happened.Row(*place, value) for place, value in self.rows.items()],
                managers=self.machine.known_managers,
                certificate_role=self.machine.role,
                root_certificate_pem=b"root",
                description=description,
                address=self.name,
            )
        )

    def crash(self) -> None:
        """The process is gone; containers stay."""
        if self.core is None:
            return
        self.cluster.note(self.name, "agent crashes")
        self.epoch += 1
        self.core = None
        self._paused = False
        self._backlog.clear()
        self._wake_at = None
        self.containers.agent_gone()
        for stream in self._streams.values():
            stream.agent_gone()
        self._streams.clear()

    @property
    def connected(self) -> bool:
        """A manager serves it, on a stream that is whole."""
        whole = any(not stream.broken for stream in self._streams.values())
        return whole and self.core is not None and self.core.connected

    def pause(self) -> None:
        if self.core is not None:
            self.cluster.note(self.name, "agent pauses")
            self._paused = True

    def resume(self) -> None:
        if not self._paused:
            return
        self.cluster.note(self.name, "agent goes on")
        self._paused = False
        backlog, self._backlog = self._backlog, []
        for event in backlog:
            self.submit(event)
        self.submit(happened.Wake())

    # Events in, effects out

    def submit(self, event: happened.Event) -> None:
        if self._paused:
            self._backlog.append(event)
            return
        core = self.core
        if core is None:
            return
        loop, clock = self.cluster.loop, self.machine.clock
        self.cluster.note(self.name, "agent >", event)
        try:
            effects = core.handle(event, clock.monotonic(loop.now), clock.unix_ns(loop.now))
        except Violation:
            raise
        except Exception as error:
            raise Violation("core does not fail", f"agent {self.name}: {error!r}") from error
        check_held(self.name, core)
        for effect in effects:
            self.cluster.note(self.name, "  agent <", effect)
            self._perform(effect)
        position = core.position
        if position < self._position:
            raise Violation(
                "an agent never takes older assignments",
                f"{self.name} goes from (incarnation, revision) {self._position} to {position}",
            )
        self._position = position
        self._set_wakeup()

    def _set_wakeup(self) -> None:
        assert self.core is not None, "it has just handled an event"
        at = self.core.next_wakeup()
        if at is None:
            return
        loop = self.cluster.loop
        # A hair later: the node's clock is computed back and forth.
        true = max(loop.now, self.machine.clock.true(at)) + 1e-6
        if self._wake_at is None or true < self._wake_at or self._wake_at <= loop.now:
            self._wake_at = true
            loop.at(true, self._wake, self.epoch, true)

    def _wake(self, epoch: int, at: float) -> None:
        if epoch == self.epoch and at == self._wake_at:
            self._wake_at = None
            self.submit(happened.Wake())

    def _later(self, delay: float, event: happened.Event) -> None:
        self.cluster.loop.after(delay, self._hand_in, self.epoch, event)

    def _hand_in(self, epoch: int, event: happened.Event) -> None:
        if epoch == self.epoch:
            self.submit(event)

    def _perform(self, effect: do.Effect) -> None:
        containers = self.containers
        match effect:
            case do.Save():
                self._save(effect)
            case do.Connect(session, address):
                self._connect(session, address)
            case do.Send(session, message):
                stream = self._streams.get(session)
                if stream is not None:
                    stream.to_manager(message)
            case do.Disconnect(session):
                stream = self._streams.pop(session, None)
                if stream is not None:
                    stream.agent_gone()
            case do.ListRuntime():
                self.cluster.loop.after(self._rng.uniform(0.001, 0.1), self._list, self.epoch)
            case do.Prepare(run):
                self._later(*containers.prepare(run))
            case do.Start(task_id):
                now_ns = self.machine.clock.unix_ns(self.cluster.loop.now)
                self._later(*containers.start(task_id, now_ns))
            case do.Wait(task_id):
                epoch = self.epoch
                containers.wait(
                    task_id,
                    lambda event: self.cluster.loop.after(0.001, self._hand_in, epoch, event),
                )
            case do.WatchHealth(task_id):
                report = containers.health(task_id)
                if report is not None:
                    self._later(*report)
            case do.Stop(task_id, grace_s):
                delay = containers.stop_takes_s(grace_s)
                self.cluster.loop.after(delay, self._stopped, self.epoch, task_id)
            case do.Remove(task_id):
                containers.remove(task_id)
                self._later(self._rng.uniform(0.001, 0.1), happened.Removed(task_id))
            case do.OpenPorts(task_id, ports):
                endpoints = [
                    PortEndpoint(
                        target_port=p.port.target,
                        host=self.name,
                        port=p.host_port or p.preferred or 40_000 + self._rng.randrange(20_000),
                    )
                    for p in ports
                ]
                self._later(0.001, happened.PortsOpened(task_id, endpoints))
            case do.ClosePorts(task_id, drain_s, _):
                busy_s = self._rng.uniform(0.0, min(drain_s, 0.5))
                self._later(busy_s, happened.PortsDrained(task_id))
            case do.RoleChanged(role):
                self.machine.role_changed(role)
            case _:
                pass

    def _save(self, save: do.Save) -> None:
        epoch = self.epoch

        def durable() -> None:
            if epoch != self.epoch:
                return
            for kind, key, value in save.puts:
                check_row(self.name, kind, value)
                self.rows[kind, key] = value
            for place in save.deletes:
                self.rows.pop(place, None)
            self.submit(happened.Saved(save.ticket))

        self.cluster.loop.after(self._rng.uniform(0.001, 0.01), durable)

    def _list(self, epoch: int) -> None:
        if epoch == self.epoch:
            self.submit(happened.RuntimeListed(self.containers.found()))

    def _stopped(self, epoch: int, task_id: str) -> None:
        """The signal was sent, whatever became of the agent meanwhile."""
        self.containers.end(task_id, 143)
        self._hand_in(epoch, happened.Stopped(task_id))

    def _connect(self, session: int, address: str) -> None:
        cluster = self.cluster
        machine = cluster.machines.get(address.partition(":")[0])
        if machine is not None and cluster.network.is_cut(self.name, machine.name):
            return  # no answer
        manager = machine.manager if machine is not None else None
        if manager is None or not manager.running:
            self._later(0.003, happened.SessionClosed(session, "connection refused"))
            return
        store = manager.store
        if store.cluster() is not None and store.node(self.name) is None:
            self._later(
                0.003, happened.SessionClosed(session, "this node was removed", refused=True)
            )
            return
        session_id = f"s{cluster.new_number()}"
        stream = self._streams[session] = AgentStream(self, session, manager, session_id)
        stream.open()
