"""Many seeds on all cores, and one seed as a readable trace."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Generator, Iterable, Sequence
from functools import partial

from swarm.simulation.mutants import MUTANTS
from swarm.simulation.simulation import Result, simulate


def run(first: int, count: int, mutant: str, faults: Sequence[str], jobs: int = 0) -> int:
    """Run the seeds, say what failed, and end with a line of JSON. 1 if any failed.

    With a mutant, the first failure is enough: the bug is found.
    """
    results = _results(range(first, first + count), mutant, faults, jobs)
    done: list[Result] = []
    for result in results:
        done.append(result)
        if result.failed:
            _report(result, mutant)
            if mutant:
                break
    results.close()
    print(json.dumps(_summary(first, done, mutant)))
    return int(any(result.failed for result in done))


def replay(seed: int, mutant: str, faults: Sequence[str]) -> int:
    """The whole trace, and its SHA-256: the same in every process."""
    with MUTANTS.applied(mutant):
        result, sha256 = simulate(seed, faults, sink=print)
    if result.failed:
        print(f"seed {seed} violates: {result.invariant}: {result.detail}")
    print(f"sha256 {sha256}")
    return int(result.failed)


def find(mutant: str, first: int, count: int, faults: Sequence[str]) -> Result | None:
    """The first seed that finds the mutant, in this process."""
    for seed in range(first, first + count):
        result = _one(seed, mutant, faults)
        if result.failed:
            return result
    return None


def _results(
    seeds: Iterable[int], mutant: str, faults: Sequence[str], jobs: int
) -> Generator[Result]:
    work = partial(_one, mutant=mutant, faults=tuple(faults))
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        yield from map(work, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        # In order, so that the same seeds say the same thing.
        yield from pool.imap(work, seeds, chunksize=1 if mutant else 4)


def _one(seed: int, mutant: str, faults: Sequence[str]) -> Result:
    with MUTANTS.applied(mutant):
        return simulate(seed, faults)[0]


def _report(result: Result, mutant: str) -> None:
    name = f" mutant {mutant}" if mutant else ""
    print(f"seed {result.seed}{name} violates: {result.invariant}")
    print(f"  {result.detail}")
    if not mutant:
        for line in result.trace:
            print(f"  {line}")
        print(f"  replay it: make sim-replay SEED={result.seed}")
    sys.stdout.flush()


def _summary(first: int, done: Sequence[Result], mutant: str) -> dict[str, object]:
    faults: dict[str, int] = {}
    operations: dict[str, int] = {}
    for result in done:
        for name, count in result.faults.items():
            faults[name] = faults.get(name, 0) + count
        for name, count in result.operations.items():
            operations[name] = operations.get(name, 0) + count
    cpu = sorted(result.cpu_s for result in done)
    summary: dict[str, object] = {
        "seeds": len(done),
        "first": first,
        "failed": sum(result.failed for result in done),
        "virtual_hours": round(sum(result.virtual_s for result in done) / 3600, 3),
        "cpu_s": round(sum(cpu), 1),
        "median_cpu_s": round(cpu[len(cpu) // 2], 3) if cpu else 0,
        "events": sum(result.events for result in done),
        "operations": dict(sorted(operations.items())),
        "faults": {name: count for name, count in sorted(faults.items()) if count},
    }
    if mutant:
        summary["mutant"] = mutant
    return summary
