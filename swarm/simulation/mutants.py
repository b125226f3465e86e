"""Deliberate bugs, each of which the simulator must find: one that finds nothing proves nothing.

A mutant replaces functions of production classes while it is applied, and never otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from swarm.api.v1.raft_pb2 import ConfChange, ConfState, Entry
from swarm.manager.core import effects as fx
from swarm.manager.core import recovery
from swarm.manager.core.consensus import Consensus
from swarm.manager.core.leadership import Leadership
from swarm.manager.core.manager import ManagerCore
from swarm.manager.core.orchestrator.work import Work
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.raft.log import RaftLog
from swarm.manager.core.raft.quorum import MajorityConfig, VoteResult
from swarm.manager.core.store.objects import TABLES
from swarm.manager.core.store.verdicts import RequestMemory
from swarm.simulation import new_cluster
from swarm.simulation.disk import Disk, SavedSnapshot
from swarm.simulation.manager_host import ManagerHost

# (owner, attribute, what stands there instead)
Patch = tuple[Any, str, Any]


class Mutants:
    def __init__(self, makers: Mapping[str, Callable[[], list[Patch]]]) -> None:
        self._makers = makers

    @property
    def names(self) -> list[str]:
        return list(self._makers)

    @contextmanager
    def applied(self, name: str) -> Generator[None]:
        """While inside, the bug is there. No name, no bug."""
        patches = self._makers[name]() if name else []
        kept = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in patches]
        for owner, attribute, instead in patches:
            setattr(owner, attribute, instead)
        try:
            yield
        finally:
            for owner, attribute, original in kept:
                setattr(owner, attribute, original)


def _vote_without_fsync() -> list[Patch]:
    """A term and a vote alone are reported durable before they are."""
    persist = Disk.persist

    def early(self: Disk, record: fx.Persist) -> None:
        persist(self, record)
        if not record.entries and record.snapshot is None:
            self.report_early(record.number)

    return [(Disk, "persist", early)]


def _ack_before_fsync() -> list[Patch]:
    """Entries are reported durable before they are."""
    persist = Disk.persist

    def early(self: Disk, record: fx.Persist) -> None:
        persist(self, record)
        if record.entries:
            self.report_early(record.number)

    return [(Disk, "persist", early)]


def _commit_old_term() -> list[Patch]:
    """An earlier term's entry is committed by counting (Raft paper, figure 8)."""

    def maybe_commit(self: RaftLog, index: int, term: int) -> bool:
        del term
        if index > self.committed:
            self.commit_to(index)
            return True
        return False

    return [(RaftLog, "maybe_commit", maybe_commit)]


