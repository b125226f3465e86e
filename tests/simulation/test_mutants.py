"""Each deliberate bug is found, by the invariant that it breaks, within a stated number of seeds.

Faults are narrowed to those that the bug needs, so that the tests are quick.
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
    """Within `seeds` from 0, with these faults alone, one of the invariants is violated."""

    faults: tuple[str, ...]
    seeds: int
    invariants: tuple[str, ...]


CRASHES = ("manager_crash", "leader_kill", "all_managers_crash")
MEMBERS = ("join_manager", "promote_demote")
QUORUM = "a quorum has what is committed"
# Entries that a quorum never had may show in any of these.
LOST = (
    QUORUM,
    "leader completeness",
    "state machine safety",
    "operations are linearizable",
    "log matching",
    "what was acknowledged survives a restart",
    "term survives a restart",
    "vote survives a restart",
    "one vote a term",
)
STUCK = ("nobody goes round in circles", "core does not fail", "the cluster comes to rest")

SEARCHES = {
    "vote-without-fsync": Search(("election_crash",), 60, LOST),
    "ack-before-fsync": Search(CRASHES, 30, LOST),
    "commit-old-term": Search(
        ("leader_kill", "election_crash", "partition", "slow_disk"),
        20,
        ("a leader commits by entries of its own term", "core does not fail"),
    ),
    "drain-one-more": Search(
        ("leader_kill", "partition"),
        25,
        ("a drain in turn moves no more of a service at once than it says",),
    ),
    "drain-stops-first": Search(
        ("leader_kill", "partition"),
        5,
        ("a drain in turn stops what runs once another runs",),
    ),
    "quorum-off-by-one": Search(("partition",), 20, ("election safety", *LOST)),
    "commit-one-short": Search(("leader_kill", "partition"), 10, LOST),
    "stale-reads": Search(("partition", "leader_kill"), 10, ("operations are linearizable",)),
    "learner-counts": Search(MEMBERS, 20, LOST),
    "counts-itself-early": Search((), 10, LOST),
    "pre-vote-clears-vote": Search(
        ("partition", "delay", "reorder"),
        20,
        ("a vote stands for its term", "core does not fail", *LOST),
    ),
    "config-on-append": Search(MEMBERS, 20, ("equal members at an equal index", *LOST)),
    "double-slot": Search(
        ("join_worker",), 5, ("one task per slot and revision is wanted running",)
    ),
    "request-twice": Search(
        ("leader_kill", "pause", "drop"),
        30,
        ("a request takes effect once", "a refused request has no effect"),
    ),
    "restore-merges": Search(
        ("partition", "join_manager"), 40, ("equal tables at an equal index", "core does not fail")
    ),
    "brain-outlives-term": Search(("resign", "leader_kill", "partition"), 30, STUCK),
    "status-goes-back": Search(
        ("duplicate", "reorder", "delay", "task_failures"), 20, ("no task's state goes back",)
    ),
    "reservation-ignored": Search(("join_worker",), 40, ("no node above its reservations",)),
    "request-forgotten-in-snapshot": Search(MEMBERS, 20, ("equal tables at an equal index",)),
    "dropped-snapshot-chunk": Search(MEMBERS, 20, ("equal tables at an equal index",)),
    "fsync-retried": Search(
        ("failed_sync", "manager_crash", "leader_kill"),
        20,
        ("a log that only crashes have touched is accepted", *LOST),
    ),
    "damage-cut-off": Search(("damaged_log",), 20, ("a lost or damaged log is refused", *LOST)),
    "lost-disk-comes-back": Search(("lost_disk",), 20, ("a lost or damaged log is refused", *LOST)),
    "recover-known-commits": Search(
        ("force_new_cluster", "leader_kill", "slow_disk"),
        60,
        ("a new cluster has all that was committed", *LOST),
    ),
    "recover-without-members": Search(
        ("force_new_cluster", "join_manager", "promote_demote"),
        60,
        ("equal tables at an equal index",),
    ),
    "monitor-ignored": Search(FAULTS, 60, ("a failure that an update watches for is counted",)),
    "parallelism-off-by-one": Search(
        FAULTS,
        30,
        (
            "an update takes no more than its parallelism down at once",
            # The slots of a job take turns by the same count.
            "a job runs no more than it may at once",
        ),
    ),
    "rollback-of-a-rollback": Search(FAULTS, 60, ("a rollback is never rolled back",)),
    "completion-counted-twice": Search(FAULTS, 60, ("a job's completions are counted once",)),
    "constraints-ignored": Search(
        FAULTS, 20, ("constraints hold, and no task goes to a drained node",)
    ),
    "drain-leaves-tasks": Search(FAULTS, 20, ("the cluster comes to rest",)),
    "generic-ignored": Search(FAULTS, 40, ("no node above its reservations",)),
    "max-replicas-ignored": Search(FAULTS, 20, ("no more replicas on a node than may be",)),
    "name-given-twice": Search(FAULTS, 20, ("a named resource is one task's",)),
    "secret-kept": Search(FAULTS, 20, ("a node holds what its tasks need",)),
    "secret-in-use-goes": Search(FAULTS, 40, ("what is removed is not in use",)),
}


def test_every_mutant_is_searched_for() -> None:
    assert set(SEARCHES) == set(MUTANTS.names)


@pytest.mark.parametrize("mutant", list(SEARCHES))
def test_a_mutant_is_found(mutant: str) -> None:
    search = SEARCHES[mutant]
    found = runner.find(mutant, 0, search.seeds, search.faults)
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
