"""Many seeds on all cores, and one seed as a readable trace."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NoReturn

from swarm.simulation.mutants import MUTANTS
from swarm.simulation.simulation import Result, simulate

# The work that is handed out ahead of what is done, in seeds a process.
_AHEAD = 8
# A violation is told with its trace so many times; of further ones the seed must do.
_TRACES_MAX = 5


def run(first: int, count: int, mutant: str, faults: Sequence[str], jobs: int = 0) -> int:
    """Run the seeds, say what failed, and end with a line of JSON. 1 if any failed.

    With a mutant, the first failure is enough: the bug is found.
    """
    summary = _Summary(first, mutant)
    results = _results(range(first, first + count), mutant, faults, jobs)
    try:
        for result in results:
            summary.add(result)
            if result.failed:
                _report(result, mutant, with_trace=len(summary.failed) <= _TRACES_MAX)
                if mutant:
                    break
    except KeyboardInterrupt:
        _interrupted(summary)
    finally:
        results.close()
    if summary.failed and not mutant:
        print(f"failed: {' '.join(map(str, summary.failed))}")
    print(json.dumps(summary.to_json()))
    return int(bool(summary.failed))


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
        result = _one(seed, mutant, tuple(faults))
        if result.failed:
            return result
    return None


def _results(
    seeds: Iterable[int], mutant: str, faults: Sequence[str], jobs: int
) -> Generator[Result]:
    """In the order of the seeds, so that the same seeds say the same thing."""
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        yield from (_one(seed, mutant, tuple(faults)) for seed in seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        waiting: list[tuple[int, Future[Result]]] = []
        try:
            for seed in seeds:
                waiting.append((seed, pool.submit(_one, seed, mutant, tuple(faults))))
                if len(waiting) >= jobs * _AHEAD:
                    yield _outcome(*waiting.pop(0))
            while waiting:
                yield _outcome(*waiting.pop(0))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _outcome(seed: int, future: Future[Result]) -> Result:
    """A process that was killed, or ran out of memory, must not look like a seed that is fine."""
    try:
        return future.result()
    except BrokenProcessPool:
        print(
            f"a process of the simulator died, at seed {seed} or a few after it "
            f"(killed? out of memory?): run them one by one with JOBS=1 SEED_START={seed}",
            file=sys.stderr,
        )
        sys.exit(3)


def _one(seed: int, mutant: str, faults: tuple[str, ...]) -> Result:
    with MUTANTS.applied(mutant):
        return simulate(seed, faults)[0]


def _report(result: Result, mutant: str, *, with_trace: bool) -> None:
    name = f" mutant {mutant}" if mutant else ""
    print(f"seed {result.seed}{name} violates: {result.invariant}")
    print(f"  {result.detail}")
    if not mutant:
        for line in result.trace if with_trace else ():
            print(f"  {line}")
    switch = f" MUTANT={mutant}" if mutant else ""
    print(f"  replay it: make sim-replay SEED={result.seed}{switch}")
    sys.stdout.flush()


def _interrupted(summary: _Summary) -> NoReturn:
    print(f"interrupted after {summary.seeds} seeds", file=sys.stderr)
    print(json.dumps(summary.to_json()), flush=True)
    # Not by sys.exit: seeds that are under way would be waited for.
    os._exit(130)


class _Summary:
    """What all results add up to."""

    def __init__(self, first: int, mutant: str) -> None:
        self.first, self.mutant = first, mutant
        self.seeds = 0
        self.failed: list[int] = []
        self._virtual_s = 0.0
        self._events = 0
        self._cpu_s: list[float] = []
        self._states: set[int] = set()
        self._operations: dict[str, int] = {}
        self._faults: dict[str, int] = {}

    def add(self, result: Result) -> None:
        self.seeds += 1
        if result.failed:
            self.failed.append(result.seed)
        self._virtual_s += result.virtual_s
        self._events += result.events
        self._cpu_s.append(result.cpu_s)
        self._states |= result.states
        for counts, more in (
            (self._operations, result.operations),
            (self._faults, result.faults),
        ):
            for name, count in more.items():
                counts[name] = counts.get(name, 0) + count

    def to_json(self) -> dict[str, object]:
        cpu = sorted(self._cpu_s)
        summary: dict[str, object] = {
            "seeds": self.seeds,
            "first": self.first,
            "failed": len(self.failed),
            "virtual_hours": round(self._virtual_s / 3600, 3),
            "faults": {name: count for name, count in sorted(self._faults.items()) if count},
            "states": len(self._states),
            "events": self._events,
            "operations": dict(sorted(self._operations.items())),
            "cpu_s": round(sum(cpu), 1),
            "median_cpu_s": round(cpu[len(cpu) // 2], 3) if cpu else 0,
        }
        if self.failed:
            summary["failed_seeds"] = self.failed
        if self.mutant:
            summary["mutant"] = self.mutant
        return summary
