"""A manager's shell: events in, the core's effects performed, answers to whoever waits.

There is no decision about the protocol here. Everything runs on one event loop; the log and
the snapshots have threads of their own (`raft_disk`).
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc.aio

from swarm.api.v1.dispatcher_pb2 import AgentMessage, ManagerMessage
from swarm.api.v1.managers_pb2 import RelayBatch
from swarm.api.v1.node_pb2 import Member
from swarm.api.v1.raft_pb2 import Message
from swarm.api.v1.store_pb2 import Transaction, Verdict
from swarm.disk import NoSpaceError
from swarm.manager.core import effects as fx
from swarm.manager.core import events as ev
from swarm.manager.core.manager import ManagerCore
from swarm.manager.core.membership import admission
from swarm.manager.core.raft import RaftCorrupt
from swarm.manager.core.store import Store
from swarm.manager.garbage import NewRows, leave_alone
from swarm.manager.raft_disk import RaftDisk
from swarm.manager.relay import RelayStream
from swarm.manager.transport import Transport
from swarm.manager.watches import Watches

_T = TypeVar("_T")

log = logging.getLogger(__name__)

TICK_S = 0.1
# A loop that woke up this late lets messages that have arrived go first.
_LATE_S = 0.1
_EVENTS_PER_TURN = 64
_SNAPSHOT_RETRY_S = 1.0


class Unavailable(Exception):  # noqa: N818 - gRPC's own word for it
    """Not done, or not known to be done: ask again with the same request id."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """Why this manager is none any more. `superseded`: not by a vote of its group, but because
    the cluster was made anew without it."""

    reason: str
    superseded: bool = False


@dataclass(slots=True)
class AgentSession:
    """An agent's stream: what is to be written to it, None at its end."""

    session_id: str
    node_id: str
    outgoing: "asyncio.Queue[ManagerMessage | None]"
    close_reason: str = ""


