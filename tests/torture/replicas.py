"""What is on each manager's disk after the power was cut: read, replayed to one index, compared."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm.api.v1.raft_pb2 import HardState
from swarm.api.v1.store_pb2 import TABLE_UNSPECIFIED, Table
from swarm.manager.core.consensus import Consensus
from swarm.manager.core.effects import Effect
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.store import Store
from swarm.manager.raft_disk import RaftDisk
from swarm.node.state import StateFolder


@dataclass(frozen=True, slots=True)
class Compared:
    """`index` is where all were compared; `difference` is empty where they are equal."""

    index: int
    difference: str


def compare(state_dirs: Sequence[Path]) -> Compared:
    """The digests of all tables, at the newest index that every disk knows to be committed. Disk
    errors where one can't be read."""
    opened = [RaftDisk.open(StateFolder(folder).raft) for folder in state_dirs]
    commits = [one.storage.initial_state()[0].commit for one in opened]
    # A snapshot is of what was committed, whether or not the others had heard of that.
    index = max(min(commits), *(one.storage.snapshot().index for one in opened))
    replayed = [_replay(one.store, one.storage, index) for one in opened]
    differing: list[str] = []
    for table in set(Table.values()) - {TABLE_UNSPECIFIED}:
        digests = [store.digest(table) for store in replayed]
        if len(set(digests)) > 1:
            differing.append(f"{Table.Name(table)} at index {index}: {digests}")
    return Compared(index, "; ".join(differing))


def _replay(store: Store, storage: MemoryStorage, index: int) -> Store:
    """As a manager does at its start, up to `index`."""
    state = HardState()
    state.CopyFrom(storage.initial_state()[0])
    state.commit = index
    storage.set_hard_state(state)
    consensus = Consensus(1, storage, store, random.Random(0), b"compared")
    effects: list[Effect] = []
    while consensus.applied_index < index:
        before = consensus.applied_index
        consensus.drain(0.0, effects)
        if consensus.applied_index == before:
            raise RuntimeError(f"nothing can be applied above index {before}, of {index}")
    return consensus.store
