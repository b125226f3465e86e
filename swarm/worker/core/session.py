"""The session with a manager, any of them: found, kept, given up, and found again.

Managers are tried in random order, the one that was lost last, each once before any is tried
again, with a pause that grows while nobody serves us. A session counts as serving from its first
complete assignments on. What the managers have not committed is sent again in every new session.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from swarm.api.v1.dispatcher_pb2 import (
    AgentMessage,
    Assignments,
    Dependencies,
    ManagerMessage,
    SessionGoodbye,
    SessionHeartbeat,
    SessionHello,
    SessionInfo,
)
from swarm.api.v1.image_pb2 import ImageDuties
from swarm.api.v1.logs_pb2 import LogBatch, LogSubscription
from swarm.api.v1.node_pb2 import NodeDescription, NodeRole
from swarm.api.v1.task_pb2 import TaskStatus
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev
from swarm.worker.core.outbox import Outbox


class Rng(Protocol):
    """What is used of random.Random."""

    def random(self) -> float: ...

    def randrange(self, stop: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """Seconds."""

    backoff_min_s: float = 0.1
    backoff_max_s: float = 1.0
    answer_s: float = 3.0  # from Connect to the first answer
    heartbeat_s: float = 1.0  # until the manager says otherwise
    # Less than the four and a half after which the leader takes this node for dead: one that was
    # served by a manager that froze has found another one by then.
    silent_periods: int = 3
    silent_min_s: float = 2.0
    status_batch_s: float = 0.02  # between two reports
    role_again_s: float = 10.0  # a role that differs is told again, as renewing may have failed


@dataclass(frozen=True, slots=True)
class TakeAssignments:
    """For the agent: newer than all that was taken before."""

    assignments: Assignments


@dataclass(frozen=True, slots=True)
class TakeDependencies:
    """For the agent: secrets and configs that the next assignments need."""

    dependencies: Dependencies


@dataclass(frozen=True, slots=True)
class TakeManagers:
    """For the agent: what this manager says of managers and of this node."""

    info: SessionInfo


@dataclass(frozen=True, slots=True)
class TakeImageDuties:
    """For the agent: which images it is to keep."""

    duties: ImageDuties


@dataclass(frozen=True, slots=True)
class Subscribe:
    session: int
    subscription: LogSubscription


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    subscription_id: str


@dataclass(frozen=True, slots=True)
class SessionOver:
    """Nothing can be sent on it any more."""


SessionWish = (
    TakeAssignments
    | TakeDependencies
    | TakeImageDuties
    | TakeManagers
    | Subscribe
    | Unsubscribe
    | SessionOver
)
SessionEvent = (
    ev.Wake
    | ev.Received
    | ev.SessionClosed
    | ev.ManagersGiven
    | ev.CertificateRenewed
    | ev.Described
)


class Session:
    """`position` is the (incarnation, revision) taken last; older assignments are refused."""

    def __init__(self, rng: Rng, times: SessionTimes, outbox: Outbox) -> None:
        self.position = (0, 0)
        self._rng = rng
        self._times = times
        self._outbox = outbox
        self._description = NodeDescription()
        self._told_description = NodeDescription()  # in this session
        self._address = ""
        self._role: NodeRole.ValueType = NodeRole.NODE_ROLE_WORKER
        self._wanted_role: NodeRole.ValueType | None = None
        self._role_again_at = 0.0
        self._root = b""
        self._given: tuple[str, ...] = ()
        self._known: tuple[str, ...] = ()
        self._untried: list[str] = []
        self._last_session = 0
        self._session: int | None = None
        self._manager = ""
        self._answered = False
        self._complete = False  # had its complete assignments
        self._backoff_s = times.backoff_min_s
        self._connect_at: float | None = None
        self._answer_by = 0.0
        self._heartbeat_s = times.heartbeat_s
        self._heartbeat_at = 0.0
        self._heard_at = 0.0
        self._report_at = 0.0
        self._expected_wakeup: float | None = None
        self._ended = False
        self._out: list[do.Effect | SessionWish] = []

    @property
    def managers(self) -> list[str]:
        """HOST:PORT of all that are known, the one that serves this node first."""
        return list(dict.fromkeys([*([self._manager] if self.is_up else []), *self._managers()]))

    @property
    def is_up(self) -> bool:
        return self._session is not None and self._answered

    def begin(self, loaded: ev.Loaded, known: Iterable[str], now: float) -> None:
        """`known` are the managers' addresses that the last session gave."""
        self._description = loaded.description
        self._address = loaded.address
        self._role = loaded.certificate_role
        self._root = loaded.root_certificate_pem
        self._given = tuple(loaded.managers)
        self._known = tuple(known)
        self._connect_at = now

    def handle(self, event: SessionEvent, now: float) -> list[do.Effect | SessionWish]:
        self._out = []
        match event:
            case ev.Wake():
                self._forgive_lateness(now)
            case ev.Received(session=session, message=message):
                if session == self._session:
                    self._received(message, now)
            case ev.SessionClosed(session=session, reason=reason, refused=refused):
                if session == self._session:
                    self._lost(reason, now, refused=refused)
            case ev.ManagersGiven(addresses=addresses):
                self._managers_given(addresses, now)
            case ev.CertificateRenewed(role=role, root_certificate_pem=root):
                self._certificate_renewed(role, root, now)
            case ev.Described(description=description):
                self._described(description)
        return self._out

    def settle(self, now: float) -> list[do.Effect | SessionWish]:
        """What the time asks for; to be called after every event, once statuses are put."""
        self._out = []
        if self._session is None:
            if self._connect_at is not None and now >= self._connect_at:
                self._connect(now)
        elif not self._answered:
            if now >= self._answer_by:
                self._give_up(f"manager {self._manager} does not answer", now)
        else:
            self._keep_up(now)
        self._expected_wakeup = self.next_wakeup()
        return self._out

    def next_wakeup(self) -> float | None:
        if self._session is None:
            return self._connect_at
        if not self._answered:
            return self._answer_by
        times = [self._heartbeat_at, self._silent_from()]
        if self._outbox.has_unsent:
            times.append(self._report_at)
        return min(times)

    def put_status(self, task_id: str, status: TaskStatus) -> None:
        self._outbox.put(task_id, status)

    def forget_status(self, task_id: str) -> None:
        self._outbox.discard(task_id)

    def logs_done(self, subscription_id: str, error: str) -> list[do.Effect]:
        batch = LogBatch(subscription_id=subscription_id, done=True, error=error)
        return self._sent(AgentMessage(logs=batch))

    def goodbye(self) -> list[do.Effect]:
        """The last words; after them the session is left to end by itself, and none follows."""
        effects = self.flush() + self._sent(AgentMessage(goodbye=SessionGoodbye()))
        self._session = None
        self._connect_at = None
        self._ended = True
        return effects

    def flush(self) -> list[do.Effect]:
        """Reports what is unsent without waiting for the batch to grow."""
        if not self.is_up:
            return []
        return [e for r in self._outbox.reports() for e in self._sent(AgentMessage(statuses=r))]

    # --- finding a manager

    def _connect(self, now: float) -> None:
        address = self._pick_manager()
        if address is None:
            self._connect_at = None  # until somebody gives us one
            return
        self._last_session += 1
        self._session = self._last_session
        self._manager = address
        self._answered = self._complete = False
        self._connect_at = None
        self._answer_by = now + self._times.answer_s
        incarnation, revision = self.position
        self._told_description = self._description
        hello = SessionHello(
            description=self._description,
            address=self._address,
            incarnation=incarnation,
            revision=revision,
        )
        self._out.append(do.Connect(self._session, address))
        self._out.append(do.Send(self._session, AgentMessage(hello=hello)))

    def _pick_manager(self) -> str | None:
        candidates = self._managers()
        self._untried = [address for address in self._untried if address in candidates]
        if not self._untried:
            self._untried = candidates
        if not self._untried:
            return None
        return self._untried.pop(self._rng.randrange(len(self._untried)))

    def _managers(self) -> list[str]:
        return list(dict.fromkeys(self._known + self._given))

    def _managers_given(self, addresses: Sequence[str], now: float) -> None:
        self._given = tuple(addresses)
        if self._session is None and not self._ended:
            self._connect_at = now

    def _certificate_renewed(self, role: NodeRole.ValueType, root: bytes, now: float) -> None:
        """A session with the old certificate is replaced, at once and without a pause."""
        self._role = role
        self._root = root
        self._wanted_role = None
        if self._ended:
            return
        if self._session is not None:
            self._out.append(do.Disconnect(self._session))
            self._over()
        self._connect_at = now

    # --- being served

    def _received(self, message: ManagerMessage, now: float) -> None:
        self._heard_at = now
        match message.WhichOneof("kind"):
            case "info":
                self._info(message.info, now)
            case "dependencies":
                self._out.append(TakeDependencies(message.dependencies))
            case "assignments":
                self._assignments(message.assignments, now)
            case "image_duties":
                self._out.append(TakeImageDuties(message.image_duties))
            case "acknowledged":
                self._outbox.acknowledge(message.acknowledged.updates)
            case "log_subscription":
                assert self._session is not None
                self._out.append(Subscribe(self._session, message.log_subscription))
            case "log_unsubscribe":
                self._out.append(Unsubscribe(message.log_unsubscribe))
            case _:
                pass

    def _info(self, info: SessionInfo, now: float) -> None:
        if info.heartbeat_period_ns > 0:
            self._heartbeat_s = info.heartbeat_period_ns / 1e9
        if info.managers:
            self._known = tuple(manager.address for manager in info.managers)
        if not self._answered:
            self._answered = True
            self._heartbeat_at = now + self._heartbeat_s * self._rng.random()
            self._report_at = now
            self._outbox.resend()
            self._out.append(do.SessionUp(self._manager))
            self._tell_description()
        self._out.append(TakeManagers(info))
        self._compare_role(info, now)
        if info.root_certificate_pem and info.root_certificate_pem != self._root:
            self._root = info.root_certificate_pem
            self._out.append(do.RootChanged(info.root_certificate_pem))

    def _compare_role(self, info: SessionInfo, now: float) -> None:
        if not info.HasField("node"):
            return
        if info.node.role == self._role:
            self._wanted_role = None
        elif info.node.role != self._wanted_role:
            self._wanted_role = info.node.role
            self._tell_role(now)

    def _tell_role(self, now: float) -> None:
        if self._wanted_role is not None:
            self._role_again_at = now + self._times.role_again_s
            self._out.append(do.RoleChanged(self._wanted_role))

    def _assignments(self, assignments: Assignments, now: float) -> None:
        position = (assignments.incarnation, assignments.revision)
        if position < self.position:
            self._give_up(f"manager {self._manager} is behind what this node has seen", now)
        elif not (assignments.complete or self._complete):
            self._give_up(f"manager {self._manager} sent changes to nothing", now)
        else:
            self.position = position
            self._complete = True
            self._backoff_s = self._times.backoff_min_s
            self._untried = []
            self._out.append(TakeAssignments(assignments))

    def protest(self, reason: str, now: float) -> list[do.Effect | SessionWish]:
        """What the manager sent makes no sense: another one may do better."""
        self._out = []
        if self._session is not None:
            self._give_up(reason, now)
        return self._out

    def _described(self, description: NodeDescription) -> None:
        self._description = description
        if self.is_up:
            self._tell_description()

    def _tell_description(self) -> None:
        """Where it has changed since the hello."""
        if self._description != self._told_description:
            self._told_description = self._description
            self._out += self._sent(AgentMessage(description=self._description))

    def _keep_up(self, now: float) -> None:
        if now >= self._silent_from():
            self._give_up(f"manager {self._manager} has fallen silent", now)
            return
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + self._heartbeat_s * (0.9 + 0.2 * self._rng.random())
            self._out += self._sent(AgentMessage(heartbeat=SessionHeartbeat()))
            if now >= self._role_again_at:
                self._tell_role(now)
        if self._outbox.has_unsent and now >= self._report_at:
            self._report_at = now + self._times.status_batch_s
            self._out += self.flush()

    def _sent(self, message: AgentMessage) -> list[do.Effect]:
        return [do.Send(self._session, message)] if self._session is not None else []

    # --- losing a manager

    def _silent_from(self) -> float:
        silence = self._heartbeat_s * self._times.silent_periods
        return self._heard_at + max(silence, self._times.silent_min_s)

    def _forgive_lateness(self, now: float) -> None:
        """If we were late ourselves, what the manager said may still wait to be read."""
        if self._expected_wakeup is not None and now > self._expected_wakeup:
            self._heard_at += now - self._expected_wakeup
            self._answer_by += now - self._expected_wakeup

    def _give_up(self, reason: str, now: float) -> None:
        assert self._session is not None
        self._out.append(do.Disconnect(self._session))
        self._lost(reason, now, refused=False)

    def _lost(self, reason: str, now: float, *, refused: bool) -> None:
        if self._answered:
            self._untried = [address for address in self._managers() if address != self._manager]
        self._over()
        self._out.append(do.SessionDown(reason, refused))
        self._connect_at = now + self._backoff_s * (0.5 + self._rng.random())
        self._backoff_s = min(self._backoff_s * 2, self._times.backoff_max_s)

    def _over(self) -> None:
        self._session = None
        self._answered = self._complete = False
        self._out.append(SessionOver())
