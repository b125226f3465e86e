"""A limit on how many tasks do a costly thing at once; who waits is let in in order."""

from __future__ import annotations


class Gate:
    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a gate's limit is at least 1, not {limit}")
        self._limit = limit
        self._inside: set[str] = set()
        self._waiting: dict[str, None] = {}  # a dict keeps the order

    def enter(self, task_id: str) -> None:
        if task_id not in self._inside:
            self._waiting[task_id] = None

    def leave(self, task_id: str) -> None:
        """Out of the gate, or of the queue before it."""
        self._inside.discard(task_id)
        self._waiting.pop(task_id, None)

    def admit(self) -> str | None:
        """The next one that may go in, who then is inside; None when full or nobody waits."""
        if not self._waiting or len(self._inside) >= self._limit:
            return None
        task_id = next(iter(self._waiting))
        del self._waiting[task_id]
        self._inside.add(task_id)
        return task_id
