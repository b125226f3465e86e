"""What one task's failure costs the leader until it is repaired, however large the cluster.

In CPU time, from the change that says so to the store that has the replacement on a node: the
turns of the brain and the entries they make, without log, disk and wire. Each cluster's tasks are
those of one service, and of a hundred.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from benchmarks.control_loop import ControlLoop
from benchmarks.report import Report, Row, finish, quantile
from benchmarks.scheduler import constrained_spec, plain_spec
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.task_pb2 import TASK_STATE_FAILED, TASK_STATE_RUNNING
from swarm.manager.core.store import wanted

_FAILURES = 300
_OURS = "ours"
# Constraints leave a few nodes of ten without any of a service.
_CONSTRAINED_FROM = 100


def specs_of(nodes: int, tasks: int, services: int) -> list[ServiceSpec]:
    if services == 1:
        return [plain_spec(tasks)]
    each = tasks // services
    if nodes < _CONSTRAINED_FROM:
        return [plain_spec(each) for _ in range(services)]
    return [constrained_spec(number, each) for number in range(services)]


def repair(nodes: int, tasks: int, services: int) -> Row:
    """Failures of tasks picked by chance, one after the other, each repaired before the next."""
    loop = ControlLoop(nodes)
    for number, spec in enumerate(specs_of(nodes, tasks, services)):
        loop.create_service(f"service{number}", spec)
    running = list(loop.store.tasks())
    loop.settle(loop.report(running, TASK_STATE_RUNNING))
    # One of each service first: what is worked out once in a while is worked out then.
    firsts = list({task.service_id: task for task in running}.values())
    picked = firsts + random.Random(2).sample(sorted(running, key=lambda t: t.id), _FAILURES)
    spent: list[float] = []
    for task in picked:
        stored = loop.store.task(task.id)
        if stored is None or stored.status.state == TASK_STATE_FAILED:
            continue
        loop.thought.clear()
        loop.applied.clear()
        loop.settle(loop.report([task], TASK_STATE_FAILED))
        spent.append(1e3 * (sum(loop.thought) + sum(loop.applied)))
        in_slot = loop.store.tasks_of_slot(task.service_id, task.slot)
        if sum(wanted(t) and bool(t.node_id) for t in in_slot) != 1:
            raise SystemExit(f"the slot of task {task.id} was not repaired")
    spent = spent[len(firsts) :]
    what = f"{nodes:,} nodes, {tasks:,} tasks, {services} services"
    row = Row(what, _OURS, "ms CPU", spent)
    row.extra = {"p90": round(quantile(spent, 0.9), 2), "p99": round(quantile(spent, 0.99), 2)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--tasks", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--services", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = Report("One task's failure repaired in the store")
    for services in arguments.services:
        for nodes in arguments.nodes:
            for tasks in arguments.tasks:
                report.add(repair(nodes, tasks, services))
    finish(report, arguments.json)


if __name__ == "__main__":
    main()
