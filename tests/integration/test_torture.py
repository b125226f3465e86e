"""A short run of `make torture`; and that nothing is left of one, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from daemons import until

from tests.torture.plan import Kind

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and mounts need root"),
]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Sockets' paths must be short."""
    made = Path(tempfile.mkdtemp(prefix="swt"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture", "--out", str(folder / "out"), *words],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_of(folder: Path) -> Sequence[str]:
    """Processes, mounts and loop devices that have to do with what is in the folder."""
    found = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True)
    lines = found.stdout.splitlines() + Path("/proc/self/mountinfo").read_text().splitlines()
    for entry in Path("/proc").iterdir():
        try:
            lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [line for line in lines if f"{folder}/" in line]


def test_what_clients_saw_under_faults_is_linearizable(folder: Path) -> None:
    run = start(folder, "--minutes", "0.5", "--seed", "5")
    said, _ = run.communicate()
    assert run.returncode == 0, said
    figures = json.loads(said.splitlines()[-1])
    assert figures["violations"] == 0
    assert figures["linearizable"]
    assert figures["missing_writes"] == 0
    assert figures["acknowledged_writes"] >= 50
    assert sum(figures["faults"].values()) >= 5
    assert set(figures["faults"]) <= {str(kind) for kind in Kind}
    assert figures["restarts"] >= 1
    assert left_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_cut_off(folder: Path, number: int) -> None:
    run = start(folder, "--minutes", "5", "--seed", "6")
    history = folder / "out" / "history.jsonl"
    until(lambda: history.exists() and history.stat().st_size, 60, "clients are at work")
    assert left_of(folder) != []
    run.send_signal(number)
    run.communicate()
    assert run.returncode != 0
    until(lambda: left_of(folder) == [], 20, "nothing is left")
