"""From `service create` to all replicas running: ours beside Docker Swarm.

One node each. Docker Swarm is the real `docker service create` on an engine of the benchmark's
own; ours runs on the same engine (`docker`), without one (`oci`), and as plain processes. The
systems take turns, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import engines, processes
from benchmarks.cluster import DEMO, Cluster, sleeping_service
from benchmarks.engines import Engine
from benchmarks.report import Report, Row, finish

SWARM = "Docker Swarm"
_TIMEOUT_S = 180.0
_POLL_S = 0.02
_REST_S = 0.5

# Creates so many replicas, waits until they run, and removes them; seconds until they ran.
Measure = Callable[[int], Awaitable[float]]


async def docker_swarm(engine: Engine, replicas: int) -> float:
    return await asyncio.to_thread(_docker_swarm, engine, replicas)


def _docker_swarm(engine: Engine, replicas: int) -> float:
    api = engine.api
    started = time.perf_counter()
    engine.docker(
        *("service", "create", "-q", "--detach", "--name", "bench", "--replicas", str(replicas)),
        *("--restart-delay", "0s", "--stop-grace-period", "0s", "--no-resolve-image"),
        *(DEMO, "sleep", "100000"),
    )
    while api.running_tasks("bench") < replicas:
        _check_time(started)
        time.sleep(_POLL_S)
    took = time.perf_counter() - started
    engine.docker("service", "rm", "bench")
    while api.containers():
        _check_time(started)
        time.sleep(0.1)
    api.close()
    return took


async def ours(cluster: Cluster, replicas: int) -> float:
    """`swarmctl service create` without its start; that of Docker's client takes 20 ms."""
    node = cluster.nodes[0]
    started = time.perf_counter()
    service_id = await cluster.create(node, sleeping_service("bench", replicas))
    await cluster.wait_running(node, service_id, replicas, _TIMEOUT_S)
    took = time.perf_counter() - started
    await cluster.remove(node, service_id)
    return took


def _check_time(started: float) -> None:
    if time.perf_counter() - started > _TIMEOUT_S:
        raise TimeoutError("Docker Swarm's tasks do not run")


async def measure(arguments: argparse.Namespace, report: Report) -> None:
    async with contextlib.AsyncExitStack() as stack:
        systems: dict[str, Measure] = {}
        if "docker" in arguments.on:
            engine = await _engine_in_swarm_mode(stack)
            systems[SWARM] = lambda n: docker_swarm(engine, n)
            environment = {"DOCKER_HOST": f"unix://{engine.socket}"}
        else:
            environment = {}
        for runtime in arguments.on:
            cluster = await stack.enter_async_context(
                Cluster(managers=1, runtime=runtime, environment=environment)
            )
            systems[f"ours on {runtime}"] = lambda n, cluster=cluster: ours(cluster, n)
        await _warm_up(systems)
        for replicas in arguments.replicas:
            await _take_turns(systems, replicas, arguments.rounds, report)


async def _engine_in_swarm_mode(stack: contextlib.AsyncExitStack) -> Engine:
    engine = Engine()
    stack.callback(engine.stop)
    engine.start()
    await engine.load_demo_image()
    engine.docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1")
    return engine


async def _warm_up(systems: dict[str, Measure]) -> None:
    for run in systems.values():
        await run(1)


async def _take_turns(
    systems: dict[str, Measure], replicas: int, rounds: int, report: Report
) -> None:
    values: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, run in systems.items():
            values[name].append(await run(replicas))
            await asyncio.sleep(_REST_S)
    what = f"{replicas} replicas running"
    for name, taken in values.items():
        row = Row(what, name, "s", taken, {"tasks/s": round(replicas / min(taken), 1)})
        swarm = report.find(what, SWARM)
        if swarm is not None:
            row.extra["times Docker Swarm"] = round(swarm.median / row.median, 2)
        report.add(row)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replicas", description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[3, 10, 50])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--on",
        nargs="+",
        choices=("docker", "oci", "process"),
        default=["docker", "oci", "process"],
        help="runtimes; docker brings Docker Swarm beside it; docker and oci need root",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if "docker" in arguments.on and (why := engines.missing()):
        parser.error(f"--on docker: {why}")
    report = Report("From create to all replicas running, one node")
    processes.run(measure(arguments, report))
    finish(report, arguments.json)


if __name__ == "__main__":
    main()
