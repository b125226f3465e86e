"""What `swarmd check` makes of facts, and how it says so."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from swarm.node import check, machine
from swarm.node.check import Verdict

GIB = 1 << 30


@pytest.mark.parametrize(
    ("finding", "verdict", "said"),
    [
        (check._space(Path("/x"), 100 << 20), "problem", "make room"),
        (check._space(Path("/x"), 1 * GIB), "warning", "1.0 GiB free in /x"),
        (check._space(Path("/x"), 9 * GIB), "ok", "9.0 GiB free in /x"),
        (check._fsync(Path("/x"), 400, 900), "problem", "a local disk"),
        (check._fsync(Path("/x"), 25, 90), "warning", "25.0 ms, 90.0 ms at worst"),
        (check._fsync(Path("/x"), 1, 90), "ok", "1.0 ms"),
        (check._clock(datetime(1970, 1, 1, tzinfo=UTC), True), "problem", "1970-01-01 00:00"),
        (check._clock(datetime.now(UTC), False), "warning", "chrony"),
        (check._clock(datetime.now(UTC), None), "warning", "timedatectl"),
        (check._clock(datetime.now(UTC), True), "ok", "synchronised"),
    ],
)
def test_what_is_made_of_facts(finding: check.Finding, verdict: str, said: str) -> None:
    assert (finding.verdict, said in finding.text) == (Verdict(verdict), True)


def test_modules_that_are_loaded_built_in_or_on_the_disk(tmp_path: Path) -> None:
    modules = tmp_path / "lib/modules" / os.uname().release
    modules.mkdir(parents=True)
    (modules / "modules.builtin").write_text("kernel/drivers/net/veth.ko\n")
    (modules / "modules.dep").write_text("kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko\n")
    (tmp_path / "sys/module/nf_tables").mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/filesystems").write_text("nodev\toverlay\n\text4\n")
    found = [name for name in NAMES if machine.has_module(name, tmp_path)]
    assert found == ["veth", "bridge", "nf_tables", "overlay"]


NAMES = ("veth", "bridge", "nf_tables", "overlay", "btrfs", "llc")


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    (tmp_path / "cpu,cpuacct").mkdir()
    (tmp_path / "memory").mkdir()
    assert machine.cgroup_controllers(tmp_path) == (1, {"cpu", "cpuacct", "memory"})
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    assert machine.cgroup_controllers(tmp_path) == (2, {"cpu", "io", "memory", "pids"})
    assert machine.cgroup_controllers(tmp_path / "none") == (0, set())


def run_check(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swarm.node.main", "--runtime", "process", *flags, "check"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_port_in_use_is_a_problem_that_is_named_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ("--state-dir", str(tmp_path / "not/there/yet"), "--socket", f"{tmp_path}/s")
        done = run_check(*flags, "--listen-addr", f"127.0.0.1:{port}")
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = [line for line in done.stdout.splitlines() if " ports " in line]
    assert line.startswith("problem ")
    assert f"pid {os.getpid()}" in line
    assert f"fsync in {tmp_path} takes" in done.stdout
    assert "1 problem, " in done.stdout
    assert not (tmp_path / "not").exists()


def test_a_machine_that_will_do(tmp_path: Path) -> None:
    flags = ("--state-dir", str(tmp_path), "--socket", f"{tmp_path}/s")
    done = run_check(*flags, "--listen-addr", f"127.83.{os.getpid() % 250}.1")
    assert done.returncode == 0
    assert "process works" in done.stdout
    assert "tasks would be plain processes" in done.stdout
    assert not list(tmp_path.iterdir())
