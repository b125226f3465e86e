"""What a simulation finds."""

from __future__ import annotations


class Violation(Exception):  # noqa: N818  # it is the finding, not a fault of the simulator
    """Something that must always hold did not. `invariant` is its name."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail
