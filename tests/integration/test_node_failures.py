"""Daemons that are killed, frozen, cut off from a quorum, out of disk: what was acknowledged stays,
and what runs goes on."""

import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from daemons import Daemon, Daemons, leader_of, settled, until

from swarm.api.v1 import control_pb2 as control
from swarm.api.v1.node_pb2 import NODE_STATE_DOWN, NODE_STATE_READY


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    running = Daemons()
    yield running
    running.close()


def error_of(call, *args: object, **fields: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **fields)
    said = caught.value.details()  # type: ignore[attr-defined]
    assert said
    assert "\n" not in said
    return caught.value


def service_names(node: Daemon) -> set[str]:
    answer = node.control.ListServices(control.ListServicesRequest(), timeout=20)
    return {view.spec.annotations.name for view in answer.services}


def processes(nodes: list[Daemon]) -> dict[str, list[int]]:
    """Of all nodes; a task in two places would show as two pids."""
    found: dict[str, list[int]] = {}
    for node in nodes:
        for task_id, pids in node.task_processes().items():
            found.setdefault(task_id, []).extend(pids)
    return found


def test_all_killed_at_once_and_started_again(daemons: Daemons) -> None:
    nodes = daemons.cluster(3, 1)
    nodes[0].create_service("web", 8)
    until(lambda: len(nodes[0].running()) == 8)
    tasks, before = nodes[0].running(), processes(nodes)
    assert set(before) == tasks
    for node in nodes:
        node.kill()
    assert processes(nodes) == before
    for node in nodes:
        node.launch()
    leader = leader_of(nodes[:3], 20)
    until(lambda: settled(leader, 3, 4), 30)
    until(lambda: leader.running() == tasks)
    assert processes(nodes) == before
    assert {task.id for task in leader.tasks()} == tasks
    # One role after the other.
    for node in (leader, nodes[3]):
        node.kill()
        node.start()
        until(lambda: settled(leader, 3, 4), 30)
    until(lambda: leader.running() == tasks)
    assert processes(nodes) == before


def test_sigterm_ends_quickly_and_the_leader_hands_over(daemons: Daemons) -> None:
    *managers, worker = nodes = daemons.cluster(3, 1)
    managers[0].create_service("web", 4)
    until(lambda: len(managers[0].running()) == 4)
    tasks, before = managers[0].running(), processes(nodes)
    leader = leader_of(managers)
    others = [one for one in managers if one is not leader]
    family = leader.family()
    ended: list[tuple[int, float]] = []
    thread = threading.Thread(target=lambda: ended.append(leader.terminate()))
    began = time.monotonic()
    thread.start()
    others[0].create_service("during", 0, timeout=5)
    assert time.monotonic() - began < 1.5
    thread.join()
    ended += [node.terminate() for node in (worker, *others)]
    assert "leadership is handed over" in leader.log()
    assert [code for code, _ in ended] == [0, 0, 0, 0]
    assert max(seconds for _, seconds in ended) < 3
    assert not [pid for pid in family if is_alive_pid(pid)]
    assert processes(nodes) == before
    for node in nodes:
        node.launch()
    leader = leader_of(managers, 20)
    until(lambda: settled(leader, 3, 4), 30)
    until(lambda: leader.running() == tasks)
    assert "during" in service_names(leader)


