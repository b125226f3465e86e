"""What is to be looked at: services, slots, and moments in time. Never everything."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from enum import Enum

from swarm.manager.core.store import SlotKey


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


class Agenda:
    """Insertion ordered, so that the same events give the same decisions."""

    def __init__(self) -> None:
        self._services: dict[str, None] = {}
        self._slots: dict[SlotKey, None] = {}
        self._planned: dict[str, dict[SlotKey, Intent]] = {}
        self._timers: list[tuple[int, SlotKey]] = []
        self._timer_of: dict[SlotKey, int] = {}

    def add_service(self, service_id: str) -> None:
        """Compare the service's slots with its spec again; what was planned is void."""
        self._services[service_id] = None
        self._planned.pop(service_id, None)

    def add_slot(self, key: SlotKey) -> None:
        """Check one slot."""
        self._slots[key] = None

    def plan(self, service_id: str, intents: Mapping[SlotKey, Intent]) -> None:
        """Add to what is wanted of a service's slots."""
        if intents:
            self._planned.setdefault(service_id, {}).update(intents)

    def plan_anew(self, service_id: str, intents: Mapping[SlotKey, Intent]) -> None:
        """This is all that is wanted of a service's slots."""
        self._planned.pop(service_id, None)
        self.plan(service_id, intents)

    def take_service(self) -> str | None:
        """The next service to plan for."""
        if not self._services:
            return None
        service_id = next(iter(self._services))
        del self._services[service_id]
        return service_id

    def take_slot(self) -> tuple[SlotKey, Intent] | None:
        """The next slot: planned ones first, as they may free what others wait for."""
        if self._planned:
            service_id, intents = next(iter(self._planned.items()))
            key = next(iter(intents))
            intent = intents.pop(key)
            if not intents:
                del self._planned[service_id]
            return key, intent
        if self._slots:
            key = next(iter(self._slots))
            del self._slots[key]
            return key, Intent.CHECK
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
        return bool(self._services or self._slots or self._planned)
