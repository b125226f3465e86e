"""Each deliberate bug is found, by the invariant that it breaks, within a stated number of seeds.

`first` is where the search begins: chosen near a seed that finds the bug, so that the tests are
quick. From seed 0 it takes a few up to some hundred seeds: `make sim MUTANT=name SEEDS=300`.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from swarm.simulation import runner
from swarm.simulation.mutants import MUTANTS
from swarm.simulation.scenario import FAULTS


@dataclass(frozen=True)
class Search:
    first: int
    seeds: int
    invariants: tuple[str, ...]


# Entries that a quorum never had may show in any of these.
LOST = (
    "leader completeness",
    "state machine safety",
    "operations are linearizable",
    "log matching",
    "what was acknowledged survives a restart",
)

SEARCHES = {
    "vote-without-fsync": Search(
        22, 80, ("term survives a restart", "vote survives a restart", *LOST)
    ),
    "ack-before-fsync": Search(7, 60, LOST),
    "commit-old-term": Search(32, 100, ("a leader commits by entries of its own term",)),
    "quorum-off-by-one": Search(1, 100, ("election safety", *LOST)),
    "commit-one-short": Search(60, 100, LOST),
    "stale-reads": Search(0, 10, ("operations are linearizable",)),
    "double-slot": Search(0, 5, ("one task per slot and revision is wanted running",)),
    "request-twice": Search(
        23, 60, ("a request takes effect once", "a refused request has no effect")
    ),
    "restore-merges": Search(3, 60, ("equal tables at an equal index",)),
    "brain-outlives-term": Search(
        0, 60, ("nobody goes round in circles", "core does not fail", "the cluster comes to rest")
    ),
    "dropped-snapshot-chunk": Search(3, 60, ("equal tables at an equal index",)),
    "recover-known-commits": Search(15, 40, ("a new cluster has all that was committed",)),
    "recover-without-members": Search(15, 40, ("equal tables at an equal index",)),
}


def test_every_mutant_is_searched_for() -> None:
    assert set(SEARCHES) == set(MUTANTS.names)


@pytest.mark.parametrize("mutant", list(SEARCHES))
def test_a_mutant_is_found(mutant: str) -> None:
    search = SEARCHES[mutant]
    found = runner.find(mutant, search.first, search.seeds, FAULTS)
    assert found is not None, f"{mutant} was not found within {search.seeds} seeds"
    assert found.invariant in search.invariants, found.detail


def test_a_mutant_is_gone_afterwards() -> None:
    with MUTANTS.applied("double-slot"):
        pass
    assert runner.find("", 0, 1, FAULTS) is None


def test_the_command_names_seed_and_invariant() -> None:
    command = [sys.executable, "-m", "swarm.simulation", "--mutant", "double-slot", "--seeds", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "seed 0 mutant double-slot violates: one task per slot" in done.stdout
