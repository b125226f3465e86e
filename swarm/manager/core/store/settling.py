"""Which services' tasks may differ from what the specs want, kept up to date per change.

A new leader begins with these, without a look at the rest (DESIGN, law 4).
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from swarm.api.v1.service_pb2 import (
    UPDATE_STATE_ROLLBACK_STARTED,
    UPDATE_STATE_UPDATING,
    Service,
    ServiceSpec,
)
from swarm.api.v1.task_pb2 import TASK_STATE_REMOVE, Task
from swarm.manager.core.store.objects import SlotKey, slot_key, wanted

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(slots=True)
class Tally:
    """Numbers of one service's tasks."""

    # Of tasks that are wanted, per slot and per revision.
    slots: dict[SlotKey, int] = field(default_factory=dict[SlotKey, int])
    wanted_of: dict[int, int] = field(default_factory=dict[int, int])
    wanted: int = 0
    # Of all tasks, per revision.
    uses_of: dict[int, int] = field(default_factory=dict[int, int])
    # Not to be removed yet.
    lingering: int = 0


class Settling:
    def __init__(self) -> None:
        self.unsettled: dict[str, None] = {}
        self.tallies: dict[str, Tally] = {}
        self._touched: dict[str, None] = {}

    def touch(self, service_id: str) -> None:
        """The service or its spec changed: it is looked at in the next `settle`."""
        self._touched[service_id] = None

    def move_task(self, old: Task | None, new: Task | None) -> None:
        if old is not None and new is not None and _same_for_tally(old, new):
            return
        if old is not None:
            self._count(old, -1)
        if new is not None:
            self._count(new, +1)

    def settle(
        self,
        service_of: Callable[[str], Service | None],
        spec_of: Callable[[str, int], ServiceSpec | None],
    ) -> Iterable[str]:
        """Look again at what was touched; gives the ids of those services."""
        touched = list(self._touched)
        self._touched.clear()
        for service_id in touched:
            service = service_of(service_id)
            tally = self.tallies.get(service_id)
            if service is None:
                settled = tally is None or not tally.lingering
            else:
                spec = spec_of(service_id, service.revision)
                settled = spec is not None and _is_settled(service, spec, tally or Tally())
            if settled:
                self.unsettled.pop(service_id, None)
            else:
                self.unsettled[service_id] = None
        return touched

    def uses(self, service_id: str, revision: int) -> int:
        tally = self.tallies.get(service_id)
        return tally.uses_of.get(revision, 0) if tally is not None else 0

    def wants(self, service_id: str, revision: int) -> bool:
        """Whether a task of the revision is wanted."""
        tally = self.tallies.get(service_id)
        return tally is not None and revision in tally.wanted_of

    def _count(self, task: Task, sign: int) -> None:
        service_id = task.service_id
        self._touched[service_id] = None
        tally = self.tallies.get(service_id)
        if tally is None:
            tally = self.tallies[service_id] = Tally()
        _add(tally.uses_of, task.revision, sign)
        if wanted(task):
            _add(tally.slots, slot_key(task), sign)
            _add(tally.wanted_of, task.revision, sign)
            tally.wanted += sign
        if task.desired_state < TASK_STATE_REMOVE:
            tally.lingering += sign
        if not tally.uses_of:
            del self.tallies[service_id]


def _same_for_tally(old: Task, new: Task) -> bool:
    return (
        old.desired_state == new.desired_state
        and old.node_id == new.node_id
        and old.revision == new.revision
        and old.slot == new.slot
        and old.service_id == new.service_id
    )


def _add(counts: dict[_Key, int], key: _Key, sign: int) -> None:
    count = counts.get(key, 0) + sign
    if count:
        counts[key] = count
    else:
        del counts[key]


def _is_settled(service: Service, spec: ServiceSpec, tally: Tally) -> bool:
    if spec.WhichOneof("mode") != "replicated":
        return False
    if service.update.state in (UPDATE_STATE_UPDATING, UPDATE_STATE_ROLLBACK_STARTED):
        return False
    return (
        tally.wanted == len(tally.slots) == spec.replicated.replicas
        and tally.wanted_of.get(service.task_revision, 0) == tally.wanted
    )
