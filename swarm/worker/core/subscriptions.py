"""Log subscriptions of the session: which tasks are being read, and which have yet to start."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm.api.v1.logs_pb2 import LogOptions, LogSubscription
from swarm.worker.core.effects import Effect, ReadLogs, StopLogs


@dataclass(slots=True)
class _Subscription:
    session: int
    options: LogOptions
    waiting: set[str] = field(default_factory=set[str])  # not started yet
    reading: set[str] = field(default_factory=set[str])
    seen: set[str] = field(default_factory=set[str])
    errors: list[str] = field(default_factory=list[str])

    @property
    def done(self) -> bool:
        return not (self.waiting or self.reading)


class Subscriptions:
    def __init__(self) -> None:
        self._by_id: dict[str, _Subscription] = {}
        self._waiting_for: dict[str, set[str]] = {}  # task id -> subscription ids

    def add(self, session: int, wanted: LogSubscription) -> list[str]:
        """The tasks that are new in it; a known id is extended."""
        known = self._by_id.get(wanted.id)
        if known is None:
            known = self._by_id[wanted.id] = _Subscription(session, wanted.options)
        new = [task_id for task_id in wanted.task_ids if task_id not in known.seen]
        known.seen.update(new)
        known.waiting.update(new)
        for task_id in new:
            self._waiting_for.setdefault(task_id, set()).add(wanted.id)
        return new

    def waits_for(self, task_id: str) -> bool:
        return task_id in self._waiting_for

    def readable(self, task_id: str) -> list[Effect]:
        """The task has output: every subscription that waits for it reads."""
        effects: list[Effect] = []
        for subscription_id in sorted(self._waiting_for.pop(task_id, ())):
            subscription = self._by_id[subscription_id]
            subscription.waiting.discard(task_id)
            subscription.reading.add(task_id)
            effects.append(
                ReadLogs(subscription.session, subscription_id, task_id, subscription.options)
            )
        return effects

    def unreadable(self, task_id: str, *, following: bool, error: str = "") -> None:
        """The task has no output; with `following`, even those that follow need not wait."""
        waiting = self._waiting_for.get(task_id, set())
        for subscription_id in list(waiting):
            subscription = self._by_id[subscription_id]
            if following or not subscription.options.follow:
                waiting.discard(subscription_id)
                subscription.waiting.discard(task_id)
                if error:
                    subscription.errors.append(error)
        if not waiting:
            self._waiting_for.pop(task_id, None)

    def ended(self, subscription_id: str, task_id: str, error: str) -> None:
        subscription = self._by_id.get(subscription_id)
        if subscription is None:
            return
        subscription.reading.discard(task_id)
        if error:
            subscription.errors.append(error)

    def take_done(self) -> list[tuple[str, str]]:
        """The subscriptions that are done, and their errors; they are forgotten."""
        done = [(key, s) for key, s in self._by_id.items() if s.done]
        for key, _ in done:
            del self._by_id[key]
        return [(key, "; ".join(subscription.errors)) for key, subscription in done]

    def remove(self, subscription_id: str) -> list[Effect]:
        subscription = self._by_id.pop(subscription_id, None)
        if subscription is None:
            return []
        for task_id in subscription.waiting:
            waiting = self._waiting_for.get(task_id, set())
            waiting.discard(subscription_id)
            if not waiting:
                self._waiting_for.pop(task_id, None)
        return [StopLogs(subscription_id)]

    def clear(self) -> list[Effect]:
        """The session is over, and its subscriptions with it."""
        return [effect for key in list(self._by_id) for effect in self.remove(key)]
