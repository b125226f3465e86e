"""What is to be made durable: one transaction under way, the next one gathering (group commit)."""

from __future__ import annotations

from swarm.worker.core.effects import Save
from swarm.worker.core.events import Row


class Journal:
    """Rows on their way to the disk; of a row written twice while waiting, the last value counts.

    A failed transaction is gathered again below what came later, so no old value can win.
    """

    def __init__(self) -> None:
        self._ticket = 0
        self._gathering: dict[tuple[str, str], bytes | None] = {}
        self._waiting: list[str] = []
        self._under_way: dict[tuple[str, str], bytes | None] | None = None
        self._under_way_waiting: list[str] = []

    @property
    def is_clean(self) -> bool:
        """Everything is durable."""
        return self._under_way is None and not self._gathering

    def put(self, kind: str, key: str, value: bytes) -> None:
        self._gathering[kind, key] = value

    def delete(self, kind: str, key: str) -> None:
        self._gathering[kind, key] = None

    def notify(self, task_id: str) -> None:
        """`task_id` is to be told (by `saved`) when all that was put so far is durable."""
        self._waiting.append(task_id)

    def next_save(self) -> Save | None:
        """The next transaction, unless one is under way or there is nothing to do."""
        if self._under_way is not None or not (self._gathering or self._waiting):
            return None
        self._ticket += 1
        self._under_way, self._gathering = self._gathering, {}
        self._under_way_waiting, self._waiting = self._waiting, []
        puts = [Row(kind, key, v) for (kind, key), v in self._under_way.items() if v is not None]
        deletes = [place for place, value in self._under_way.items() if value is None]
        return Save(self._ticket, puts, deletes)

    def saved(self, ticket: int) -> list[str]:
        """The tasks that waited for this transaction."""
        if self._under_way is None or ticket != self._ticket:
            return []
        told, self._under_way_waiting = self._under_way_waiting, []
        self._under_way = None
        return told

    def failed(self, ticket: int) -> bool:
        """Takes the transaction back; False if it is not the one under way."""
        if self._under_way is None or ticket != self._ticket:
            return False
        self._gathering = self._under_way | self._gathering
        self._waiting = self._under_way_waiting + self._waiting
        self._under_way, self._under_way_waiting = None, []
        return True
