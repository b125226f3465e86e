"""What Python's garbage collector need not look at.

Rows are no cycles: their references free them. But each of the collector's full rounds looks at
every one of them, a tenth of a second for 100,000 tasks, in which the loop stands still. So
what was loaded or applied is left alone from then on (`gc.freeze`). Cycles that had become
garbage, and survived the young generations, by that moment are lost: a few.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager

# New rows that a round may look at.
_ROWS_MAX = 5_000


@contextmanager
def loading() -> Generator[None]:
    """What is made inside stays: no rounds meanwhile, and none over it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def leave_alone() -> None:
    """Everything that is there now."""
    gc.collect(1)
    gc.freeze()


class NewRows:
    """Counts rows as they come, so that they are left alone before they are many."""

    def __init__(self) -> None:
        self._count = 0

    def came(self, count: int) -> None:
        self._count += count
        if self._count >= _ROWS_MAX:
            self._count = 0
            leave_alone()
