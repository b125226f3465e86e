"""The first command and the demonstration, on each runtime, as a newcomer sees them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_clusters import Local, Locals, processes_of, until

pytestmark = pytest.mark.timeout(240)

RUNTIMES = ("process", "oci", "docker")


@pytest.fixture
def locals_() -> Iterator[Locals]:
    made = Locals()
    yield made
    made.close()


@pytest.fixture
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "oci" and (os.geteuid() != 0 or shutil.which("runc") is None):
        pytest.skip("the oci runtime needs root and runc")
    if name == "docker":
        monkeypatch.setenv("DOCKER_HOST", f"unix://{request.getfixturevalue('dockerd')}")
    return name


def quickstart(local: Local, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "swarm.local.quickstart", "--dir", str(local.folder), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_the_quickstart_ends_with_a_cluster_that_lost_its_leader(
    locals_: Locals, runtime: str
) -> None:
    local = locals_.folder()
    for _ in range(2):  # run again, it starts over
        done = quickstart(local, "--runtime", runtime)
        assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    assert told.count("3 of 3 tasks are running") == 2
    first, second = re.findall(r"^(manager-\d) leads", told, re.MULTILINE)
    assert first != second
    assert local.leader() == second
    nodes = local.nodes()
    assert [name for name, row in nodes.items() if row["State"] == "stopped"] == [first]
    running = local.running("web")
    assert len(running) == 3
    assert first not in running.values()
    url = re.findall(r"with web at (\S+)", told)[0]
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.read().startswith(b"service: web")
    for line in told.partition("Three commands to try:\n")[2].splitlines():
        if line.startswith("    "):
            tried = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
            assert tried.returncode == 0, f"{line}: {tried.stderr}"
    assert not local.folder.exists()
    assert processes_of(local.folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_quickstart_that_was_ended_starts_over(locals_: Locals, number: signal.Signals) -> None:
    local = locals_.folder()
    words = ["-m", "swarm.local.quickstart", "--dir", str(local.folder), "--runtime", "process"]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL) as process:
        until(lambda: (local.folder / "worker-1" / "swarmd.pid").exists())
        process.send_signal(number)
        process.wait(60)
    if number is signal.SIGINT:
        assert process.returncode == 130
        assert not local.folder.exists()
    done = quickstart(local, "--runtime", "process")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(local.nodes()) == 5


@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_the_failover_demonstration(locals_: Locals, runtime: str) -> None:
    local = locals_.folder()
    told = local.do("local", "demo", "failover", "--runtime", runtime, timeout_s=200)
    assert re.search(r"manager-\d took over: .* after \d+ ms", told)
    assert told.count("3 of 3 tasks run on other nodes") == 2
    assert re.search(r"All \d+ writes that were acknowledged on the way are there", told)
    assert not local.folder.exists()


def test_the_demonstration_leaves_an_existing_cluster_as_it_was(locals_: Locals) -> None:
    local = locals_.up(3, 1)
    local.do("service", "create", "--name", "web", "swarm/demo")
    local.do("local", "demo", "failover", timeout_s=200)
    assert [row["Name"] for row in local.rows("service", "ls")] == ["web"]
    assert {row["State"] for row in local.nodes().values()} == {"running"}


@pytest.mark.parametrize("runtime", ["oci", "docker"], indirect=True)
def test_containers_outlive_all_daemons_and_a_power_cut_ends_them(
    locals_: Locals, runtime: str
) -> None:
    local = locals_.up(3, 1, runtime)
    local.do(
        "service", "create", "--name", "web", "--replicas", "4", "-p", "8088:8000", "swarm/demo"
    )
    before = local.running("web")
    started = {task: processes_with(task) for task in before}
    assert all(started.values())
    local.do("local", "kill", "--daemon-only", "--all")
    assert {task: processes_with(task) for task in before} == started
    local.do("local", "start", "--all")
    until(lambda: local.running("web") == before)
    assert {task: processes_with(task) for task in before} == started
    local.do("local", "kill", "--all")
    assert not any(processes_with(task) for task in before)
    local.do("local", "start", "--all")
    until(lambda: len(local.running("web")) == 4 and not set(local.running("web")) & set(before))
    assert local.answer("worker-1", 8088)["service"] == "web"


def processes_with(task: str) -> set[str]:
    """The processes of a task's container, by pid and start time."""
    mark = f"SWARM_TASK_ID={task}".encode()
    found: set[str] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark not in (entry / "environ").read_bytes().split(b"\0"):
                    continue
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] not in "ZX":
                found.add(f"{entry.name}@{fields[19]}")
    return found
