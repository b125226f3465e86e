"""How long things take at worst, told by the virtual clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from swarm.api.v1.node_pb2 import NODE_STATE_DOWN, NODE_STATE_READY
from swarm.simulation.cluster import Cluster
from swarm.simulation.scenario import Scenario
from swarm.simulation.trace import Trace

LOOK_S = 0.01


def begun(scenario: Scenario) -> Cluster:
    cluster = Cluster(scenario, Trace())
    cluster.begin()
    return cluster


def seconds_until(cluster: Cluster, condition: Callable[[], bool], at_most_s: float) -> float:
    began = cluster.loop.now
    while not condition():
        assert cluster.loop.now - began < at_most_s, "it takes too long"
        cluster.loop.run_until(cluster.loop.now + LOOK_S)
    return cluster.loop.now - began


def states(cluster: Cluster) -> dict[str, int]:
    leader = cluster.leader()
    return {} if leader is None else {n.id: n.status.state for n in leader.store.nodes()}


@pytest.mark.parametrize("seed", range(40))
def test_a_lost_worker_is_known_to_be_down_within_five_seconds(seed: int) -> None:
    # The ticks of a busy machine are a little late, each of them.
    cluster = begun(Scenario(seed, workers=3, tick_late_s=0.005 * (seed % 5)))

    def all_ready() -> bool:
        found = states(cluster)
        return bool(found) and set(found.values()) == {NODE_STATE_READY}

    seconds_until(cluster, all_ready, 10.0)
    # At any moment between two heartbeats.
    cluster.loop.run_until(cluster.loop.now + 2.0 + seed / 40)
    assert all_ready()
    workers = [m for m in cluster.machines.values() if m.manager is None]
    lost = workers[seed % len(workers)]
    lost.power_off()
    took_s = seconds_until(cluster, lambda: states(cluster).get(lost.name) == NODE_STATE_DOWN, 10.0)
    assert took_s < 4.85


@pytest.mark.parametrize("seed", range(5))
def test_a_lone_manager_leads_at_once_again_and_again(seed: int) -> None:
    cluster = begun(Scenario(seed, managers=1))
    machine = next(iter(cluster.machines.values()))
    assert machine.manager is not None
    for _ in range(3):
        took_s = seconds_until(cluster, lambda: cluster.leader() is not None, 5.0)
        assert took_s < 0.1, "it need not wait for the word of a leader"
        cluster.loop.run_until(cluster.loop.now + 0.05)
        machine.manager.crash()
        machine.manager.start()
