"""One seed, many independent streams of randomness: a change in one concern (another message,
another fsync) does not reshuffle the others."""

from __future__ import annotations

import random


class Streams:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def of(self, concern: str) -> random.Random:
        """A fresh generator; the same seed and concern always give the same one."""
        return random.Random(f"{self.seed}/{concern}")