class Manager:
    """`stopped(let_go)` is called once when this manager is one no longer."""

    def __init__(
        self,
        core: ManagerCore,
        disk: RaftDisk,
        address: str,
        open_channel: Callable[[str], grpc.aio.Channel],
        stopped: Callable[[LetGo], None],
        fatal: Callable[[str], None],
    ) -> None:
        self.core = core
        self.watches = Watches()
        self.loop_lag_s = 0.0
        self.new_rows = NewRows()
        self._disk = disk
        self._stopped = stopped
        self._fatal = fatal
        self._open_channel = open_channel
        self._transport = Transport(
            core.raft_id,
            address,
            lambda: self.incarnation,
            open_channel,
            self._unreachable,
            self._refused,
        )
        self._relay = RelayStream(self.member_address, open_channel)
        self._events: deque[ev.Event] = deque()
        self._scheduled = False
        self._token = 0
        self._waiting: dict[int, asyncio.Future[fx.Answer]] = {}
        self._reading: dict[int, asyncio.Future[None]] = {}
        self._joining: dict[int, asyncio.Future[fx.JoinAnswer]] = {}
        self._sessions: dict[str, AgentSession] = {}
        self._role_changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None

    # Life

    async def start(self, known_members: Sequence[Member] = ()) -> None:
        """`known_members`: whom to answer before this manager's own log says who is who."""
        self._disk.start(
            lambda number: self.submit(ev.Persisted(number)),
            lambda enough: self.submit(ev.RoomOnDisk(enough)),
            self._fatal,
        )
        self._transport.set_members([*known_members, *self.store.members()])
        self._ticker = asyncio.create_task(self._tick(), name="raft-tick")
        self.submit(ev.Tick())
        leave_alone()

    async def stop(self) -> None:
        """Without a farewell: see `resign` for handing leadership over first."""
        if self._ticker is not None:
            self._ticker.cancel()
        for session in list(self._sessions.values()):
            self._end_session(session, "this manager stops")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_waiting("this manager stops")
        await self._relay.close()
        await self._transport.close()
        await self._disk.close()

    async def resign(self, timeout_s: float = 3.0) -> None:
        """Hand leadership over, if this manager leads and another one can."""
        if not self.leading or not self._has_heir():
            return
        self.submit(ev.Resign())
        deadline = time.monotonic() + timeout_s
        while self.leading and time.monotonic() < deadline:
            await self.role_change(0.1)
        if not self.leading:
            log.info("leadership is handed over")

    def _has_heir(self) -> bool:
        reachable = self.core.reachable_members() or frozenset[int]()
        voters = [m.raft_id for m in self.store.members() if not m.removed and not m.learner]
        return any(raft_id in reachable for raft_id in voters if raft_id != self.core.raft_id)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + TICK_S
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.loop_lag_s = loop.time() - due
            if self.loop_lag_s > _LATE_S:
                await asyncio.sleep(0.005)
            due = loop.time() + TICK_S
            self.submit(ev.Tick())

    # What the API asks

    @property
    def store(self) -> Store:
        return self.core.store

    @property
    def leading(self) -> bool:
        return self.core.leading

    @property
    def incarnation(self) -> int:
        """Of the cluster, as far as this manager knows; 0 before it has caught up."""
        cluster = self.store.cluster()
        return cluster.incarnation if cluster is not None else 0

    def member_address(self, raft_id: int) -> str:
        member = self.store.member(raft_id)
        return member.address if member is not None and not member.removed else ""

    async def propose(self, transaction: Transaction) -> Verdict:
        """Durable on a quorum and applied here, or `Unavailable`."""
        token, future = self._promise(self._waiting)
        self.submit(ev.Propose(token, transaction))
        answer = await future
        if answer.verdict is None:
            raise Unavailable(answer.refused or "leadership changed while it was under way")
        return answer.verdict

    async def read(self, timeout_s: float) -> None:
        """Returns when the store holds all that was committed before the call."""
        token, future = self._promise(self._reading)
        self.submit(ev.Read(token))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            self._reading.pop(token, None)
            raise Unavailable(self.no_leader_message()) from None

    async def join_raft(self, node_id: str, address: str, join_address: str) -> int:
        """The raft id under which the node was added."""
        token, future = self._promise(self._joining)
        raft_id = secrets.randbits(63) | 1
        self.submit(ev.JoinRaft(token, node_id, address, join_address, raft_id))
        answer = await future
        if answer.refused:
            raise Unavailable(answer.refused)
        return answer.raft_id

    async def role_change(self, timeout_s: float) -> None:
        """Wait until somebody else leads than now, or for so long."""
        event = self._role_changed
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass

    def no_leader_message(self) -> str:
        return (
            "The swarm does not have a leader. It's possible that too few managers are online. "
            "Make sure more than half of the managers are online."
        )

    # What the wire brings

    def introduced(self, raft_id: int, address: str) -> None:
        """A member calls; its address is as it says."""
        self._transport.introduce(raft_id, address)

    def received(self, messages: list[Message]) -> None:
        self.submit(ev.Received(messages))

    def received_snapshot(self, message: Message, store: Store) -> None:
        self.submit(ev.SnapshotReceived(message, store))

    def relayed(self, batch: RelayBatch) -> None:
        self.submit(ev.Relayed(batch))

    @property
    def disk(self) -> RaftDisk:
        return self._disk

    def open_session(self, node_id: str) -> AgentSession:
        session = AgentSession(secrets.token_hex(8), node_id, asyncio.Queue())
        self._sessions[session.session_id] = session
        self.submit(ev.SessionOpened(session.session_id, node_id))
        return session

    def session_message(self, session: AgentSession, message: AgentMessage) -> None:
        self.submit(ev.SessionMessage(session.session_id, message))

    def close_session(self, session: AgentSession) -> None:
        if self._sessions.pop(session.session_id, None) is not None:
            self.submit(ev.SessionClosed(session.session_id))

    def session_of(self, node_id: str) -> AgentSession | None:
        """The newest session of a node's agent with this manager."""
        sessions = [s for s in self._sessions.values() if s.node_id == node_id]
        return sessions[-1] if sessions else None

    def reconnect(self) -> None:
        """The node's certificate was renewed: use the new one."""
        self._transport.reconnect()
        self._relay.reconnect()

    # Events in, effects out

    def submit(self, event: ev.Event) -> None:
        """Hand an event to the core, after those that came before it and together with those
        that come before the loop's next round."""
        self._events.append(event)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._handle_waiting)

    def _handle_waiting(self) -> None:
        self._scheduled = False
        count = min(len(self._events), _EVENTS_PER_TURN)
        events = [self._events.popleft() for _ in range(count)]
        loop = asyncio.get_running_loop()
        try:
            for effect in self.core.handle_all(events, loop.time(), time.time_ns()):
                self._perform(effect)
        except RaftCorrupt as error:
            self._fatal(str(error))
        except Exception as error:
            log.exception("the manager's core failed")
            self._fatal(f"internal error: {error!r}")
        if self._events and not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._handle_waiting)

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Persist():
                self._disk.persist(effect)
            case fx.Send(messages):
                self._transport.send(messages)
            case fx.Answer(token):
                self._resolve(self._waiting, token, effect)
            case fx.ReadReady(token):
                self._resolve(self._reading, token, None)
            case fx.Changed():
                self.watches.publish(effect)
                self.new_rows.came(len(effect.changes))
            case fx.SessionSend(session_id, message):
                session = self._sessions.get(session_id)
                if session is not None:
                    session.outgoing.put_nowait(message)
            case fx.SessionClose(session_id, reason):
                session = self._sessions.pop(session_id, None)
                if session is not None:
                    self._end_session(session, reason)
            case fx.Relay(raft_id, batch):
                self._relay.send(raft_id, batch)
            case fx.RoleChanged():
                self._note_role(effect)
            case fx.MembersChanged(members):
                self._transport.set_members(members)
            case fx.JoinAnswer(token):
                self._resolve(self._joining, token, effect)
            case fx.SendSnapshot(message):
                self._spawn(self._send_snapshot(message))
            case fx.SaveSnapshot():
                self._spawn(self._save_snapshot(effect))
            case fx.CompactLog(index):
                self._disk.compact(index)
            case fx.Again():
                asyncio.get_running_loop().call_soon(self.submit, ev.Resume())
            case fx.Notice(text):
                log.info("%s", text)
            case fx.Stop(reason):
                self._stopped(LetGo(reason))

    def _note_role(self, effect: fx.RoleChanged) -> None:
        who = "this manager" if effect.leading else f"manager {effect.leader:x}"
        log.info("term %d: %s", effect.term, f"{who} leads" if effect.leader else "no leader")
        self._role_changed.set()
        self._role_changed = asyncio.Event()

    def _end_session(self, session: AgentSession, reason: str) -> None:
        session.close_reason = reason
        session.outgoing.put_nowait(None)

    async def _send_snapshot(self, message: Message) -> None:
        pieces = self._disk.read_snapshot(message.snapshot.index)
        try:
            ok = await self._transport.send_snapshot(message, pieces)
        except Exception:
            log.exception("snapshot %d can't be sent", message.snapshot.index)
            ok = False
        if not ok:
            # Who refuses it, because its disk is full perhaps, is asked again at once otherwise.
            await asyncio.sleep(_SNAPSHOT_RETRY_S)
        self.submit(ev.SnapshotSent(message.to, ok))

    async def _save_snapshot(self, effect: fx.SaveSnapshot) -> None:
        try:
            await self._disk.save_snapshot(effect)
        except NoSpaceError as error:
            self.submit(ev.SnapshotFailed(f"no snapshot was saved: {error}"))
            return
        except Exception as error:
            self._fatal(f"a snapshot can't be written: {error}")
            return
        self.submit(ev.SnapshotSaved(effect.index))

    # Small

    def _promise(
        self, waiting: "dict[int, asyncio.Future[_T]]"
    ) -> "tuple[int, asyncio.Future[_T]]":
        self._token += 1
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        waiting[self._token] = future
        return self._token, future

    def _resolve(self, waiting: "dict[int, asyncio.Future[_T]]", token: int, value: _T) -> None:
        future = waiting.pop(token, None)
        if future is not None and not future.done():
            future.set_result(value)

    def _fail_waiting(self, reason: str) -> None:
        for token in list(self._waiting):
            self._resolve(self._waiting, token, fx.Answer(token, None, reason))
        for token in list(self._joining):
            self._resolve(self._joining, token, fx.JoinAnswer(token, 0, reason))
        for future in self._reading.values():
            future.cancel()
        self._reading.clear()

    def _unreachable(self, raft_id: int) -> None:
        self.submit(ev.PeerUnreachable(raft_id))

    def _refused(self, raft_id: int, reason: str) -> None:
        log.warning("manager %x refuses our messages: %s", raft_id, reason)
        word = reason.partition(":")[0]
        if word == admission.REMOVED:
            self._stopped(LetGo("this manager was removed from the Raft group"))
        elif word == admission.SUPERSEDED:
            self._stopped(LetGo("the swarm was made anew without this manager", superseded=True))

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
