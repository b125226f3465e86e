"""Bugs in the store, the brain, the scheduler, and what agents are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.task_pb2 import Task, TaskStatus
from swarm.manager.core import effects as fx
from swarm.manager.core.consensus import Consensus
from swarm.manager.core.dispatcher.reports import supersedes
from swarm.manager.core.leadership import Leadership
from swarm.manager.core.manager import ManagerCore
from swarm.manager.core.orchestrator.work import Work
from swarm.manager.core.scheduler.demand import Demand, demand_of
from swarm.manager.core.store import Store
from swarm.manager.core.store import store as store_module
from swarm.manager.core.store.objects import TABLES
from swarm.manager.core.store.verdicts import RequestMemory
from swarm.simulation.mutants.patches import Maker, Patch, everywhere


def _double_slot() -> list[Patch]:
    """A slot's task is made twice now and then."""
    create = Work.create
    made = [0]

    def twice(self: Work, *args: Any, **named: Any) -> Any:
        made[0] += 1
        if made[0] % 10 == 0:
            create(self, *args, **named)
        return create(self, *args, **named)

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


def _status_goes_back() -> list[Patch]:
    """Any status that is another one than the stored one is taken, however old."""

    def differs(old: TaskStatus, new: TaskStatus) -> bool:
        return old != new

    def same(task: Task, status: TaskStatus) -> bool:
        return task.status == status

    return [(store_module, "_advances", differs), *everywhere(supersedes, same)]


def _reservation_ignored() -> list[Patch]:
    """The scheduler takes every task for one that reserves nothing."""

    def nothing(spec: ServiceSpec) -> Demand:
        return dataclasses.replace(demand_of(spec), nano_cpus=0, memory_bytes=0)

    return everywhere(demand_of, nothing)


def _request_forgotten_in_snapshot() -> list[Patch]:
    """Which requests were answered is not in snapshots."""
    loaded = Store.loaded

    def without(self: Store, header: Any, verdicts: Iterable[Any]) -> None:
        del verdicts
        loaded(self, header, ())

    return [(Store, "loaded", without)]


MAKERS: dict[str, Maker] = {
    "double-slot": _double_slot,
    "request-twice": _request_twice,
    "restore-merges": _restore_merges,
    "brain-outlives-term": _brain_outlives_term,
    "status-goes-back": _status_goes_back,
    "reservation-ignored": _reservation_ignored,
    "request-forgotten-in-snapshot": _request_forgotten_in_snapshot,
}
