"""The fault that operators answer with `init --force-new-cluster`: the managers' quorum is lost.

All managers end at once. The one whose log on disk reaches furthest is chosen, as an operator
with care does: Raft promises that it holds all that was acknowledged, so nothing may be lost, and
every invariant holds on. The others come back one after the other, too few at a time to elect
anybody, with their old logs or with empty disks; they are told, and join again under new ids.

What is not checked: a survivor chosen without care. What was acknowledged by disks that are lost
is lost then, and there is nobody to say what it was.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_ACTIVE, NODE_ROLE_MANAGER, Member
from swarm.api.v1.raft_pb2 import Entry
from swarm.manager.core import recovery
from swarm.manager.core.raft import MemoryStorage
from swarm.manager.core.validate.node import new_node
from swarm.simulation import api
from swarm.simulation.loop import spawn
from swarm.simulation.manager_host import ManagerHost

if TYPE_CHECKING:
    from swarm.simulation.cluster import Cluster

_CONNECT_S = 0.5
_NOTHING = (0, 0)


def force_new_cluster(cluster: Cluster, rng: random.Random) -> api.Steps:
    """False where there was no group to lose."""
    hosts = [m.manager for m in cluster.machines.values() if m.manager is not None]
    voters = _agreed_voters(hosts)
    if len(voters) < 2:
        return False
    for host in hosts:
        host.crash()
        host.disk.works_again()  # the operator sees to that first
    reaches = {host.name: host.disk.reach() for host in hosts}
    candidates = [host for host in hosts if host.raft_id in voters]
    survivor = max(candidates, key=lambda host: (reaches[host.name], host.name))
    if not survivor.machine.powered or reaches[survivor.name] == _NOTHING:
        yield rng.uniform(0.1, 1.0)
        for host in hosts:
            host.machine.start_manager()
        return False
    lost = [host for host in hosts if host is not survivor]
    for host in hosts:
        host.machine.manager = None  # nobody else starts it meanwhile
    yield rng.uniform(0.1, 3.0)
    survivor.disk.works_again()
    _begin_anew(cluster, survivor)
    for host in lost:
        yield rng.uniform(0.0, 1.0)
        if rng.random() < 0.5 or reaches[host.name] == _NOTHING:
            host.stop("its disk is lost")
            host.machine.join_group()
        else:
            yield from _comes_back(host)
    return True


def _agreed_voters(hosts: Sequence[ManagerHost]) -> frozenset[int]:
    """Those that every manager counts. Where they differ, or are one alone, a single one of those
    that come back might elect itself."""
    views = {
        frozenset(host.core.consensus.conf_state.voters) for host in hosts if host.core is not None
    }
    there = {host.raft_id for host in hosts}
    return views.pop() & there if len(views) == 1 else frozenset()


def _begin_anew(cluster: Cluster, survivor: ManagerHost) -> None:
    """As `swarm.node.bootstrap.begin_anew`, then a manager process under the new raft id."""
    machine = survivor.machine
    raft_id = cluster.new_raft_id()
    cluster.note(machine.name, "force new cluster", f"as {raft_id}")
    storage, store, hard_state = survivor.disk.open(cluster.check_mutation)
    last = storage.last_index()
    entries = entries_of(storage)
    applied = recovery.apply_all(store, storage.initial_state()[1], entries)
    cluster.invariants.recovered(entries, applied, store)
    now_ns = machine.clock.unix_ns(cluster.loop.now)
    beginning = recovery.new_cluster(
        store,
        index=last,
        term=max(hard_state.term, storage.term(last)),
        member=Member(
            id=str(raft_id),
            raft_id=raft_id,
            node_id=machine.name,
            address=machine.address,
            join_address=machine.address,
        ),
        node=new_node(
            machine.name,
            NODE_ROLE_MANAGER,
            machine.description,
            NODE_AVAILABILITY_ACTIVE,
            machine.name,
            now_ns,
        ),
        now_ns=now_ns,
    )
    survivor.disk.begin_anew(beginning)
    cluster.invariants.begun_anew(beginning)
    spawn(cluster.loop, _connect_again_and_again(cluster))
    machine.role = NODE_ROLE_MANAGER
    machine.begin_manager(raft_id, survivor.disk)


def entries_of(storage: MemoryStorage) -> list[Entry]:
    """All that is above the snapshot."""
    return storage.entries(storage.first_index(), storage.last_index() + 1, sys.maxsize)


def _comes_back(host: ManagerHost) -> api.Steps:
    """With its old log, until it is told; its role is a manager's still, so it joins again."""
    machine = host.machine
    machine.manager = host
    machine.start_manager()
    while machine.manager is host:
        yield _CONNECT_S


def _connect_again_and_again(cluster: Cluster) -> api.Steps:
    """What transports do: who hears of no leader hears at least why nobody talks to it."""
    while True:
        yield _CONNECT_S
        for host in cluster.managers():
            if host.core is not None and not host.core.leader:
                host.introduce_itself()
