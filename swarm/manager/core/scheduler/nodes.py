"""The nodes as the scheduler sees them: kept from store changes, never rebuilt per decision."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_ACTIVE, NODE_STATE_READY, Node
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    TASK_STATE_RUNNING,
    Task,
)
from swarm.api.v1.types_pb2 import GenericResource
from swarm.manager.core.scheduler.attributes import Attributes
from swarm.manager.core.scheduler.demand import (
    NO_DEMAND,
    Demand,
    HostPort,
    amounts_of,
    demand_of,
)
from swarm.manager.core.store import View

# A node where this many tasks of a service revision failed within this time goes last
# (moby/swarmkit#1552: otherwise one broken node attracts every retry).
FAILURES_MAX = 5
FAILURE_WINDOW_NS = 5 * 60 * 1_000_000_000

# The journal of changed nodes keeps four times their number, and at least so many.
_JOURNAL_LEAST = 1_024

RevisionKey = tuple[str, int]

_K = TypeVar("_K", str, HostPort)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one task holds of its node, from being assigned until it has ended."""

    service_id: str
    demand: Demand
    # Counts for spreading: it is meant to run, not only still stopping.
    active: bool


@dataclass(slots=True)
class NodeInfo:
    """One node and what is claimed of it."""

    node: Node
    # Order of arrival: the last tie-break, the same on every run.
    number: int
    available: bool = False
    free_nano_cpus: int = 0
    free_memory_bytes: int = 0
    free_generic: dict[str, int] = field(default_factory=dict[str, int])
    ports: dict[HostPort, int] = field(default_factory=dict[HostPort, int])
    tasks_of: dict[str, int] = field(default_factory=dict[str, int])
    total: int = 0
    claims: dict[str, Claim] = field(default_factory=dict[str, Claim])
    # (kind, name) of the named generic resources that each task holds.
    names_of: dict[str, set[tuple[str, str]]] = field(
        default_factory=dict[str, "set[tuple[str, str]]"]
    )
    failures: dict[RevisionKey, deque[int]] = field(default_factory=dict[RevisionKey, deque[int]])

    def set_node(self, node: Node) -> None:
        """Take over a new row; claims stay."""
        old, new = self.node.description.resources, node.description.resources
        self.free_nano_cpus += new.nano_cpus - old.nano_cpus
        self.free_memory_bytes += new.memory_bytes - old.memory_bytes
        for kind, amount in amounts_of(old).items():
            _bump(self.free_generic, kind, -amount)
        for kind, amount in amounts_of(new).items():
            _bump(self.free_generic, kind, amount)
        self.node = node
        self.available = (
            node.status.state == NODE_STATE_READY
            and node.spec.availability == NODE_AVAILABILITY_ACTIVE
        )

    def add(self, task_id: str, claim: Claim) -> None:
        """The task now holds `claim`."""
        self.claims[task_id] = claim
        self._count(claim, 1)

    def release(self, task_id: str) -> bool:
        """The task holds nothing any more. True if it did."""
        claim = self.claims.pop(task_id, None)
        if claim is None:
            return False
        self.names_of.pop(task_id, None)
        self._count(claim, -1)
        return True

    def hold(self, task_id: str, assigned: Iterable[GenericResource]) -> None:
        """The task was given these generic resources."""
        names = {(generic.kind, name) for generic in assigned for name in generic.names}
        if names:
            self.names_of[task_id] = names

    def assign(self, task_id: str, demand: Demand) -> list[GenericResource]:
        """Which generic resources the task is given: where a kind has names, the first free ones.

        It has been added; that there are enough is what the filters are for."""
        assigned: list[GenericResource] = []
        taken = {held for names in self.names_of.values() for held in names}
        for kind, amount in demand.generic:
            names = [
                name
                for generic in self.node.description.resources.generic
                if generic.kind == kind
                for name in generic.names
            ]
            if names:
                free = [name for name in names if (kind, name) not in taken][:amount]
                assigned.append(GenericResource(kind=kind, names=free))
            else:
                assigned.append(GenericResource(kind=kind, count=amount))
        self.hold(task_id, assigned)
        return assigned

    def failed(self, key: RevisionKey, at_ns: int) -> None:
        """A task of that revision failed here."""
        times = self.failures.setdefault(key, deque(maxlen=FAILURES_MAX))
        times.append(at_ns)
        for other, their in list(self.failures.items()):
            if their[-1] < at_ns - FAILURE_WINDOW_NS:
                del self.failures[other]

    def is_failing(self, key: RevisionKey, now_ns: int) -> bool:
        """Did FAILURES_MAX tasks of that revision fail here within the window?"""
        times = self.failures.get(key)
        return (
            times is not None
            and len(times) == FAILURES_MAX
            and min(times) > now_ns - FAILURE_WINDOW_NS
        )

    def _count(self, claim: Claim, sign: int) -> None:
        demand = claim.demand
        self.free_nano_cpus -= sign * demand.nano_cpus
        self.free_memory_bytes -= sign * demand.memory_bytes
        for kind, amount in demand.generic:
            _bump(self.free_generic, kind, -sign * amount)
        for port in demand.host_ports:
            _bump(self.ports, port, sign)
        if claim.active:
            self.total += sign
            _bump(self.tasks_of, claim.service_id, sign)


