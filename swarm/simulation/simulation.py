"""One seed: a storm, its end, and rest."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from swarm.simulation.cluster import Cluster
from swarm.simulation.loop import spawn
from swarm.simulation.rest import unrest
from swarm.simulation.scenario import FAULTS, Scenario, draw
from swarm.simulation.storm import Storm
from swarm.simulation.trace import Trace
from swarm.simulation.violation import Violation
from swarm.simulation.workload import Client

# Virtual seconds that the cluster has to come to rest, and must then stay so.
REST_WITHIN_S = 90.0
QUIET_S = 3.0
_LOOK_S = 0.25
_TRACE_LINES = 40


@dataclass(slots=True)
class Result:
    seed: int
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    events: int = 0
    faults: dict[str, int] = field(default_factory=dict[str, int])
    operations: dict[str, int] = field(default_factory=dict[str, int])
    states: set[int] = field(default_factory=set[int])
    invariant: str = ""
    detail: str = ""
    trace: list[str] = field(default_factory=list[str])

    @property
    def failed(self) -> bool:
        return bool(self.invariant)


def simulate(
    seed: int,
    allowed: Iterable[str] = FAULTS,
    sink: Callable[[str], None] | None = None,
) -> tuple[Result, str]:
    """Run one seed. Returns what came of it, and the SHA-256 of the lines that `sink` got."""
    trace = Trace(sink)
    result = Result(seed)
    began = time.process_time()
    cluster = Cluster(draw(seed, allowed), trace)
    storm = Storm(cluster)
    try:
        _run(cluster, storm)
    except Violation as violation:
        result.invariant, result.detail = violation.invariant, violation.detail
        result.trace = trace.last(_TRACE_LINES)
        if violation.__cause__ is not None:
            result.trace += traceback.format_exception(violation.__cause__)[-4:]
    result.virtual_s = cluster.loop.now
    result.events = cluster.invariants.checked
    result.faults = storm.counts
    result.operations = cluster.invariants.history.counts
    result.states = cluster.invariants.states.seen
    result.cpu_s = time.process_time() - began
    return result, trace.sha256


def _run(cluster: Cluster, storm: Storm) -> None:
    scenario: Scenario = cluster.scenario
    loop = cluster.loop
    cluster.begin()
    clients = [Client(cluster, number + 1) for number in range(scenario.clients)]
    for client in clients:
        spawn(loop, client.run(scenario.stormy_s))
    storm.begin()
    loop.run_until(scenario.stormy_s)
    storm.end()
    settled = spawn(loop, storm.settle_wishes(lambda: any(c.busy for c in clients)))
    _come_to_rest(cluster, lambda: settled.done.is_set)
    _stay_quiet(cluster)
    cluster.invariants.history.end()
    for host in cluster.managers():
        host.store.check()


def _come_to_rest(cluster: Cluster, asked: Callable[[], bool]) -> None:
    loop = cluster.loop
    deadline = loop.now + REST_WITHIN_S
    problem: str | None = "requests are under way"
    while loop.now < deadline:
        loop.run_until(loop.now + _LOOK_S)
        problem = unrest(cluster) if asked() else "requests are under way"
        if problem is None:
            return
    raise Violation("the cluster comes to rest", f"{problem}, {REST_WITHIN_S:g} s after the storm")


def _stay_quiet(cluster: Cluster) -> None:
    """With nothing new, nobody proposes anything, and nothing changes."""
    loop, log = cluster.loop, cluster.invariants.log
    # What was under way when all looked well may still arrive.
    loop.run_until(loop.now + 1.0)
    before = log.last_working_index
    loop.run_until(loop.now + QUIET_S)
    if log.last_working_index != before:
        raise Violation(
            "a brain with nothing new proposes nothing",
            f"entry {log.last_working_index} came after rest at {before}",
        )
    if problem := unrest(cluster):
        raise Violation("the cluster stays at rest", problem)
