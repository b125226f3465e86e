"""Ids in order, for references that are a unique prefix of one."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

# Up to here, ids that came or went are put in place one by one; above, sorting anew is quicker.
_FOLD_IN_MAX = 256


class SortedIds:
    """Sorted when first asked for: a change costs the same however many ids there are."""

    def __init__(self) -> None:
        self._sorted: list[str] | None = None
        self._changed: dict[str, bool] = {}

    def note(self, key: str, present: bool) -> None:
        """The id came, or went."""
        if self._sorted is None:
            return
        self._changed[key] = present
        if len(self._changed) > _FOLD_IN_MAX:
            self._sorted = None
            self._changed.clear()

    def with_prefix(self, prefix: str, keys: Iterable[str]) -> Iterator[str]:
        """Those that begin with `prefix`, in order. `keys` are all ids that there are."""
        if self._sorted is None:
            self._sorted = sorted(keys)
        ordered = self._fold_in(self._sorted)
        for position in range(bisect_left(ordered, prefix), len(ordered)):
            if not ordered[position].startswith(prefix):
                return
            yield ordered[position]

    def _fold_in(self, ordered: list[str]) -> list[str]:
        for key, present in self._changed.items():
            position = bisect_left(ordered, key)
            there = position < len(ordered) and ordered[position] == key
            if present and not there:
                insort(ordered, key)
            elif there and not present:
                del ordered[position]
        self._changed.clear()
        return ordered
