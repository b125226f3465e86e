"""State machine safety: what was applied anywhere at an index is applied everywhere there, and
leaves every manager's tables equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.api.v1.raft_pb2 import ENTRY_CONF_CHANGE, Entry
from swarm.api.v1.store_pb2 import VERDICT_OK, LogPayload
from swarm.manager.core.consensus import AppliedEntry
from swarm.manager.core.raft.tracker import TrackerConfig
from swarm.manager.core.recovery import NewCluster
from swarm.manager.core.store import Store
from swarm.manager.core.store.objects import TABLES
from swarm.simulation.violation import Violation

if TYPE_CHECKING:
    from swarm.simulation.manager_host import ManagerHost

# Ids of requests that took effect, with the store's revision that they made.
TookEffect = list[tuple[str, int]]


class CommittedLog:
    """The one log that all managers apply, as it becomes known."""

    def __init__(self) -> None:
        # Position 0 is index 2: index 1 is the snapshot that everybody begins with.
        self._entries: list[Entry] = []
        # Highest term in which the entry can have been committed: its first applier's.
        self._terms: list[int] = []
        self._state_at: dict[int, tuple[int, ...]] = {}
        self._compared: dict[int, tuple[int, TrackerConfig]] = {}
        self._config_at: dict[int, TrackerConfig] = {}
        self._revision = 0
        self._empty_since = 1

    def begin(self, revision: int) -> None:
        self._revision = revision

    @property
    def last_index(self) -> int:
        return len(self._entries) + 1

    @property
    def last_working_index(self) -> int:
        """Of the last entry that is not a new leader's empty one."""
        return self._empty_since

    def committed_before(self, term: int) -> Entry | None:
        """The last entry that is known to have been committed before that term."""
        for position in range(len(self._terms) - 1, -1, -1):
            if self._terms[position] < term:
                return self._entries[position]
        return None

    def applied(self, host: ManagerHost, applied: AppliedEntry) -> TookEffect | None:
        """None where it was known; else what took effect with it."""
        core = host.core
        assert core is not None, "it applies"
        index = applied.index
        entry = core.consensus.storage.entries(index, index + 1, 1 << 60)[0]
        return self._take(host.name, entry, applied, core.consensus.node.raft.term)

    def recovered(self, entry: Entry, applied: AppliedEntry) -> TookEffect | None:
        """As `applied`, by who makes a new cluster of the log that holds the entry."""
        return self._take("the survivor", entry, applied, entry.term)

    def check_recovered(self, store: Store) -> None:
        """That store is what the new cluster begins with."""
        index = self.last_index
        if store.applied_index < index:
            raise Violation(
                "a new cluster has all that was committed",
                f"it was made of the log up to {store.applied_index}, of {index} entries",
            )
        known = self._state_at.setdefault(index, state_of(store))
        if known != state_of(store):
            raise Violation(
                "equal tables at an equal index",
                f"the survivor at {index}: {state_of(store)} instead of {known}",
            )

    def begun_anew(self, beginning: NewCluster) -> None:
        """The log goes on after a snapshot; what came between are no entries."""
        index, term = beginning.index, beginning.term
        while self.last_index < index:
            self._entries.append(Entry(index=self.last_index + 1, term=term))
            self._terms.append(term)
        self._empty_since, self._revision = index, beginning.image.header.revision

    def _take(self, who: str, entry: Entry, applied: AppliedEntry, term: int) -> TookEffect | None:
        index = entry.index
        if index <= self.last_index:
            known = self._entries[index - 2]
            if known.term != entry.term or known.data != entry.data or known.type != entry.type:
                raise Violation(
                    "state machine safety",
                    f"{who} applies another entry at {index}: term {entry.term}, "
                    f"before {known.term}",
                )
            return None
        if index != self.last_index + 1:
            raise Violation(
                "state machine safety", f"{who} applies {index} after {self.last_index}"
            )
        self._entries.append(entry)
        self._terms.append(term)
        if entry.data:
            self._empty_since = index
        if entry.type == ENTRY_CONF_CHANGE:
            self._revision = max([self._revision, *(c.revision for c in applied.changes)])
            return []
        return self._effects(entry, applied)

    def _effects(self, entry: Entry, applied: AppliedEntry) -> TookEffect:
        """A transaction took effect when it made the revision that comes next; one that was
        known already is answered with an older one."""
        effects: TookEffect = []
        if not entry.data:
            return effects
        made = {change.revision for change in applied.changes}
        payload = LogPayload.FromString(entry.data)
        if made and payload.only_in_term not in (0, entry.term):
            raise Violation(
                "one leader acts",
                f"what was computed in term {payload.only_in_term} took effect in entry "
                f"{entry.index} of term {entry.term}",
            )
        for transaction, verdict in zip(payload.transactions, applied.verdicts, strict=True):
            fresh = verdict.code == VERDICT_OK and verdict.revision in made
            if fresh and verdict.revision > self._revision:
                self._revision = verdict.revision
                if transaction.request_id:
                    effects.append((transaction.request_id, verdict.revision))
        return effects

    def compare(self, host: ManagerHost) -> None:
        """Tables and members of this manager with those of any other at the same index."""
        core = host.core
        assert core is not None, "it has just handled an event"
        index = core.consensus.applied_index
        config = core.consensus.node.raft.tracker.config
        compared = self._compared.get(host.raft_id)
        if compared is not None and compared[0] == index and compared[1] is config:
            return
        self._compared[host.raft_id] = (index, config)
        in_force = self._config_at.setdefault(index, config)
        if in_force != config:
            raise Violation(
                "equal members at an equal index",
                f"{host.name} at {index}: {config} instead of {in_force}",
            )
        state = state_of(core.store)
        known = self._state_at.setdefault(index, state)
        if known != state:
            raise Violation(
                "equal tables at an equal index",
                f"{host.name} at {index}: {state} instead of {known}",
            )


def state_of(store: Store) -> tuple[int, ...]:
    digests = [store.digest(table) for table in TABLES]
    return (store.revision, store.remembered_requests, *digests)
