"""Bugs in how a new cluster is made of what is left of one."""

from __future__ import annotations

import sys

from swarm.api.v1.raft_pb2 import ConfChange, ConfState, Entry
from swarm.manager.core import recovery
from swarm.manager.core.raft import MemoryStorage
from swarm.simulation import new_cluster
from swarm.simulation.mutants.patches import Maker, Patch


def _recover_known_commits() -> list[Patch]:
    """A new cluster is made of what its survivor knows to be committed, not of all of its log."""

    def known(storage: MemoryStorage) -> list[Entry]:
        commit = storage.initial_state()[0].commit
        return storage.entries(storage.first_index(), commit + 1, sys.maxsize)

    return [(new_cluster, "entries_of", known)]


def _recover_without_members() -> list[Patch]:
    """Changes of the group are skipped while a new cluster is made: it has another one anyway."""

    def unchanged(state: ConfState, change: ConfChange) -> ConfState:
        del change
        return state

    return [(recovery, "conf_state_after", unchanged)]


MAKERS: dict[str, Maker] = {
    "recover-known-commits": _recover_known_commits,
    "recover-without-members": _recover_without_members,
}
