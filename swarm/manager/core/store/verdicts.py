"""What was answered to which request, so that a repeated one has no second effect.

A client that did not hear the answer asks again with the same id (DESIGN, law 3).
"""

from collections.abc import Iterable
from itertools import islice

from swarm.api.v1.store_pb2 import RememberedVerdict, Verdict

REMEMBERED_MAX = 10_000
REMEMBERED_NS = 15 * 60 * 1_000_000_000
# From one request to the next, time goes on by so much at most. Else a new leader whose clock is
# a quarter of an hour ahead would forget what its predecessor answered a moment ago, and do it
# again. Where requests are rarer, more of them are remembered.
STEP_NS_MAX = 1_000_000_000


class RequestMemory:
    """Bounded by number and by age. Deterministic: time is what the entries carry."""

    def __init__(self, remembered: Iterable[RememberedVerdict] = ()) -> None:
        self._by_id = {verdict.request_id: verdict for verdict in remembered}

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, request_id: str) -> Verdict | None:
        remembered = self._by_id.get(request_id)
        return remembered.verdict if remembered is not None else None

    def remember(self, request_id: str, verdict: Verdict, at_ns: int) -> None:
        # Never older than the one before it, though leaders' clocks differ.
        at_ns = max(self._slow(at_ns), self._newest_ns())
        self._by_id[request_id] = RememberedVerdict(
            request_id=request_id, verdict=verdict, at_ns=at_ns
        )
        if len(self._by_id) > REMEMBERED_MAX:
            del self._by_id[next(iter(self._by_id))]

    def forget_old(self, now_ns: int) -> None:
        oldest_kept = self._slow(now_ns) - REMEMBERED_NS
        old = 0
        for remembered in self._by_id.values():
            if remembered.at_ns >= oldest_kept:
                break
            old += 1
        for request_id in list(islice(self._by_id, old)):
            del self._by_id[request_id]

    def _newest_ns(self) -> int:
        return self._by_id[next(reversed(self._by_id))].at_ns if self._by_id else 0

    def _slow(self, now_ns: int) -> int:
        return min(now_ns, self._newest_ns() + STEP_NS_MAX) if self._by_id else now_ns

    def all(self) -> list[RememberedVerdict]:
        """Oldest first."""
        return list(self._by_id.values())
