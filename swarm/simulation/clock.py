"""What time a node believes it is."""

from __future__ import annotations

# The unix time at which every simulation begins.
EPOCH_NS = 1_800_000_000_000_000_000


class Clock:
    """`rate` stretches both clocks; `offset_s` is where the monotonic one began, `skew_s` how far
    the wall clock is off."""

    def __init__(self, rate: float = 1.0, offset_s: float = 0.0, skew_s: float = 0.0) -> None:
        self.rate = rate
        self.offset_s = offset_s
        self.skew_s = skew_s

    def monotonic(self, true: float) -> float:
        return self.offset_s + true * self.rate

    def unix_ns(self, true: float) -> int:
        return EPOCH_NS + int((self.skew_s + true * self.rate) * 1e9)

    def true(self, monotonic: float) -> float:
        """When the monotonic clock shows that."""
        return (monotonic - self.offset_s) / self.rate
