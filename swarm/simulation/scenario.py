"""What a seed stands for: the size of the cluster, its settings, and which faults it meets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from swarm.simulation.streams import Streams

GIB = 1 << 30
CPU = 1_000_000_000

# Every fault, each switchable by name.
FAULTS = (
    "manager_crash",
    "leader_kill",
    "election_crash",
    "all_managers_crash",
    "worker_crash",
    "agent_crash",
    "drop",
    "delay",
    "duplicate",
    "reorder",
    "partition",
    "one_way_partition",
    "bridge",
    "deaf_leader",
    "slow_disk",
    "hung_disk",
    "leader_disk_stall",
    "disk_full",
    "failed_write",
    "failed_sync",
    "damaged_log",
    "lost_disk",
    "pause",
    "clock_skew",
    "clock_jump",
    "task_failures",
    "join_manager",
    "join_worker",
    "promote_demote",
    "resign",
    "force_new_cluster",
)


@dataclass(slots=True)
class Scenario:
    """Drawn from the seed alone; `faults` may be narrowed."""

    seed: int
    managers: int = 3
    workers: int = 2
    faults: frozenset[str] = frozenset()
    # Seconds of virtual time in which faults happen.
    stormy_s: float = 15.0
    clients: int = 2
    election_ticks: int = 7
    snapshot_interval: int = 40
    kept_entries: int = 10
    heartbeat_period_ns: int = 1_000_000_000
    task_history_limit: int = 5
    nano_cpus: int = 4 * CPU
    memory_bytes: int = 8 * GIB
    message_bytes: int = 1 << 20
    clock_drift: float = 0.0
    clock_skew_s: float = 0.0
    # Every tick of a manager comes so much late.
    tick_late_s: float = 0.0
    check_mutation: bool = False
    # A manager takes together what comes within a turn, which lasts up to this long.
    turn_s: float = 0.0
    # What a piece of a snapshot takes on the wire.
    snapshot_piece_s: float = 0.002


def draw(seed: int, allowed: Iterable[str] = FAULTS) -> Scenario:
    """The scenario of a seed. `allowed`: the faults that may be in it."""
    rng = Streams(seed).of("scenario")
    managers = rng.choice((1, 2, 3, 3, 3, 3, 4, 5))
    workers = rng.choice((1, 2, 2, 3))
    count = rng.randint(1, 6) if rng.random() < 0.9 else 0
    permitted = [name for name in FAULTS if name in set(allowed)]
    faults = frozenset(rng.sample(permitted, min(count, len(permitted))))
    skewed = "clock_skew" in faults
    return Scenario(
        seed=seed,
        managers=managers,
        workers=workers,
        faults=faults,
        stormy_s=rng.uniform(8.0, 20.0),
        clients=rng.randint(1, 3),
        election_ticks=rng.choice((5, 7, 7, 10)),
        snapshot_interval=rng.choice((15, 40, 40, 200)),
        kept_entries=rng.choice((0, 5, 20)),
        task_history_limit=rng.choice((1, 2, 5)),
        message_bytes=rng.choice((1, 300, 1 << 20)),
        clock_drift=0.02 if skewed else 0.0001,
        clock_skew_s=3600.0 if skewed else 0.05,
        check_mutation=rng.random() < 0.05,
        turn_s=rng.choice((0.0, 0.0005, 0.003, 0.02)),
        snapshot_piece_s=rng.choice((0.002, 0.002, 0.1, 0.5)),
    )