def _bump(counts: dict[_K, int], key: _K, by: int) -> None:
    count = counts.get(key, 0) + by
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)


class NodeSet:
    """All nodes, and the demands of the revisions that tasks name.

    `put` and `forget` are idempotent per task, so that a placement may be counted before it
    is committed, and put right if it is dropped.
    """

    def __init__(self) -> None:
        self._infos: dict[str, NodeInfo] = {}
        self._by_number: dict[int, NodeInfo] = {}
        self._attributes = Attributes()
        self._demands: dict[RevisionKey, Demand] = {}
        # The same claim object for all tasks of a revision: compared by identity.
        self._claims: dict[tuple[str, int, bool], Claim] = {}
        self._arrivals = 0
        self._journal: list[int] = []
        # How much of the journal has been cut off.
        self._journal_start = 0

    def __iter__(self) -> Iterator[NodeInfo]:
        return iter(self._infos.values())

    def __len__(self) -> int:
        return len(self._infos)

    def get(self, node_id: str) -> NodeInfo | None:
        return self._infos.get(node_id)

    def numbered(self, number: int) -> NodeInfo | None:
        """By the order of arrival."""
        return self._by_number.get(number)

    def matching(self, demand: Demand) -> Iterator[NodeInfo]:
        """Those on which the demand's constraints hold, in no order."""
        by_number = self._by_number
        return (by_number[number] for number in self._attributes.matching(demand.constraints))

    # What changed

    @property
    def mark(self) -> int:
        """The moment now, for `changed_since`."""
        return self._journal_start + len(self._journal)

    def changed_since(self, mark: int) -> Iterable[int] | None:
        """The numbers of nodes whose claims changed, and inverted (`~number`) those whose rows
        did; None: too many, look at all."""
        start = mark - self._journal_start
        return set(self._journal[start:]) if start >= 0 else None

    def note(self, number: int) -> None:
        """The node's claims changed; inverted: its row did."""
        journal = self._journal
        journal.append(number)
        if len(journal) > 4 * len(self._infos) + _JOURNAL_LEAST:
            cut = len(journal) // 2
            del journal[:cut]
            self._journal_start += cut

    # Demands and claims

    def demand(self, view: View, service_id: str, revision: int) -> Demand:
        """Of a service revision. Revisions never change, so it is worked out once."""
        key = (service_id, revision)
        demand = self._demands.get(key)
        if demand is None:
            demand = self._demands[key] = demand_of(view.spec(service_id, revision))
        return demand

    def known_demand(self, service_id: str, revision: int) -> Demand:
        """Of a revision that was asked for before."""
        return self._demands.get((service_id, revision), NO_DEMAND)

    def forget_revision(self, service_id: str, revision: int) -> None:
        """The revision's row is gone."""
        self._demands.pop((service_id, revision), None)
        self._claims.pop((service_id, revision, True), None)
        self._claims.pop((service_id, revision, False), None)

    def claim(self, view: View, service_id: str, revision: int, *, active: bool) -> Claim:
        """What any task of the revision holds of its node."""
        key = (service_id, revision, active)
        claim = self._claims.get(key)
        if claim is None:
            demand = self.demand(view, service_id, revision)
            claim = self._claims[key] = Claim(service_id, demand, active)
        return claim

    # Following the store

    def put_node(self, node: Node, tasks: Iterable[Task], view: View) -> None:
        """A new or changed row; `tasks` are those of the node, looked at where it is new."""
        info = self._infos.get(node.id)
        if info is None:
            self._arrivals += 1
            info = self._infos[node.id] = NodeInfo(Node(id=node.id), self._arrivals)
            self._by_number[info.number] = info
            for task in tasks:
                self.put(task, view)
        info.set_node(node)
        self._attributes.put(info.number, node)
        self.note(~info.number)

    def remove_node(self, node_id: str) -> None:
        info = self._infos.pop(node_id, None)
        if info is not None:
            del self._by_number[info.number]
            self._attributes.remove(info.number)
            self.note(~info.number)

    def put(self, task: Task, view: View) -> bool:
        """Count the task as it is now. True if it gave back something its node can use."""
        info = self._infos.get(task.node_id)
        if info is None:
            return False
        claim = self._claim_of(task, view)
        old = info.claims.get(task.id)
        if claim is old:
            return False
        info.release(task.id)
        if claim is not None:
            info.add(task.id, claim)
            info.hold(task.id, task.assigned_generic)
        self.note(info.number)
        return old is not None

    def forget(self, task: Task) -> bool:
        """The task is deleted. True if it gave back something its node can use."""
        info = self._infos.get(task.node_id)
        if info is None or not info.release(task.id):
            return False
        self.note(info.number)
        return True

    def failed(self, task: Task) -> None:
        """The task has just ended; remember where, if it failed."""
        if task.status.state in (TASK_STATE_FAILED, TASK_STATE_REJECTED):
            info = self._infos.get(task.node_id)
            if info is not None:
                info.failed((task.service_id, task.revision), task.status.timestamp_ns)
                self.note(info.number)

    def _claim_of(self, task: Task, view: View) -> Claim | None:
        if not TASK_STATE_ASSIGNED <= task.status.state <= TASK_STATE_RUNNING:
            return None
        active = task.desired_state <= TASK_STATE_RUNNING
        return self.claim(view, task.service_id, task.revision, active=active)
