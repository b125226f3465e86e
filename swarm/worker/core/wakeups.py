"""Who wants to be woken when: one time per key, the earliest first."""

from __future__ import annotations

import heapq


class Wakeups:
    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._times: dict[str, float] = {}

    def set(self, key: str, at: float | None) -> None:
        """Replaces the key's time; None takes it away. What is left in the heap is skipped."""
        if at is None:
            self._times.pop(key, None)
        elif self._times.get(key) != at:
            self._times[key] = at
            heapq.heappush(self._heap, (at, key))

    def earliest(self) -> float | None:
        self._skip_stale()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> str | None:
        """A key whose time has come, which then has none; None if there is no such."""
        self._skip_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self._times[key]
        return key

    def _skip_stale(self) -> None:
        while self._heap and self._times.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
