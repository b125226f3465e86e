"""The driver of a Ready, on a manager that is alone: what it does of its own accord."""

from __future__ import annotations

import random

from swarm.api.v1.cluster_pb2 import ClusterSecrets, ClusterSpec
from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_ACTIVE, Member, NodeDescription
from swarm.api.v1.raft_pb2 import ConfState, HardState, Snapshot
from swarm.api.v1.store_pb2 import VERDICT_OK, LogPayload, Transaction
from swarm.manager.core.consensus import Consensus, storage_from
from swarm.manager.core.effects import Effect, Persist, SaveSnapshot
from swarm.manager.core.store import Store
from swarm.manager.core.validate import cluster

_ME = 1


class Lone:
    """A group of one, with a disk that is always done at once."""

    def __init__(self, snapshot_interval: int) -> None:
        conf_state = ConfState(voters=[_ME])
        store = Store()
        begin = cluster.bootstrap(
            cluster_id="c",
            spec=cluster.spec_with_defaults(snapshot_interval=snapshot_interval),
            root_certificate_pem=b"root",
            secrets=ClusterSecrets(),
            node_id="n1",
            description=NodeDescription(hostname="n1"),
            availability=NODE_AVAILABILITY_ACTIVE,
            address="127.0.0.1",
            member=Member(id=str(_ME), raft_id=_ME, node_id="n1"),
            now_ns=1,
        )
        (verdict,) = store.apply(1, 1, LogPayload(transactions=[begin])).verdicts
        assert verdict.code == VERDICT_OK
        snapshot = Snapshot(index=1, term=1, conf_state=conf_state)
        storage = storage_from(snapshot, HardState(term=1, commit=1), [])
        self.consensus = Consensus(_ME, storage, store, random.Random(1), b"nonce000")
        self.saved: list[int] = []
        # How many older ones each was to leave.
        self.older: list[int] = []
        while not self.consensus.leads_and_knows:
            self.consensus.tick(0.0, 0.1)
            self.settle()

    def settle(self) -> None:
        effects: list[Effect] = []
        while self.consensus.node.has_ready():
            self.consensus.drain(0.0, effects)
            for effect in [*effects]:
                effects.remove(effect)
                if isinstance(effect, Persist):
                    self.consensus.persisted(effect.number, effects)
                elif isinstance(effect, SaveSnapshot):
                    self.saved.append(effect.index)
                    self.older.append(effect.older)
                    self.consensus.snapshot_saved(effect.index, effects)

    def write(self, transaction: Transaction | None = None) -> None:
        payload = LogPayload(transactions=[transaction or Transaction()])
        assert self.consensus.propose(payload.SerializeToString())
        self.settle()

    def change_interval(self, interval: int, max_snapshots: int = 0) -> None:
        store = self.consensus.store
        row = store.cluster()
        assert row is not None
        spec = ClusterSpec()
        spec.CopyFrom(row.spec)
        spec.snapshot_interval = interval
        spec.max_snapshots = max_snapshots
        self.write(cluster.update(store, row.meta.version, spec, 1, "who"))


def test_a_snapshot_is_saved_every_so_many_entries_as_the_cluster_says() -> None:
    lone = Lone(snapshot_interval=4)
    for _ in range(12):
        lone.write()
    assert lone.saved == [5, 9, 13]


def test_as_many_older_ones_are_kept_as_the_cluster_says() -> None:
    lone = Lone(snapshot_interval=4)
    for _ in range(4):
        lone.write()
    lone.change_interval(4, max_snapshots=7)
    for _ in range(4):
        lone.write()
    assert lone.older == [0, 7]


def test_another_interval_holds_from_when_it_is_set() -> None:
    lone = Lone(snapshot_interval=1000)
    for _ in range(12):
        lone.write()
    assert lone.saved == []
    lone.change_interval(4)
    for _ in range(7):
        lone.write()
    first = lone.consensus.applied_index - 7
    assert lone.saved == [first, first + 4]
