"""Disks that hold the same, at the index that all know of, are told from such that do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from swarm.api.v1.raft_pb2 import ConfState, Entry, HardState
from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.store_pb2 import Change, LogPayload, Object, Transaction
from swarm.manager.core.recovery import NewCluster
from swarm.manager.core.store import Store
from swarm.manager.raft_disk import RaftDisk
from swarm.manager.wal import Wal
from swarm.node.state import StateFolder
from swarm.security.encryption import open_encrypter
from tests.torture.replicas import compare


def disk(state_dir: Path, services: Sequence[str], commit: int) -> Path:
    """A manager that wrote an entry for each service, and knows that so much is committed."""
    raft = StateFolder(state_dir).raft
    conf_state = ConfState(voters=[1])
    RaftDisk.create(raft, NewCluster(1, 1, conf_state, Store().snapshot(1, 1, conf_state)))
    entries = [
        Entry(index=index, term=1, data=_creation(name).SerializeToString())
        for index, name in enumerate(services, 2)
    ]
    encrypter = open_encrypter(raft)
    wal, _, _ = Wal.open(raft / "wal", encrypter, snapshot_index=1, snapshot_term=1)
    wal.append(HardState(term=1, commit=commit), entries)
    wal.sync()
    wal.close()
    return state_dir


def _creation(name: str) -> LogPayload:
    change = Change(create=Object(service=Service(id=f"id-{name}", name=name, revision=1)))
    return LogPayload(proposed_at_ns=1, transactions=[Transaction(changes=[change])])


def test_the_same_up_to_what_all_know_to_be_committed_is_equal(tmp_path: Path) -> None:
    ahead = disk(tmp_path / "ahead", ["a", "b", "c"], 4)
    behind = disk(tmp_path / "behind", ["a", "b"], 3)
    found = compare([ahead, behind])
    assert (found.index, found.difference) == (3, "")


def test_another_row_is_named_by_its_table(tmp_path: Path) -> None:
    found = compare([disk(tmp_path / "x", ["a", "b"], 3), disk(tmp_path / "y", ["b", "a"], 3)])
    assert "TABLE_SERVICE at index 3" in found.difference
