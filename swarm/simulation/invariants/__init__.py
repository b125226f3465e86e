"""What must always hold, checked after every event at the cost of what the event changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarm.api.v1.raft_pb2 import Entry, HardState
from swarm.manager.core import effects as fx
from swarm.manager.core.consensus import AppliedEntry
from swarm.manager.core.recovery import NewCluster
from swarm.manager.core.store import Store
from swarm.simulation.invariants.drains import DrainInvariants
from swarm.simulation.invariants.files import FileInvariants
from swarm.simulation.invariants.history import History
from swarm.simulation.invariants.jobs import JobInvariants
from swarm.simulation.invariants.log import CommittedLog, TookEffect
from swarm.simulation.invariants.placement import PlacementInvariants
from swarm.simulation.invariants.raft import RaftInvariants
from swarm.simulation.invariants.states import States
from swarm.simulation.invariants.tasks import TaskInvariants
from swarm.simulation.invariants.updates import UpdateInvariants

if TYPE_CHECKING:
    from swarm.simulation.cluster import Cluster
    from swarm.simulation.manager_host import ManagerHost


class Invariants:
    """Told by the managers' shells; raises Violation."""

    def __init__(self, cluster: Cluster) -> None:
        self.log = CommittedLog()
        self.raft = RaftInvariants(self.log)
        self.tasks = TaskInvariants()
        self.placement = PlacementInvariants()
        self.files = FileInvariants()
        self.updates = UpdateInvariants()
        self.jobs = JobInvariants()
        self.drains = DrainInvariants()
        self.history = History(cluster.loop)
        self.states = States()
        self.checked = 0

    def begin(self, store: Store) -> None:
        """What every manager begins with, at index 1."""
        self.log.begin(store.revision)
        self.placement.begin(store)

    def recovered(
        self, entries: Sequence[Entry], applied: Sequence[AppliedEntry], store: Store
    ) -> None:
        """Made anew of a log that is the longest of its group: all of it counts as committed,
        and nothing that was is missing."""
        for entry, done in zip(entries, applied, strict=True):
            self._took_effect(self.log.recovered(entry, done), done)
        self.log.check_recovered(store)

    def begun_anew(self, beginning: NewCluster) -> None:
        """A new group, whose log goes on from there."""
        self.log.begun_anew(beginning)
        self.raft.begun_anew(beginning.index)

    def started(self, host: ManagerHost, hard_state: HardState) -> None:
        self.raft.started(host, hard_state)

    def ended(self, host: ManagerHost) -> None:
        self.raft.ended(host)
        self.states.ended(host)

    def applied(self, host: ManagerHost, entry: AppliedEntry) -> None:
        """A manager applied an entry; the first to do so says what it means."""
        self._took_effect(self.log.applied(host, entry), entry)

    def _took_effect(self, effects: TookEffect | None, entry: AppliedEntry) -> None:
        if effects is not None:
            self.history.took_effect(effects)
            self.tasks.applied(entry.changes)
            self.placement.applied(entry.changes)
            self.files.applied(entry.changes)
            self.updates.applied(entry.changes)
            self.jobs.applied(entry.changes)
            self.drains.applied(entry.changes)
            self.history.applied(entry.changes)

    def handled(self, host: ManagerHost, events: int, effects: Sequence[fx.Effect]) -> None:
        """A manager took so many events in one turn."""
        self.checked += events
        self.raft.handled(host, effects)
        self.log.compare(host)
        self.states.handled(host)