def _quorum_off_by_one() -> list[Patch]:
    """Half is taken for a majority, of what is committed and of who is elected."""

    def committed_index(self: MajorityConfig, acked: Mapping[int, int]) -> int:
        if not self:
            return (1 << 64) - 1
        indexes = sorted((acked.get(voter, 0) for voter in self), reverse=True)
        return indexes[(len(indexes) - 1) // 2]

    def vote_result(self: MajorityConfig, votes: Mapping[int, bool]) -> VoteResult:
        if not self:
            return VoteResult.WON
        granted = sum(votes.get(voter, False) for voter in self)
        missing = sum(voter not in votes for voter in self)
        needed = (len(self) + 1) // 2
        if granted >= needed:
            return VoteResult.WON
        return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST

    return [
        (MajorityConfig, "committed_index", committed_index),
        (MajorityConfig, "vote_result", vote_result),
    ]


def _commit_one_short() -> list[Patch]:
    """Entries are committed with one acknowledgement less than a majority; elections are right."""

    def committed_index(self: MajorityConfig, acked: Mapping[int, int]) -> int:
        if not self:
            return (1 << 64) - 1
        indexes = sorted((acked.get(voter, 0) for voter in self), reverse=True)
        return indexes[max(0, len(indexes) // 2 - 1)]

    return [(MajorityConfig, "committed_index", committed_index)]


def _stale_reads() -> list[Patch]:
    """A read is answered from the store as it is, without the round to the quorum."""

    def read(self: Consensus, token: int) -> None:
        self._reads._confirmed.append((0, [token]))  # noqa: SLF001  # pyright: ignore

    return [(Consensus, "read", read)]


def _double_slot() -> list[Patch]:
    """A slot's task is made twice now and then."""
    create = Work.create
    made = [0]

    def twice(self: Work, *args: Any) -> Any:
        made[0] += 1
        if made[0] % 10 == 0:
            create(self, *args)
        return create(self, *args)

    return [(Work, "create", twice)]


def _request_twice() -> list[Patch]:
    """No request is remembered."""

    def get(self: RequestMemory, request_id: str) -> None:
        del self, request_id

    return [(RequestMemory, "get", get)]


def _restore_merges() -> list[Patch]:
    """A snapshot's rows are added to those that are there (jgroups-raft#301)."""
    restore = Consensus._restore  # noqa: SLF001  # pyright: ignore

    def merge(self: Consensus, snapshot: Any, out: list[fx.Effect]) -> None:
        old = self.store
        restore(self, snapshot, out)
        for table in TABLES:
            mine = self.store._rows[table]  # noqa: SLF001  # pyright: ignore
            for key, row in old._rows[table].items():  # noqa: SLF001  # pyright: ignore
                if key not in mine:
                    self.store.load(table, row)

    return [(Consensus, "_restore", merge)]


def _brain_outlives_term() -> list[Patch]:
    """A leader that lost and regained leadership goes on with its old brain, and what that
    proposed is good in any term."""

    def follow(self: Any, now: float, now_ns: int, out: list[fx.Effect]) -> None:
        self._note_leader(out)
        if self._leadership is None:
            if self.leads_and_knows:
                self._leadership = Leadership(self.consensus, self._ids, now)
        elif self.leads_and_knows:
            self._leadership.term = 0
            self._leadership.think(now, now_ns, out)

    return [(ManagerCore, "_follow_leadership", follow)]


def _dropped_snapshot_chunk() -> list[Patch]:
    """The last piece of a snapshot of several is lost on the way, and nobody notices."""
    receive = ManagerHost.receive_snapshot

    def cut(self: ManagerHost, message: Any, saved: SavedSnapshot, done: Any) -> None:
        pieces = list(saved.pieces)
        if len(pieces) > 1:
            pieces.pop(1)
        receive(
            self, message, SavedSnapshot(saved.index, saved.term, saved.conf_state, pieces), done
        )

    return [(ManagerHost, "receive_snapshot", cut)]


def _recover_known_commits() -> list[Patch]:
    """A new cluster is made of what its survivor knows to be committed, not of all of its log."""

    def known(storage: MemoryStorage) -> list[Entry]:
        commit = storage.initial_state()[0].commit
        return storage.entries(storage.first_index(), commit + 1, sys.maxsize)

    return [(new_cluster, "entries_of", known)]


def _recover_without_members() -> list[Patch]:
    """Changes of the group are skipped while a new cluster is made: it has another one anyway."""

    def unchanged(state: ConfState, change: ConfChange) -> ConfState:
        del change
        return state

    return [(recovery, "conf_state_after", unchanged)]


MUTANTS = Mutants(
    {
        "vote-without-fsync": _vote_without_fsync,
        "ack-before-fsync": _ack_before_fsync,
        "commit-old-term": _commit_old_term,
        "quorum-off-by-one": _quorum_off_by_one,
        "commit-one-short": _commit_one_short,
        "stale-reads": _stale_reads,
        "double-slot": _double_slot,
        "request-twice": _request_twice,
        "restore-merges": _restore_merges,
        "brain-outlives-term": _brain_outlives_term,
        "dropped-snapshot-chunk": _dropped_snapshot_chunk,
        "recover-known-commits": _recover_known_commits,
        "recover-without-members": _recover_without_members,
    }
)