def is_alive_pid(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigterm_of_what_is_alone_waits_for_nobody(daemons: Daemons) -> None:
    for node in (daemons.new().start(), daemons.cluster(1)[0]):
        code, seconds = node.terminate()
        assert code == 0
        assert seconds < 2
        assert "SIGTERM: swarmd ends" in node.log()


def test_a_frozen_leader_and_a_frozen_worker(daemons: Daemons) -> None:
    *managers, worker = nodes = daemons.cluster(3, 1)
    leader = leader_of(managers)
    others = [one for one in managers if one is not leader]
    leader.create_service("web", 8)
    until(lambda: len(leader.running()) == 8)
    first = leader.running()
    safe = first - set(leader.task_processes())
    frozen = leader.pause()
    acknowledged: list[str] = []
    until(lambda: leader_of_running(others))
    for _ in range(5):
        name = f"w{secrets.token_hex(4)}"
        others[0].create_service(name, 0)
        acknowledged.append(name)
    until(lambda: others[0].nodes()[leader.name].node.status.state == NODE_STATE_DOWN)
    leader.resume(frozen)
    until(lambda: settled(others[0], 3, 4))
    assert leader_of(managers) in others
    assert set(acknowledged) <= service_names(leader)
    until(lambda: len(others[0].running()) == 8)
    until(lambda: set(processes(nodes)) == others[0].running(), saying="superseded ones stopped")
    # Agents that were served by the frozen manager found another in time: none was given up.
    assert first & others[0].running() == safe
    frozen, superseded = worker.pause(), set(worker.task_processes())
    assert superseded
    until(lambda: others[0].nodes()[worker.name].node.status.state == NODE_STATE_DOWN)

    def replaced() -> bool:
        running = others[0].running()
        return len(running) == 8 and not running & superseded

    until(replaced)
    elsewhere = others[0].running()
    assert set(worker.task_processes()) == superseded
    worker.resume(frozen)
    until(lambda: others[0].nodes()[worker.name].node.status.state == NODE_STATE_READY)
    until(lambda: set(processes(nodes)) == others[0].running(), saying="superseded ones stopped")
    assert others[0].running() == elsewhere
    assert all(len(pids) == 1 for pids in processes(nodes).values())


def leader_of_running(managers: list[Daemon]) -> int:
    """Whom all of these follow, if it is one of them."""
    infos = [one.info() for one in managers]
    leaders = {info.leader_raft_id for info in infos}
    own = {info.raft_id for info in infos}
    return next(iter(leaders)) if len(leaders) == 1 and leaders <= own else 0


def test_without_a_quorum_it_says_so_and_tasks_go_on(daemons: Daemons) -> None:
    managers = daemons.cluster(3)
    managers[0].create_service("web", 3)
    until(lambda: len(managers[0].running()) == 3)
    tasks, before = managers[0].running(), processes(managers)
    alone = managers[0]
    for node in managers[1:]:
        node.kill()
    until(lambda: not alone.info().leader_raft_id)
    for call in (
        lambda: alone.create_service("no", 1, timeout=1),
        lambda: alone.nodes(),  # with more patience than it takes
        lambda: alone.control.ListServices(control.ListServicesRequest(), timeout=1),
        lambda: alone.control.JoinTokens(control.JoinTokensRequest(), timeout=1),
        lambda: alone.control.GetNode(control.GetNodeRequest(reference="self"), timeout=1),
    ):
        began = time.monotonic()
        error = error_of(call)
        assert "does not have a leader" in error.details()  # type: ignore[attr-defined]
        assert time.monotonic() - began < 8
    assert processes(managers) == before
    for node in managers[1:]:
        node.launch()
    until(lambda: settled(alone, 3, 3), 30)
    until(lambda: alone.running() == tasks)
    assert processes(managers) == before
    assert service_names(alone) == {"web"}


@pytest.fixture
def small_disk(daemons: Daemons) -> Iterator[Path]:
    """A file system with room for a manager's log, and little more."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder = daemons.folder / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.decode().strip()}")
    yield folder
    for one in daemons.all:
        one.stop_hard()
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(daemons: Daemons, small_disk: Path) -> None:
    first = daemons.new(folder=small_disk).start()
    answer = first.init()
    first.create_service("before", 0)
    filler = small_disk / "filler"
    fill(filler)
    # The log's space is reserved ahead: writes go on until another segment is needed, and what
    # is new on this disk is refused in a line.
    first.create_service("reserved", 0)
    second = daemons.new(folder=small_disk).start()
    said = error_of(second.join, answer.worker_token, answer.join_address)
    assert "space" in said.details()  # type: ignore[attr-defined]
    assert not second.info().node_id
    # Full when it starts: it serves what it has, and writes wait for space.
    first.kill()
    first.start()
    until(lambda: settled(first, 1, len(first.nodes())) or first.nodes())
    assert {"before", "reserved"} <= service_names(first)
    filler.unlink()
    first.kill()
    first.start()
    second.join(answer.worker_token, answer.join_address)
    until(lambda: settled(first, 1, 2))
    first.create_service("after", 1)
    until(lambda: len(first.running()) == 1)
    assert service_names(first) == {"before", "reserved", "after"}


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(b"\0" * (1 << 20))
        except OSError:
            pass
        try:
            while True:
                handle.write(b"\0" * 256)
        except OSError:
            pass
