"""Who watches the store: every watch gets every change, in order, or is told to begin anew."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.manager.core.effects import Changed
from swarm.manager.core.store import StoreChange

# A watcher this far behind is cut off: it lists anew, and holds nobody's memory meanwhile.
_PENDING_MAX = 10_000


@dataclass(slots=True, eq=False)
class Watch:
    """None in the queue: changes were missed, begin anew."""

    queue: "asyncio.Queue[Sequence[StoreChange] | None]" = field(
        default_factory=lambda: asyncio.Queue()
    )
    cut_off: bool = False


class Watches:
    def __init__(self) -> None:
        self._watches: set[Watch] = set()

    def open(self) -> Watch:
        """From now on; close it again."""
        watch = Watch()
        self._watches.add(watch)
        return watch

    def close(self, watch: Watch) -> None:
        self._watches.discard(watch)

    def publish(self, effect: Changed) -> None:
        for watch in list(self._watches):
            if effect.replaced or watch.queue.qsize() >= _PENDING_MAX:
                watch.cut_off = True
                watch.queue.put_nowait(None)
                self._watches.discard(watch)
            else:
                watch.queue.put_nowait(effect.changes)
