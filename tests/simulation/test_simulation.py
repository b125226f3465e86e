"""The simulator runs clean on fixed seeds, and the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from swarm.simulation import runner
from swarm.simulation.scenario import FAULTS, draw
from swarm.simulation.simulation import Result, simulate

REGRESSIONS = Path(__file__).with_name("regressions.txt")


def regressions() -> list[int]:
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def why(result: Result) -> str:
    return f"seed {result.seed}: {result.invariant}: {result.detail}"


def run(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "swarm.simulation", *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("seed", regressions())
def test_a_seed_that_failed_once(seed: int) -> None:
    result, _ = simulate(seed)
    assert not result.failed, why(result)


@pytest.mark.parametrize("seed", range(5000, 5010))
def test_a_calm_cluster_does_what_it_is_asked(seed: int) -> None:
    result, _ = simulate(seed, allowed=())
    assert not result.failed, why(result)
    assert result.operations["writes"] > 5
    assert result.operations["unknown"] == 0


def test_every_fault_can_be_drawn_and_switched_off() -> None:
    drawn = set[str]().union(*(draw(seed).faults for seed in range(200)))
    assert drawn == set(FAULTS)
    assert draw(5, ["pause"]).faults <= {"pause"}


@pytest.mark.parametrize("seed", [3, 45])
def test_a_trace_is_the_same_in_every_process(seed: int) -> None:
    first = run("--replay", str(seed), hash_seed="1")
    second = run("--replay", str(seed), hash_seed="2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1].startswith("sha256 ")
    assert first.stdout == second.stdout


def test_the_last_line_sums_up() -> None:
    done = run("--seeds", "4", "--first", "7", "--faults", "manager_crash,drop")
    assert done.returncode == 0, done.stdout
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["seeds"], summary["first"], summary["failed"]) == (4, 7, 0)
    assert summary["virtual_hours"] > 0
    assert set(summary["faults"]) <= {"manager_crash", "dropped"}
    assert summary["states"] > 50


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--faults", "gremlins"), "unknown fault gremlins: one of manager_crash,"),
        (("--mutant", "gremlins"), "unknown mutant gremlins: one of vote-without-fsync,"),
        (("--seeds", "many"), "'many' is not a whole number"),
        (("--seeds", "0"), "at least 1 is needed"),
        (("--replay", "-1"), "'-1' is not a whole number"),
    ],
)
def test_what_it_does_not_know_is_refused_in_one_line(arguments: tuple[str, str], why: str) -> None:
    refused = run(*arguments)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert why in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_every_seed_that_fails_is_named_with_how_to_replay_it() -> None:
    failed = run("--mutant", "stale-reads", "--seeds", "8", "--first", "0")
    assert failed.returncode == 1
    seeds = json.loads(failed.stdout.splitlines()[-1])["failed_seeds"]
    assert seeds
    for seed in seeds:
        assert f"seed {seed} mutant stale-reads violates: operations are linear" in failed.stdout
        assert f"make sim-replay SEED={seed} MUTANT=stale-reads" in failed.stdout


def die(seed: int, mutant: str, faults: tuple[str, ...]) -> NoReturn:
    del seed, mutant, faults
    os._exit(9)


def test_a_process_that_dies_is_said_to_have_died(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "_one", die)
    with pytest.raises(SystemExit) as ended:
        runner.run(first=70, count=20, mutant="", faults=FAULTS, jobs=2)
    assert ended.value.code == 3
    assert "a process of the simulator died, at seed 70" in capsys.readouterr().err
