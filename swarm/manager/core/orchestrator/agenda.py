"""What is to be looked at: services, slots, and moments in time. Never everything."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Generator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from swarm.manager.core.store import SlotKey

if TYPE_CHECKING:
    from swarm.manager.core.orchestrator.work import Work


class Intent(Enum):
    """What a service's plan wants of a slot."""

    # Put right what is wrong with it.
    CHECK = "check"
    # Fill it.
    CREATE = "create"
    # Empty it.
    REMOVE = "remove"
    # Give it a task of the newest revision.
    UPDATE = "update"
    # Give it a task on another node, beside the one that it has.
    MOVE = "move"


Intents = dict[SlotKey, Intent]


class Slice(NamedTuple):
    """One step of a plan: what is wanted of slots, and how many were looked at for it."""

    intents: Intents
    looked_at: int


# A service compared with its spec, a slice at a time, each given the work of the pass it is in.
Plan = Generator[Slice, "Work", None]
BEGUN = Slice({}, 0)


class Agenda:
    """Insertion ordered, so that the same events give the same decisions.

    What is taken from the front is in an OrderedDict: a dict would step over all that was
    taken before.
    """

    def __init__(self) -> None:
        self._services: OrderedDict[str, None] = OrderedDict()
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._slots: OrderedDict[SlotKey, None] = OrderedDict()
        self._planned: OrderedDict[str, OrderedDict[SlotKey, Intent]] = OrderedDict()
        self._timers: list[tuple[int, SlotKey]] = []
        self._timer_of: dict[SlotKey, int] = {}

    def add_service(self, service_id: str) -> None:
        """Compare the service's slots with its spec again; what was planned is void."""
        self._services[service_id] = None
        self._plans.pop(service_id, None)
        self._planned.pop(service_id, None)

    def add_slot(self, key: SlotKey) -> None:
        """Check one slot."""
        self._slots[key] = None

    def plan(self, service_id: str, intents: Mapping[SlotKey, Intent]) -> None:
        """Add to what is wanted of a service's slots."""
        if intents:
            self._planned.setdefault(service_id, OrderedDict()).update(intents)

    def plan_anew(self, service_id: str, plan: Plan) -> None:
        """What it gives is all that is wanted of a service's slots."""
        self._planned.pop(service_id, None)
        self._plans[service_id] = plan

    def go_on(self, work: Work) -> int | None:
        """One slice of a plan under way: how many slots it looked at. None: there is no plan."""
        if not self._plans:
            return None
        service_id, plan = next(iter(self._plans.items()))
        try:
            intents, looked_at = plan.send(work)
        except StopIteration:
            del self._plans[service_id]
            return 0
        self.plan(service_id, intents)
        return looked_at

    def take_service(self) -> str | None:
        """The next service to plan for."""
        return self._services.popitem(last=False)[0] if self._services else None

    def take_slot(self) -> tuple[SlotKey, Intent] | None:
        """The next slot: planned ones first, as they may free what others wait for."""
        if self._planned:
            service_id, intents = next(iter(self._planned.items()))
            taken = intents.popitem(last=False)
            if not intents:
                del self._planned[service_id]
            return taken
        if self._slots:
            return self._slots.popitem(last=False)[0], Intent.CHECK
        return None

    def wake_at(self, key: SlotKey, at_ns: int) -> None:
        """Check the slot at `at_ns` (unix) or soon after; an earlier wish stays."""
        wish = self._timer_of.get(key)
        if wish is None or at_ns < wish:
            self._timer_of[key] = at_ns
            heapq.heappush(self._timers, (at_ns, key))

    def expire(self, now_ns: int) -> None:
        """Add the slots whose time has come."""
        while self._timers and self._timers[0][0] <= now_ns:
            at_ns, key = heapq.heappop(self._timers)
            if self._timer_of.get(key) == at_ns:
                del self._timer_of[key]
                self.add_slot(key)

    def clock_set(self, by_ns: int) -> None:
        """The clock was set forward by so much: what was to be waited for goes along."""
        self._timer_of = {key: at_ns + by_ns for key, at_ns in self._timer_of.items()}
        self._timers = [(at_ns, key) for key, at_ns in self._timer_of.items()]
        heapq.heapify(self._timers)

    def next_timer_ns(self) -> int | None:
        """When `expire` has something next."""
        return self._timers[0][0] if self._timers else None

    @property
    def has_work(self) -> bool:
        """Is anything to be looked at now?"""
        return bool(self._services or self._plans or self._slots or self._planned)
