"""Who is alive, judged on the leader from what it heard of each agent (DESIGN: Who is alive).

Heartbeats are never stored. What is stored is a node's state, and only when it changes: this
module says which nodes should be READY or DOWN and are not yet, until the store agrees.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.api.v1.node_pb2 import NODE_STATE_DOWN, NODE_STATE_READY, Node, NodeState
from swarm.manager.core.store import StoreChange, View

DEFAULT_PERIOD_NS = 1_000_000_000
# A node is down after this many heartbeat periods of silence: less than the five in which a lost
# one is to be known as such. The rest is for the tick that notices it, a relay and the commit.
PERIODS = 4.5
# Where most of the cluster falls silent at once, the fault is more likely here than there.
MASS_DOWN_PERIODS = 2

SILENT = "heartbeat failure"
SAID_GOODBYE = "the node said goodbye"


@dataclass(slots=True)
class Transition:
    """The state a node should have, and has not."""

    node_id: str
    state: NodeState.ValueType
    message: str


@dataclass(slots=True)
class LivenessReport:
    transitions: list[Transition] = field(default_factory=list[Transition])
    # One line each, for the log.
    notices: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Watched:
    stored: NodeState.ValueType
    # Time of the last sign of life, or from when silence counts.
    heard_at: float
    # Value of Liveness._shift at that time: lateness since then is credited.
    shift: float
    alive: bool = False
    down: bool = False
    gone_at: float | None = None
    # Seconds granted by the mass-down guard for this silence.
    held: float = 0.0
    # Is an entry of it in the heap?
    queued: bool = False


class Liveness:
    """Deadlines of all nodes. Times are monotonic seconds of this manager.

    `heard` is O(1): a node has one heap entry, which is looked at when it is due and put back
    at its true deadline if the node was heard of meanwhile.
    """

    def __init__(self) -> None:
        self._period = DEFAULT_PERIOD_NS / 1e9
        self._shift = 0.0
        self._nodes: dict[str, _Watched] = {}
        self._heap: list[tuple[float, str]] = []
        # Nodes whose stored state is not the right one; insertion ordered.
        self._unsettled: dict[str, None] = {}

    def start(self, view: View, now: float) -> None:
        """Begin a leadership: every node has a full time-out from `now`."""
        self.__init__()
        self._set_period(view)
        for node in view.nodes():
            self._watch(node, now)

    def changed(self, changes: Sequence[StoreChange], view: View, now: float) -> None:
        """Follow the store: new and removed nodes, their states, the heartbeat period."""
        for change in changes:
            row = change.new if change.new is not None else change.old
            if isinstance(row, Node):
                self._node_changed(row.id, change.new, now)
            elif row is not None and row.DESCRIPTOR.name == "Cluster":
                self._set_period(view)

    def heard(self, node_id: str, at: float) -> None:
        """A sign of life at `at` (now minus the age that a relay gives)."""
        node = self._nodes.get(node_id)
        if node is None or (node.gone_at is not None and at < node.gone_at):
            return
        if at > node.heard_at or not node.alive:
            node.heard_at = max(at, node.heard_at)
            node.shift = self._shift
        node.alive, node.gone_at, node.held = True, None, 0.0
        if node.down:
            node.down = False
            self._queue(node_id, node)
        if node.stored == NODE_STATE_READY:
            self._unsettled.pop(node_id, None)
        else:
            self._unsettled[node_id] = None

    def goodbye(self, node_id: str, at: float) -> None:
        """The agent closes on purpose: down now, and nothing heard before `at` counts."""
        node = self._nodes.get(node_id)
        if node is not None and at >= node.heard_at:
            node.gone_at = at
            self._mark_down(node_id, node)

    def late(self, seconds: float) -> None:
        """This loop or a relay was late: silence up to now was partly ours."""
        if seconds > 0:
            self._shift += seconds

    def due(self, now: float) -> LivenessReport:
        """Every transition that the store lacks. Repeats itself until the store has it."""
        report = LivenessReport()
        self._expire(now, report)
        for node_id in self._unsettled:
            report.transitions.append(self._transition(node_id, self._nodes[node_id]))
        return report

    def next_deadline(self) -> float | None:
        """When `due` may have something new; never later than the first true deadline."""
        return self._heap[0][0] if self._heap else None

    @property
    def has_news(self) -> bool:
        """Does `due` have a transition that the store lacks?"""
        return bool(self._unsettled)

    @property
    def timeout(self) -> float:
        """Seconds of silence after which a node is down."""
        return self._period * PERIODS

    def _set_period(self, view: View) -> None:
        cluster = view.cluster()
        period_ns = cluster.spec.heartbeat_period_ns if cluster is not None else 0
        period = (period_ns or DEFAULT_PERIOD_NS) / 1e9
        if period == self._period:
            return
        self._period = period
        # A shorter period makes deadlines earlier than their entries: all are queued anew.
        self._heap.clear()
        for node_id, node in self._nodes.items():
            node.queued = False
            if not node.down:
                self._queue(node_id, node)

    def _watch(self, node: Node, now: float) -> None:
        watched = _Watched(node.status.state, now, self._shift)
        self._nodes[node.id] = watched
        if node.status.state == NODE_STATE_DOWN:
            watched.down = True
        else:
            self._queue(node.id, watched)

    def _queue(self, node_id: str, node: _Watched) -> None:
        if not node.queued:
            node.queued = True
            heapq.heappush(self._heap, (self._deadline(node), node_id))

    def _node_changed(self, node_id: str, new: object, now: float) -> None:
        if not isinstance(new, Node):
            self._nodes.pop(node_id, None)
            self._unsettled.pop(node_id, None)
            return
        watched = self._nodes.get(node_id)
        if watched is None:
            self._watch(new, now)
            return
        watched.stored = new.status.state
        if (watched.down and watched.stored == NODE_STATE_DOWN) or (
            watched.alive and watched.stored == NODE_STATE_READY
        ):
            self._unsettled.pop(node_id, None)
        elif watched.down or watched.alive:
            self._unsettled[node_id] = None

    def _deadline(self, node: _Watched) -> float:
        return node.heard_at + self.timeout + node.held + (self._shift - node.shift)

    def _mark_down(self, node_id: str, node: _Watched) -> None:
        node.down, node.alive = True, False
        if node.stored == NODE_STATE_DOWN:
            self._unsettled.pop(node_id, None)
        else:
            self._unsettled[node_id] = None

    def _transition(self, node_id: str, node: _Watched) -> Transition:
        if node.down:
            message = SILENT if node.gone_at is None else SAID_GOODBYE
            return Transition(node_id, NODE_STATE_DOWN, message)
        return Transition(node_id, NODE_STATE_READY, "")

    def _expire(self, now: float, report: LivenessReport) -> None:
        overdue = self._pop_overdue(now)
        held = [i for i in overdue if self._nodes[i].held]
        fresh = [i for i in overdue if not self._nodes[i].held]
        if fresh and self._most_are_silent(now):
            report.notices.append(self._mass_notice(len(fresh)))
            for node_id in fresh:
                node = self._nodes[node_id]
                # From now, not from the deadline: the loop may look late.
                node.held = now - self._deadline(node) + MASS_DOWN_PERIODS * self._period
                self._queue(node_id, node)
            fresh = []
        for node_id in held + fresh:
            self._mark_down(node_id, self._nodes[node_id])

    def _pop_overdue(self, now: float) -> list[str]:
        """Nodes past their true deadline, taken off the heap; others go back to theirs."""
        overdue: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            _, node_id = heapq.heappop(self._heap)
            node = self._nodes.get(node_id)
            if node is None:
                continue
            node.queued = False
            if node.down:
                continue
            if self._deadline(node) > now:
                self._queue(node_id, node)
            else:
                overdue.append(node_id)
        return overdue

    def _most_are_silent(self, now: float) -> bool:
        """Would more than half of the nodes that are up go down within one period?"""
        up = silent = 0
        for node in self._nodes.values():
            if node.down:
                continue
            up += 1
            silent += node.held > 0 or self._deadline(node) <= now + self._period
        return up > 1 and silent * 2 > up

    def _mass_notice(self, count: int) -> str:
        wait = MASS_DOWN_PERIODS * self._period
        up = sum(not node.down for node in self._nodes.values())
        return (
            f"{count} of {up} nodes fell silent at once: waiting {wait:g} s more before they are "
            "called down (is this manager cut off, or was it asleep?)"
        )
