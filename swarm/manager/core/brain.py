"""The leader's one loop of decisions: store changes in, one proposal's worth of changes out.

Each pass goes in a fixed order over one draft: liveness, membership, orchestrators, scheduler,
reaper (DESIGN, "The brain"). A pass is a slice: it stops after a bounded number of changes and
leaves the rest on the agenda, so that no step of the event loop is long. The brain proposes
nothing while a proposal of its own is in flight, and nothing when there is nothing new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.managers_pb2 import HeardNode
from swarm.api.v1.node_pb2 import Member, Node
from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.store_pb2 import VERDICT_OK, Transaction, Verdict
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task
from swarm.manager.core.dispatcher.liveness import Liveness
from swarm.manager.core.dispatcher.node_rows import NodeRows
from swarm.manager.core.membership.decide import (
    Membership,
    ProposeConfChange,
    TransferLeadership,
)
from swarm.manager.core.modes import is_per_node
from swarm.manager.core.orchestrator import node as nodes
from swarm.manager.core.orchestrator.agenda import Agenda, Intent
from swarm.manager.core.orchestrator.dependencies import Dependents
from swarm.manager.core.orchestrator.global_ import slot_on
from swarm.manager.core.orchestrator.keepers import Keepers
from swarm.manager.core.orchestrator.move import Moves
from swarm.manager.core.orchestrator.reaper import prune_revisions
from swarm.manager.core.orchestrator.services import plan_service, settle_slot
from swarm.manager.core.orchestrator.update import Rollouts
from swarm.manager.core.orchestrator.update_status import in_progress, is_paused
from swarm.manager.core.orchestrator.work import Work
from swarm.manager.core.raft import Status
from swarm.manager.core.scheduler.scheduler import Scheduler
from swarm.manager.core.store import Draft, Ids, SlotKey, StoreChange, View, ended, slot_key
from swarm.manager.core.touched import touched_rows

# A pass ends after about so many changes, or slots looked at: some 10 ms of work.
PASS_CHANGES = 150
PASS_SLOTS = 150
# So many slots are compared with a spec in the time in which one is put right.
PLANNED_TO_SETTLED = 10
# A takeover counts so many tasks per call.
TAKEOVER_TASKS = 2_000
# A clock that runs a little fast or slow is not one that was set.
CLOCK_SET_NS = 1_000_000_000


@dataclass(slots=True)
class BrainOutput:
    """What is to be done. Empty: nothing is new."""

    # Each piece is for one log entry (at most 1 MiB and 2,000 changes), in this order, with
    # only_in_term set. `Brain.settled` is owed for every piece.
    proposals: list[list[Transaction]] = field(default_factory=list[list[Transaction]])
    membership: ProposeConfChange | TransferLeadership | None = None
    # One line each, for the log.
    notices: list[str] = field(default_factory=list[str])
    # Monotonic seconds: call `handle` again then, though nothing changed. `now`: at once, after
    # other work of the loop.
    next_wakeup: float | None = None


class Brain:
    """Only while this manager leads. `start` once its term's first entry is applied; then
    `handle` with all changes of every applied entry, in order, and when `next_wakeup` comes.

    `raft_status` answers with the leader's own RawNode.status(); it is asked only when there
    is something to decide about members.
    """

    def __init__(
        self,
        ids: Ids,
        raft_status: Callable[[], Status],
        pass_changes: int = PASS_CHANGES,
        pass_slots: int = PASS_SLOTS,
    ) -> None:
        self._ids = ids
        self._raft_status = raft_status
        self._pass_changes = pass_changes
        self._pass_slots = pass_slots
        self._reset()

    def _reset(self) -> None:
        self.liveness = Liveness()
        self._scheduler = Scheduler()
        self._agenda = Agenda()
        self._rollouts = Rollouts()
        self._moves = Moves()
        self._keepers = Keepers()
        self._membership = Membership()
        self._node_rows = NodeRows()
        self._global_services: dict[str, None] = {}
        self._dependents = Dependents()
        self._prune: dict[str, None] = {}
        # Monotonic; -inf: the group of managers is to be looked at now.
        self._members_at: float | None = None
        # Unix: when the tasks of a node that is down are given up.
        self._orphans_at: dict[str, int] = {}
        self._takeover: Iterator[str] | None = None
        # Of stored time before the monotonic one, when it was last looked at.
        self._clock_ahead_ns: int | None = None
        self._in_flight = 0
        # What the pass in flight wanted of slots, to be wanted again where it is refused.
        self._tried: dict[SlotKey, Intent] = {}
        self.term = 0

    # Events

    def start(self, view: View, term: int, now: float) -> None:
        """Lead from now on, from the store alone. What is unsettled comes from its indexes;
        what nodes have left is counted over all tasks in slices, by the first `handle`s."""
        self._reset()
        self.term = term
        self.liveness.start(view, now)
        self._membership.start(view.nodes())
        self._keepers.start(view)
        self._members_at = float("-inf")
        for node in view.nodes():
            self._scheduler.nodes.put_node(node, (), view)
            self._note_orphans(node)
        for service in view.services():
            self._note_service(service.id, view)
            if service.HasField("pending"):
                self._scheduler.reason_changed(service.id)
        for service_id in view.unsettled_services():
            self._agenda.add_service(service_id)
        for service_id in self._dependents.held():
            self._agenda.add_service(service_id)
        for node in view.nodes_not_ready():
            self._check_tasks_of(node.id, view)
        for bucket in (view.tasks_delayed(), view.tasks_to_reap(), view.tasks_ended_wanted()):
            for task in bucket:
                self._agenda.add_slot(slot_key(task))
        for key in view.slots_over_history():
            self._agenda.add_slot(key)
        self._prune = dict.fromkeys(view.services_to_prune())
        self._takeover = iter([task.id for task in view.tasks()])

    def heard(self, heard: HeardNode, now: float) -> None:
        """A manager (this one or another, by relay) heard of an agent. O(1)."""
        at = now - heard.age_ns / 1e9
        self._node_rows.heard(heard)
        if heard.goodbye:
            self.liveness.goodbye(heard.node_id, at)
        else:
            self.liveness.heard(heard.node_id, at)

    def late(self, seconds: float) -> None:
        """The loop or a relay was late: all deadlines move."""
        self.liveness.late(seconds)

    def settled(
        self, transactions: Sequence[Transaction], verdicts: Sequence[Verdict] | None, view: View
    ) -> None:
        """A piece was applied with these verdicts, or (None) will never be.

        Call it before the `handle` that brings its changes. What was refused is looked at anew.
        """
        self._in_flight -= 1
        for number, transaction in enumerate(transactions):
            if verdicts is None or verdicts[number].code != VERDICT_OK:
                self._look_again(transaction, view)

    def membership_settled(self) -> None:
        """The proposed membership change was applied, refused or dropped."""
        self._membership.settled()
        self._members_at = float("-inf")

    def handle(
        self, changes: Sequence[StoreChange], view: View, now: float, now_ns: int
    ) -> BrainOutput:
        """Take in what changed, and decide unless a decision is still in flight."""
        self._follow_clock(now, now_ns)
        self.liveness.changed(changes, view, now)
        for change in changes:
            self._note(change, view)
        output = BrainOutput()
        if self._takeover is not None and self._count_tasks(view):
            output.next_wakeup = now
            return output
        if view.cluster() is None:
            return output  # nothing to lead yet: its creation comes as a change
        if not self._in_flight:
            self._pass(view, now, now_ns, output)
        output.next_wakeup = self._next_wakeup(now, now_ns)
        return output

    def rejections(self, service_id: str) -> dict[str, int]:
        """For `explain`: how many nodes each filter keeps the service's waiting tasks off."""
        counts = self._scheduler.rejections(service_id)
        return {reason.name.lower(): count for reason, count in counts.items()}

    # Taking in

    def _follow_clock(self, now: float, now_ns: int) -> None:
        """Moments to come are kept in stored time. Where somebody sets the clock, they go along:
        set back by an hour, it makes nobody wait for an hour."""
        ahead_ns = now_ns - int(now * 1e9)
        if self._clock_ahead_ns is not None:
            by_ns = ahead_ns - self._clock_ahead_ns
            if abs(by_ns) > CLOCK_SET_NS:
                self._agenda.clock_set(by_ns)
                self._rollouts.clock_set(by_ns)
        self._clock_ahead_ns = ahead_ns

    def _note(self, change: StoreChange, view: View) -> None:
        old, new = change.old, change.new
        row = new if new is not None else old
        self._keepers.changed(change, view)
        if isinstance(row, Task):
            self._note_task(
                old if isinstance(old, Task) else None, new if isinstance(new, Task) else None, view
            )
        elif isinstance(row, Node):
            self._note_node(
                old if isinstance(old, Node) else None, new if isinstance(new, Node) else None, view
            )
        elif isinstance(row, Service):
            before = old if isinstance(old, Service) else None
            after = new if isinstance(new, Service) else None
            self._service_changed(before, after, view)
        elif isinstance(row, Member):
            self.membership_settled()
        elif isinstance(row, Cluster):
            for key in view.slots_over_history():
                self._agenda.add_slot(key)

    def _note_task(self, old: Task | None, new: Task | None, view: View) -> None:
        if new is None:
            assert old is not None, "a change from nothing to nothing"
            self._scheduler.task_removed(old)
            self._agenda.add_slot(slot_key(old))
            self._note_prunable(old, view)
            self._look_at_dependents(old.service_name)
            return
        self._scheduler.task_changed(new, view)
        if old is None:
            if not self._is_as_meant(new, view):
                self._agenda.add_slot(slot_key(new))
        elif old.desired_state != new.desired_state:
            self._agenda.add_slot(slot_key(new))
            self._look_at_dependents(new.service_name)
        elif old.status.state != new.status.state and new.status.state >= TASK_STATE_RUNNING:
            if ended(new):
                self._scheduler.nodes.failed(new)
            self._agenda.add_slot(slot_key(new))
            self._look_at_dependents(new.service_name)

    def _is_as_meant(self, task: Task, view: View) -> bool:
        """A new task, placed here a moment ago: does it still suit its node?"""
        if task.desired_state != TASK_STATE_RUNNING:
            return False
        demand = self._scheduler.nodes.demand(view, task.service_id, task.revision)
        node = view.node(task.node_id)
        return not task.node_id or (not nodes.is_down(node) and nodes.keeps_tasks(node, demand))

    def _note_prunable(self, task: Task, view: View) -> None:
        gone = view.service(task.service_id) is None
        if not view.revision_uses(task.service_id, task.revision):
            self._scheduler.forget_revision(task.service_id, task.revision)
            self._prune[task.service_id] = None
        elif gone:
            self._prune[task.service_id] = None

    def _note_node(self, old: Node | None, new: Node | None, view: View) -> None:
        node_id = (new or old or Node()).id
        if self._membership.node_changed(node_id, new):
            self._members_at = float("-inf")
        if new is None:
            self._orphans_at.pop(node_id, None)
            self._node_rows.forget(node_id)
        else:
            self._note_orphans(new)
        self._scheduler.node_changed(node_id, view)
        self._check_tasks_of(node_id, view)

    def _service_changed(self, old: Service | None, new: Service | None, view: View) -> None:
        service_id = (new or old or Service()).id
        self._note_service(service_id, view)
        self._look_at_dependents((new or old or Service()).name)
        if (
            old is None
            or new is None
            or old.revision != new.revision
            or old.held != new.held
            or _goes_on(old, new)
            or _gives_up(old, new)
        ):
            self._agenda.add_service(service_id)
            self._prune[service_id] = None
            self._scheduler.reason_changed(service_id)

    def _note_service(self, service_id: str, view: View) -> None:
        service = view.service(service_id)
        spec = view.spec(service_id, service.revision) if service is not None else None
        self._dependents.note(service_id, service, spec)
        if spec is not None and is_per_node(spec):
            self._global_services[service_id] = None
        else:
            self._global_services.pop(service_id, None)

    def _look_at_dependents(self, service_name: str) -> None:
        for service_id in self._dependents.of(service_name):
            self._agenda.add_service(service_id)

    def _note_orphans(self, node: Node) -> None:
        if nodes.is_down(node):
            self._orphans_at[node.id] = nodes.orphaned_at_ns(node)
        else:
            self._orphans_at.pop(node.id, None)

    def _check_tasks_of(self, node_id: str, view: View) -> None:
        """Look at every slot that has to do with the node."""
        for task in view.tasks_of_node(node_id):
            self._agenda.add_slot(slot_key(task))
        for service_id in self._global_services:
            self._agenda.add_slot(slot_on(service_id, node_id))

    def _count_tasks(self, view: View) -> bool:
        """A slice of the takeover: what each task holds of its node. True: more is left.

        A task that must leave its node (the last leader died before it could say so) is found
        on the way.
        """
        assert self._takeover is not None, "only during a takeover"
        more = False
        for task_id in islice(self._takeover, TAKEOVER_TASKS):
            more = True
            task = view.task(task_id)
            if task is None:
                continue
            self._scheduler.task_changed(task, view)
            if ended(task):
                self._scheduler.nodes.failed(task)
            elif task.node_id:
                node = view.node(task.node_id)
                demand = self._scheduler.nodes.demand(view, task.service_id, task.revision)
                if not nodes.keeps_tasks(node, demand):
                    self._agenda.add_slot(slot_key(task))
        if not more:
            self._takeover = None
        return more

    def _look_again(self, transaction: Transaction, view: View) -> None:
        for row in touched_rows(transaction):
            if isinstance(row, Task):
                stored = view.task(row.id)
                self._scheduler.task_removed(row)
                if stored is not None:
                    self._scheduler.task_changed(stored, view)
                key = slot_key(stored if stored is not None else row)
                self._agenda.add_slot(key)
                if key in self._tried:
                    self._agenda.plan(key.service_id, {key: self._tried[key]})
            elif isinstance(row, Node):
                self._scheduler.node_changed(row.id, view)
                self._check_tasks_of(row.id, view)
                self._members_at = float("-inf")
            elif isinstance(row, Service):
                self._scheduler.reason_changed(row.id)
                self._agenda.add_service(row.id)
            elif isinstance(row, Image):
                self._keepers.look_again(row.id)
            else:
                self._prune[row.service_id] = None

    # Deciding

    def _pass(self, view: View, now: float, now_ns: int, output: BrainOutput) -> None:
        draft = Draft(view)
        work = Work(draft, self._scheduler, self._agenda, self._ids, now_ns)
        self._write_nodes(work, now, output)
        self._decide_members(work, now, output)
        self._keepers.write(draft)
        self._give_up_orphans(view, now_ns)
        self._agenda.expire(now_ns)
        self._orchestrate(work)
        self._scheduler.run(draft, now_ns, self._pass_changes)
        self._scheduler.write_reasons(draft)
        for service_id in self._prune:
            prune_revisions(work, view, service_id)
        self._prune.clear()
        output.proposals = draft.split()
        self._in_flight = len(output.proposals)

    def _write_nodes(self, work: Work, now: float, output: BrainOutput) -> None:
        """Node rows whose state or description is not what was heard."""
        report = self.liveness.due(now)
        output.notices += report.notices
        for node_id in self._node_rows.write(work.draft, report.transitions, work.now_ns):
            self._scheduler.node_changed(node_id, work.draft)
            self._check_tasks_of(node_id, work.draft)

    def _decide_members(self, work: Work, now: float, output: BrainOutput) -> None:
        if self._members_at is None or now < self._members_at:
            return
        decision = self._membership.decide(work.draft, self._raft_status(), now, work.now_ns)
        self._members_at = decision.again_at
        output.membership = decision.raft
        output.notices += decision.notices
        for change in decision.roles:
            self._node_rows.set_role(work.draft, change.node_id, change.role)

    def _give_up_orphans(self, view: View, now_ns: int) -> None:
        for node_id, at_ns in list(self._orphans_at.items()):
            if now_ns >= at_ns:
                del self._orphans_at[node_id]
                self._check_tasks_of(node_id, view)

    def _orchestrate(self, work: Work) -> None:
        self._tried.clear()
        looked_at = 0.0
        while work.changes < self._pass_changes and looked_at < self._pass_slots:
            service_id = self._agenda.take_service()
            if service_id is not None:
                plan_service(work, self._rollouts, self._moves, service_id)
                continue
            planned = self._agenda.go_on(work)
            if planned is not None:
                looked_at += planned / PLANNED_TO_SETTLED
                continue
            slot = self._agenda.take_slot()
            if slot is not None:
                key, intent = slot
                if intent is not Intent.CHECK:
                    # A mere check of the slot later in the pass says nothing against it.
                    self._tried[key] = intent
                settle_slot(work, self._rollouts, self._moves, *slot)
                looked_at += 1
                continue
            self._rollouts.advance(work)
            self._moves.advance(work)
            if not self._agenda.has_work:
                return

    def _next_wakeup(self, now: float, now_ns: int) -> float | None:
        """In flight, only `settled` brings more to do."""
        if self._in_flight:
            return None
        news = self.liveness.has_news or self._node_rows.has_news or self._rollouts.has_news
        news = news or self._keepers.has_work or self._moves.has_news
        if news or self._agenda.has_work or self._scheduler.has_work:
            return now
        timers = (self._agenda.next_timer_ns(), self._rollouts.next_timer_ns())
        at_ns = [at for at in timers if at is not None]
        at_ns += self._orphans_at.values()
        times = [now + (at - now_ns) / 1e9 for at in at_ns]
        times += [at for at in (self.liveness.next_deadline(), self._members_at) if at is not None]
        return max(now, min(times)) if times else None


def _goes_on(old: Service, new: Service) -> bool:
    """A user's update with nothing new in it: one that was paused goes on."""
    return old.HasField("update") and not new.HasField("update")


def _gives_up(old: Service, new: Service) -> bool:
    """An update is paused: what it was to replace is left to drains, as anything else is."""
    return in_progress(old) and is_paused(new)
