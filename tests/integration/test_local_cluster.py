"""`swarmctl local`: what it starts, what it breaks, and that it leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from local_clusters import Local, Locals, mounts_of, processes_of, until

from swarm.local import processes, record
from swarm.worker.runtime.processes import is_alive


@pytest.fixture
def locals_() -> Iterator[Locals]:
    made = Locals()
    yield made
    made.close()


def test_a_cluster_is_ready_when_up_returns(locals_: Locals) -> None:
    local = locals_.up(3, 2)
    nodes = local.nodes()
    assert list(nodes) == ["manager-1", "manager-2", "manager-3", "worker-1", "worker-2"]
    assert {row["State"] for row in nodes.values()} == {"running"}
    assert [row["Role"] for row in nodes.values()] == ["manager"] * 3 + ["worker"] * 2
    assert len({row["Address"] for row in nodes.values()}) == 5
    assert all(row["Address"].startswith("127.") for row in nodes.values())
    for row in nodes.values():
        os.kill(int(row["PID"]), 0)
    listed = local.rows("node", "ls")
    assert {row["Hostname"]: row["Status"] for row in listed} == dict.fromkeys(nodes, "Ready")
    managers = sorted(row["ManagerStatus"] for row in listed if row["ManagerStatus"])
    assert managers == ["Leader", "Reachable", "Reachable"]
    assert local.do("local", "env").splitlines()[0] == (
        f"export SWARM_HOST={','.join(local.hosts())}"
    )
    again = local.run("local", "up")
    assert again.returncode == 1
    assert "already" in again.stderr
    assert len(again.stderr.splitlines()) == 1
    local.do("local", "down")
    assert not local.folder.exists()
    assert processes_of(local.folder) == []
    assert mounts_of(local.folder) == []


def test_two_clusters_at_once(locals_: Locals) -> None:
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: locals_.up(1, 1), range(2))
    blocks = {record.load(local.folder).block for local in (one, other)}
    assert len(blocks) == 2
    for local in (one, other):
        local.do("service", "create", "--name", "web", "-p", "8099:8000", "swarm/demo")
    one.do("local", "kill", "--all")
    one.do("local", "down")
    assert len(other.running("web")) == 1
    assert other.answer("worker-1", 8099)["service"] == "web"


def test_a_power_cut_takes_the_tasks_and_a_start_brings_the_node_back(locals_: Locals) -> None:
    local = locals_.up(1, 1)
    local.do("service", "create", "--name", "web", "--mode", "global", "swarm/demo")
    before = local.running("web")
    lost = next(task for task, node in before.items() if node == "worker-1")
    family = processes.family(record.load(local.folder).node("worker-1"))
    assert len(family) == 2  # daemon and agent
    local.do("local", "kill", "worker-1")
    assert not any(is_alive(process) for process in family)
    assert tasks_of(local, "worker-1") == []
    assert local.nodes()["worker-1"]["State"] == "stopped"
    again = local.run("local", "kill", "worker-1")
    assert again.returncode == 1
    assert "does not run" in again.stderr
    assert local.do("local", "start", "worker-1").split() == ["worker-1"]
    assert local.do("local", "start", "--all").split() == []
    until(lambda: sorted(local.running("web").values()) == ["manager-1", "worker-1"])
    assert lost not in local.running("web")


def test_tasks_outlive_all_daemons(locals_: Locals) -> None:
    local = locals_.up(3, 1)
    local.do("service", "create", "--name", "web", "--replicas", "4", "-p", "8000", "swarm/demo")
    before = local.running("web")
    programs = {node: tasks_of(local, node) for node in local.nodes()}
    assert sum(map(len, programs.values())) == 4
    local.do("local", "kill", "--daemon-only", "--all")
    assert {row["State"] for row in local.nodes().values()} == {"stopped"}
    assert {node: tasks_of(local, node) for node in programs} == programs
    assert len(local.do("local", "start", "--all").split()) == 4
    until(lambda: local.running("web") == before)
    assert {node: tasks_of(local, node) for node in programs} == programs


def test_a_paused_leader_is_replaced_and_comes_back(locals_: Locals) -> None:
    local = locals_.up(3, 0)
    leader = local.leader()
    local.do("local", "pause", leader)
    assert local.nodes()[leader]["State"] == "paused"
    assert local.leader() != leader
    local.do("service", "create", "--detach", "--name", "web", "--replicas", "0", "swarm/demo")
    local.do("local", "unpause", leader)
    assert local.nodes()[leader]["State"] == "running"
    until(lambda: all(row["ManagerStatus"] != "Unreachable" for row in local.rows("node", "ls")))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft")
def test_a_leader_cut_off_in_silence_is_replaced(locals_: Locals) -> None:
    local = locals_.up(3, 0)
    leader = local.leader()
    local.do("local", "partition", leader)

    def deposed() -> bool:
        rows = {row["Hostname"]: row["ManagerStatus"] for row in local.rows("node", "ls")}
        return rows[leader] == "Unreachable" and "Leader" in rows.values()

    until(deposed)
    local.do("service", "create", "--detach", "--name", "web", "--replicas", "0", "swarm/demo")
    local.do("local", "heal")
    until(lambda: all(row["ManagerStatus"] != "Unreachable" for row in local.rows("node", "ls")))
    local.do("local", "partition", leader)
    block = record.load(local.folder).block
    table = "swarm_local_" + "_".join(block.split(".")[:3])
    assert table in nft_tables()
    local.do("local", "down")
    assert table not in nft_tables()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_up_that_is_ended_leaves_nothing(locals_: Locals, number: signal.Signals) -> None:
    local = locals_.folder()
    words = ["local", "up", "--dir", str(local.folder), "--runtime", "process"]
    with subprocess.Popen(
        [sys.executable, "-m", "swarm.cli", *words], stdout=subprocess.DEVNULL
    ) as process:
        until(lambda: (local.folder / "manager-2" / "swarmd.pid").exists())
        process.send_signal(number)
        process.wait(60)
    if number is signal.SIGKILL:
        # Its daemons go on; the next `up` begins with removing them.
        local.do("local", "up", "--managers", "1", "--workers", "0", "--runtime", "process")
        assert list(local.nodes()) == ["manager-1"]
    else:
        assert process.returncode == 130
        assert not local.folder.exists()
        assert processes_of(local.folder) == []


def test_a_daemon_that_dies_on_the_way_is_named_with_its_last_words(locals_: Locals) -> None:
    local = locals_.folder()
    words = ["local", "up", "--dir", str(local.folder), "--runtime", "process"]
    manager = local.folder / "manager-1"
    with subprocess.Popen(
        [sys.executable, "-m", "swarm.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until(lambda: (manager / "swarmd.log").exists() and (manager / "swarmd.log").read_text())
        pid, _ = json.loads((manager / "swarmd.pid").read_text())
        os.kill(pid, signal.SIGSEGV)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "manager-1: its daemon was killed by SIGSEGV: " in said
    assert said.rstrip().endswith("Fatal Python error: Segmentation fault")
    assert len(said.splitlines()) == 1
    assert not local.folder.exists()


def test_a_recycled_pid_is_not_signalled(locals_: Locals) -> None:
    local = locals_.up(1, 0)
    node = record.load(local.folder).nodes[0]
    local.do("local", "kill", "--daemon-only", "manager-1")
    with subprocess.Popen(["sleep", "60"]) as other:
        (node.state_dir / "swarmd.pid").write_text(f"[{other.pid}, 1]")
        assert processes.daemon(node) is None
        local.do("local", "down")
        assert other.poll() is None
        other.kill()


def test_a_folder_with_a_long_name(locals_: Locals) -> None:
    local = locals_.folder()
    local.folder = local.folder / ("long" * 30)
    local.do("local", "up", "--managers", "1", "--workers", "0", "--runtime", "process")
    sockets = record.load(local.folder).sockets
    assert os.path.isdir(sockets)  # noqa: PTH112
    local.do("service", "create", "--name", "web", "swarm/demo")
    local.do("local", "down")
    assert not os.path.exists(sockets)  # noqa: PTH110
    assert not local.folder.exists()
    local.folder = local.folder.parent
    local.folder.rmdir()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ps",), "there is no local cluster in"),
        (("down",), "there is no local cluster in"),
        (("kill",), "name the nodes, or give --all"),
        (("up", "--managers", "0"), "at least one manager"),
        (("up", "--managers", "150", "--workers", "150"), "at most 200"),
        (("up", "--runtime", "wasm"), 'no runtime "wasm"'),
        (("demo", "dance"), "dance"),
    ],
)
def test_errors_say_what_to_do(locals_: Locals, words: tuple[str, ...], said: str) -> None:
    local = locals_.folder()
    done = local.run("local", *words)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not local.folder.exists()


def test_files_of_others_in_the_folder_stay(locals_: Locals) -> None:
    local = locals_.folder()
    local.folder.mkdir()
    (local.folder / "notes").write_text("mine")
    local.do("local", "up", "--managers", "1", "--workers", "0", "--runtime", "process")
    local.do("local", "down")
    assert [path.name for path in local.folder.iterdir()] == ["notes"]
    shutil.rmtree(local.folder)


def test_what_can_not_start_says_why_and_leaves_nothing(locals_: Locals) -> None:
    local = locals_.folder()
    environment = {**os.environ, "DOCKER_HOST": f"unix://{local.folder}/nobody"}
    words = ["local", "up", "--dir", str(local.folder), "--runtime", "docker"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "swarm.cli", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "docker: cannot reach the engine" in done.stderr
    assert time.monotonic() - started < 30
    assert not local.folder.exists()


def tasks_of(local: Local, node: str) -> list[int]:
    """The processes of the demo service that a node runs: with its own environment."""
    mark = f"SWARM_NODE={node}".encode()
    folder = os.fsencode(local.folder)
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                variables = (entry / "environ").read_bytes().split(b"\0")
                place = os.fsencode((entry / "cwd").readlink())
            except OSError:
                continue
            if b"demo_server" in words and mark in variables and place.startswith(folder):
                found.append(int(entry.name))
    return sorted(found)


def nft_tables() -> str:
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
