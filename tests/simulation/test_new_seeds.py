"""A few hundred seeds that were never run before: others each time."""

from __future__ import annotations

import pytest
from simulation.new_seeds import CHUNK, COUNT, first_new_seed

from swarm.simulation.simulation import simulate


@pytest.mark.parametrize("chunk", range(COUNT // CHUNK))
def test_new_seeds_are_clean(chunk: int) -> None:
    first = first_new_seed() + chunk * CHUNK
    for seed in range(first, first + CHUNK):
        result, _ = simulate(seed)
        assert not result.failed, (
            f"{result.invariant}: {result.detail}; replay it: make sim-replay SEED={seed}"
        )
