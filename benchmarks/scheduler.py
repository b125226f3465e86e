"""How many tasks a second find their node, in CPU time, and what making and committing them costs.

Placement alone: a group's tasks to nodes, each counted on its node, all groups one after the
other on nodes that fill up. Beside it the way of the same tasks through the brain and the store:
made, placed in slices, proposed, applied, without log, disk and wire.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path

from benchmarks.control_loop import ControlLoop, node_of
from benchmarks.report import Report, Row, finish, quantile
from swarm.api.v1.service_pb2 import ContainerSpec, Placement, ServiceSpec, TaskSpec
from swarm.manager.core.brain import PASS_CHANGES
from swarm.manager.core.scheduler.nodes import NodeSet
from swarm.manager.core.scheduler.place import Rankings
from swarm.manager.core.store import Draft, Store

_TASKS = 100_000
_OURS = "ours"


def constrained_spec(number: int, replicas: int) -> ServiceSpec:
    """Three constraints, in one of sixty ways."""
    constraints = [
        f"node.labels.zone==z{number % 5}",
        f"node.labels.disk!=d{number % 3}",
        f"node.labels.rack!=r{number % 4}",
    ]
    return _spec(replicas, Placement(constraints=constraints))


def plain_spec(replicas: int) -> ServiceSpec:
    return _spec(replicas, Placement())


def _spec(replicas: int, placement: Placement) -> ServiceSpec:
    spec = ServiceSpec(task=TaskSpec(container=ContainerSpec(image="demo"), placement=placement))
    spec.replicated.replicas = replicas
    return spec


def workloads() -> dict[str, list[ServiceSpec]]:
    return {
        "1 service": [plain_spec(_TASKS)],
        "100 services, 3 constraints": [constrained_spec(n, _TASKS // 100) for n in range(100)],
    }


class _Specs(Draft):
    """A view with nothing in it but specs."""

    def __init__(self, specs: list[ServiceSpec]) -> None:
        super().__init__(Store())
        self._specs = specs

    def spec(self, service_id: str, revision: int) -> ServiceSpec:
        return self._specs[int(service_id)]


def placed_per_second(nodes: int, specs: list[ServiceSpec], together: int) -> float:
    """Of groups, `together` tasks of a service at a time."""
    view = _Specs(specs)
    node_set = NodeSet()
    for number in range(nodes):
        node_set.put_node(node_of(number), (), view)
    rankings = Rankings(node_set)
    ids = [
        [f"{service}-{n}" for n in range(spec.replicated.replicas)]
        for service, spec in enumerate(specs)
    ]
    gc.collect()
    started = time.process_time()
    for service, task_ids in enumerate(ids):
        key = (str(service), 1)
        demand = node_set.demand(view, *key)
        claim = node_set.claim(view, *key, active=True)
        for start in range(0, len(task_ids), together):
            ranking = rankings.of(key, demand, 0)
            ranking.take(task_ids[start : start + together], claim)
    taken = time.process_time() - started
    _check_spread(node_set, specs)
    return _TASKS / taken


def _check_spread(node_set: NodeSet, specs: list[ServiceSpec]) -> None:
    """Every task is placed, and no node has two more of a service than another that it may use."""
    for service, spec in enumerate(specs):
        demand = node_set.known_demand(str(service), 1)
        counts = [
            info.tasks_of.get(str(service), 0) for info in node_set if demand.suits(info.node)
        ]
        if sum(counts) != spec.replicated.replicas or max(counts) - min(counts) > 1:
            raise SystemExit(f"service {service} is not spread: {min(counts)} to {max(counts)}")


def made_and_committed(nodes: int, specs: list[ServiceSpec]) -> Row:
    """Through the brain and the store."""
    loop = ControlLoop(nodes)
    loop.thought.clear()
    loop.applied.clear()
    for number, spec in enumerate(specs):
        loop.create_service(f"service{number}", spec)
    thought, applied = sum(loop.thought), sum(loop.applied)
    return Row(
        "",
        _OURS,
        "tasks/s",
        [_TASKS / (thought + applied)],
        extra={
            "making and placing µs a task": round(1e6 * thought / _TASKS),
            "committing µs a task": round(1e6 * applied / _TASKS),
            "turn ms p50": round(1e3 * quantile(loop.thought, 0.5), 1),
            "p99": round(1e3 * quantile(loop.thought, 0.99), 1),
            "longest": round(1e3 * max(loop.thought), 1),
        },
    )


def measure(report: Report, nodes: list[int], rounds: int, *, whole: bool) -> None:
    for count in nodes:
        for name, specs in workloads().items():
            what = f"{_TASKS:,} tasks, {count:,} nodes, {name}"
            for how, together in (("a group at once", _TASKS), ("in slices", PASS_CHANGES)):
                rates = [placed_per_second(count, specs, together) for _ in range(rounds)]
                report.add(Row(f"placed: {what}, {how}", _OURS, "tasks/s", rates))
            if whole:
                row = made_and_committed(count, specs)
                row.what = f"made, placed and committed: {what}"
                report.add(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1_000, 5_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--placement-only", action="store_true", help="not through the store")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = Report("Scheduler, in CPU time")
    measure(report, arguments.nodes, arguments.rounds, whole=not arguments.placement_only)
    finish(report, arguments.json)


if __name__ == "__main__":
    main()
