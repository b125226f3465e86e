"""What each worker is owed, worked out by any manager from its own applied store.

A session first gets SessionInfo and all its assignments, once the store is as new as what the
agent has seen, and then only what changed: work per change, never per session and task.
Changes are collected for up to 100 ms; a session that was quiet gets the first at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.dispatcher_pb2 import (
    Assignments,
    ManagerAddress,
    ManagerMessage,
    SessionHello,
    SessionInfo,
    StatusAck,
    TaskStatusUpdate,
)
from swarm.api.v1.image_pb2 import Image, ImageDuties
from swarm.api.v1.node_pb2 import Member, Node
from swarm.api.v1.service_pb2 import ServiceRevision
from swarm.api.v1.task_pb2 import TASK_STATE_ASSIGNED, Task
from swarm.manager.core.dispatcher.dependencies import SentDependencies, needed_by
from swarm.manager.core.dispatcher.ingress import IngressTable
from swarm.manager.core.dispatcher.liveness import DEFAULT_PERIOD_NS
from swarm.manager.core.dispatcher.reports import Reported, Reports
from swarm.manager.core.store import StoreChange, View, ended

# Changes are collected so long (swarmkit dispatcher.go).
BATCH_S = 0.1
# A node says what it has taken in before the request that makes it known is through, and that may
# have to wait for a leader: so long nothing of it is forgotten.
UNKNOWN_S = 60.0


@dataclass(slots=True)
class Flush:
    """What is due: messages in order per session, and sessions to be closed."""

    messages: list[tuple[str, ManagerMessage]] = field(
        default_factory=list[tuple[str, ManagerMessage]]
    )
    # Of nodes that are no part of the cluster any more.
    close: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Session:
    id: str
    node_id: str
    # What the agent has seen already, from this manager or another.
    seen_incarnation: int
    seen_revision: int
    reports: Reports
    owes_info: bool = True
    owes_complete: bool = True
    owes_duties: bool = True
    duties: ImageDuties = field(default_factory=ImageDuties)
    # Images that the node has and the cluster does not know: when it is to forget each.
    unknown: dict[str, float] = field(default_factory=dict[str, float])
    # Tasks that are new, other or gone since the last flush.
    tasks: dict[str, None] = field(default_factory=dict[str, None])
    sent_revisions: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    dependencies: SentDependencies = field(default_factory=SentDependencies)
    ingress_number: int = 0
    flushed_at: float = float("-inf")
    # When it is to be flushed; None: nothing is owed.
    due_at: float | None = None


class Sessions:
    """Deterministic with `now`, monotonic seconds. Messages returned are shared: don't change."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._of_node: dict[str, _Session] = {}
        self._due: list[tuple[float, str]] = []
        self._ingress = IngressTable()
        # When the ingress table is to be worked out next, and when it was last.
        self._ingress_due: float | None = None
        self._ingress_done = float("-inf")
        self._started = False
        # Those whose store is behind what their agent has seen.
        self._behind: dict[str, None] = {}
        self._managers: Sequence[ManagerAddress] | None = None

    # Events

    def opened(self, session_id: str, node_id: str, hello: SessionHello, now: float) -> str | None:
        """An agent said hello. Returns the id of its older session, which is to be closed."""
        older = self._of_node.get(node_id)
        if older is not None:
            self.closed(older.id)
        session = _Session(session_id, node_id, hello.incarnation, hello.revision, Reports(node_id))
        self._sessions[session_id] = self._of_node[node_id] = session
        self._owe(session, now)
        return older.id if older is not None else None

    def closed(self, session_id: str) -> None:
        """The stream has ended."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._behind.pop(session_id, None)
            if self._of_node.get(session.node_id) is session:
                del self._of_node[session.node_id]

    def changed(self, changes: Sequence[StoreChange], view: View, now: float) -> None:
        """An entry was applied: note who is owed what."""
        for change in changes:
            if self._started:
                self._ingress.changed(change, view)
            row = change.new if change.new is not None else change.old
            if isinstance(row, Task):
                self._task_changed(change.old, change.new, row, now)
            elif isinstance(row, Node):
                self._node_changed(change.old, change.new, row.id, now)
            elif isinstance(row, Image):
                self._image_changed(change.old, change.new, now)
            elif isinstance(row, Member):
                self._managers = None
                self._owe_info_to_all(now)
            elif isinstance(row, Cluster) and _tells_agents(change.old, change.new):
                self._owe_info_to_all(now)
        if self._ingress.dirty and self._ingress_due is None:
            self._ingress_due = max(now, self._ingress_done + BATCH_S)
        for session_id in list(self._behind):
            self._owe(self._sessions[session_id], now)

    def restored(self, view: View, now: float) -> None:
        """The store was swapped for another: nothing that was sent can be built upon."""
        self._managers = None
        self._started = False
        for session in self._sessions.values():
            session.owes_info = session.owes_complete = session.owes_duties = True
            session.ingress_number = 0
            session.sent_revisions.clear()
            for task_id in list(session.reports.waiting):
                session.reports.task_changed(task_id, view.task(task_id))
            self._owe(session, now)

    def reported(
        self, session_id: str, updates: Iterable[TaskStatusUpdate], view: View, now: float
    ) -> Reported:
        """Statuses from an agent: what of it is for the leader."""
        session = self._sessions.get(session_id)
        if session is None:
            return Reported()
        reported = session.reports.take(updates, view)
        if session.reports.acks:
            self._owe(session, now)
        return reported

    def outstanding(self) -> list[TaskStatusUpdate]:
        """Statuses that the store lacks still: for a new leader, or after a lost relay."""
        return [
            update
            for session in self._sessions.values()
            for update in session.reports.waiting.values()
        ]

    def node_of(self, session_id: str) -> str | None:
        session = self._sessions.get(session_id)
        return session.node_id if session is not None else None

    def session_of(self, node_id: str) -> str | None:
        session = self._of_node.get(node_id)
        return session.id if session is not None else None

    # What is due

    def next_flush(self) -> float | None:
        """When `flush` has something next."""
        times = [at for at in (self._next_session(), self._ingress_due) if at is not None]
        return min(times) if times else None

    def _next_session(self) -> float | None:
        while self._due:
            at, session_id = self._due[0]
            session = self._sessions.get(session_id)
            if session is not None and session.due_at == at:
                return at
            heapq.heappop(self._due)
        return None

    def flush(self, view: View, now: float) -> Flush:
        """Everything due by `now`."""
        flush = Flush()
        self._refresh_ingress(view, now)
        while (at := self._next_session()) is not None and at <= now:
            session = self._sessions[heapq.heappop(self._due)[1]]
            session.due_at = None
            self._flush_session(session, view, now, flush)
        return flush

    def _flush_session(self, session: _Session, view: View, now: float, flush: Flush) -> None:
        node = view.node(session.node_id)
        incarnation = _incarnation(view)
        if _is_behind(session, incarnation, view.revision):
            self._behind[session.id] = None
            return
        self._behind.pop(session.id, None)
        if node is None:
            flush.close.append(session.id)
            return
        messages: list[ManagerMessage] = []
        if session.owes_info:
            messages.append(ManagerMessage(info=self._info(session, node, view)))
        assignments = self._assignments(session, incarnation, view)
        if assignments is not None:
            messages += [
                ManagerMessage(dependencies=unsent) for unsent in session.dependencies.unsent(view)
            ]
            messages.append(ManagerMessage(assignments=assignments))
        if session.owes_duties:
            messages += self._new_duties(session, node, view, now)
        if session.reports.acks:
            acks = StatusAck(updates=session.reports.acks)
            messages.append(ManagerMessage(acknowledged=acks))
            session.reports.acks.clear()
        session.owes_info = False
        if messages:
            session.flushed_at = now
        flush.messages += [(session.id, message) for message in messages]

    # Noting

    def _task_changed(self, old: object, new: object, row: Task, now: float) -> None:
        if not row.node_id:
            return
        session = self._of_node.get(row.node_id)
        if session is None:
            return
        before = old if isinstance(old, Task) else None
        after = new if isinstance(new, Task) else None
        acknowledged = session.reports.task_changed(row.id, after)
        is_news = _is_news(before, after)
        if is_news:
            session.tasks[row.id] = None
        is_over = after is None or ended(after)
        if is_over and session.dependencies.needs(row.id):
            session.dependencies.put(row.id, ())
            is_news = True
        if is_news or acknowledged:
            self._owe(session, now)

    def _node_changed(self, old: object, new: object, node_id: str, now: float) -> None:
        session = self._of_node.get(node_id)
        if session is None:
            return
        if not isinstance(old, Node) or not isinstance(new, Node):
            self._owe(session, now)
            return
        if old.role != new.role or old.spec != new.spec:
            session.owes_info = True
            self._owe(session, now)
        if old.description.images.digests != new.description.images.digests:
            session.owes_duties = True
            self._owe(session, now)

    def _image_changed(self, old: object, new: object, now: float) -> None:
        """Its keepers are told; that it is gone, all that may have it."""
        nodes = {
            node_id: None
            for row in (old, new)
            if isinstance(row, Image)
            for node_id in row.keeper_node_ids
        }
        if isinstance(old, Image) and not isinstance(new, Image):
            nodes.update(dict.fromkeys(self._of_node))
            for session in self._of_node.values():
                session.unknown[old.id] = float("-inf")
        for node_id in nodes:
            session = self._of_node.get(node_id)
            if session is not None:
                session.owes_duties = True
                self._owe(session, now)

    def _owe_info_to_all(self, now: float) -> None:
        for session in self._sessions.values():
            session.owes_info = True
            self._owe(session, now)

    def _refresh_ingress(self, view: View, now: float) -> None:
        """At most every 100 ms: a service of many tasks makes a large entry."""
        if not self._started:
            self._started = True
            self._ingress.start(view)
        elif self._ingress_due is None or now < self._ingress_due:
            return
        self._ingress_due, self._ingress_done = None, now
        before = self._ingress.number
        self._ingress.refresh(view)
        if self._ingress.number != before:
            for session in self._sessions.values():
                self._owe(session, now)

    def _owe(self, session: _Session, now: float) -> None:
        self._owe_at(session, max(now, session.flushed_at + BATCH_S))

    def _owe_at(self, session: _Session, at: float) -> None:
        if session.due_at is None or at < session.due_at:
            session.due_at = at
            heapq.heappush(self._due, (at, session.id))

    # Messages

    def _info(self, session: _Session, node: Node, view: View) -> SessionInfo:
        cluster = view.cluster() or Cluster()
        if self._managers is None:
            self._managers = _managers(view)
        return SessionInfo(
            session_id=session.id,
            heartbeat_period_ns=cluster.spec.heartbeat_period_ns or DEFAULT_PERIOD_NS,
            managers=self._managers,
            node=node,
            root_certificate_pem=cluster.root_certificate_pem,
        )

    def _new_duties(
        self, session: _Session, node: Node, view: View, now: float
    ) -> list[ManagerMessage]:
        forget_at = {
            digest: session.unknown.get(digest, now + UNKNOWN_S)
            for digest in node.description.images.digests
            if view.image(digest) is None
        }
        session.unknown = forget_at
        later = [at for at in forget_at.values() if at > now]
        session.owes_duties = bool(later)
        if later:
            self._owe_at(session, min(later))
        duties = ImageDuties(
            keep=sorted(view.images_kept_by(node.id)),
            forget=[digest for digest, at in forget_at.items() if at <= now],
        )
        if duties == session.duties:
            return []
        session.duties = duties
        return [ManagerMessage(image_duties=duties)]

    def _assignments(self, session: _Session, incarnation: int, view: View) -> Assignments | None:
        complete = session.owes_complete
        if complete:
            ids: Iterable[str] = [task.id for task in view.tasks_of_node(session.node_id)]
        else:
            ids = session.tasks
        if complete:
            session.dependencies.start_over()
        tasks: list[Task] = []
        removed: list[str] = []
        for task_id in ids:
            task = view.task(task_id)
            session.dependencies.put(task_id, needed_by(task, view))
            if task is None:
                removed.append(task_id)
            elif _is_assigned(task):
                tasks.append(task)
        ingress = list(self._ingress.since(session.ingress_number))
        session.ingress_number = self._ingress.number
        session.tasks.clear()
        session.owes_complete = False
        secrets, configs, logins = session.dependencies.withdrawn()
        news = (tasks, removed, ingress, secrets, configs, logins)
        if not complete and not any(news):
            return None
        return Assignments(
            incarnation=incarnation,
            revision=view.revision,
            complete=complete,
            tasks=tasks,
            removed_task_ids=removed,
            revisions=_unsent_revisions(session, tasks, view),
            ingress=ingress,
            removed_secret_ids=secrets,
            removed_config_ids=configs,
            removed_login_ids=logins,
        )


def _unsent_revisions(
    session: _Session, tasks: Sequence[Task], view: View
) -> list[ServiceRevision]:
    rows: list[ServiceRevision] = []
    for task in tasks:
        key = (task.service_id, task.revision)
        if key not in session.sent_revisions:
            row = view.revision_row(*key)
            if row is not None:
                session.sent_revisions.add(key)
                rows.append(row)
    return rows


def _is_behind(session: _Session, incarnation: int, revision: int) -> bool:
    """Revisions of an older incarnation say nothing: the cluster was set back since."""
    if session.seen_incarnation != incarnation:
        return session.seen_incarnation > incarnation
    return session.seen_revision > revision


def _is_assigned(task: Task) -> bool:
    return task.status.state >= TASK_STATE_ASSIGNED


def _is_news(old: Task | None, new: Task | None) -> bool:
    """To the agent, which wrote the status itself."""
    if old is None or new is None:
        task = old or new
        return task is not None and _is_assigned(task)
    if not _is_assigned(new):
        return False
    return not _is_assigned(old) or old.desired_state != new.desired_state


def _incarnation(view: View) -> int:
    cluster = view.cluster()
    return cluster.incarnation if cluster is not None else 0


def _tells_agents(old: object, new: object) -> bool:
    """Did something of the cluster change that SessionInfo carries?"""
    if not isinstance(old, Cluster) or not isinstance(new, Cluster):
        return True
    return (
        old.root_certificate_pem != new.root_certificate_pem
        or old.spec.heartbeat_period_ns != new.spec.heartbeat_period_ns
    )


def _managers(view: View) -> list[ManagerAddress]:
    return [
        ManagerAddress(node_id=member.node_id, address=member.address)
        for member in view.members()
        if not member.removed and not member.learner
    ]
