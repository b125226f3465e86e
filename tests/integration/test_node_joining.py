"""Init, join and leave with real daemons: what can't be is said in a line and changes nothing."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from daemons import Daemon, Daemons, settled, until

from swarm.api.v1 import daemon_pb2 as daemon
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER, NODE_STATE_DOWN


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    running = Daemons()
    yield running
    running.close()


def refused(call, *args: object, **fields: object) -> str:
    """What is said, in one line."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **fields)
    said = caught.value.details()  # type: ignore[attr-defined]
    assert said
    assert "\n" not in said
    assert "Traceback" not in said
    assert "internal error" not in said
    return said


def test_what_cannot_join_is_told_why(daemons: Daemons) -> None:
    manager, joiner, stranger = (daemons.new().start() for _ in range(3))
    cluster = manager.init()
    other = stranger.init()
    there = cluster.join_address
    nobody = there.replace(".1:", ".99:")
    assert "not valid" in refused(joiner.join, cluster.worker_token[:-5] + "aaaaa", there)
    assert "SWMTKN" in refused(joiner.join, "SWMTKN-nonsense", there)
    assert "does not match the join token" in refused(joiner.join, other.worker_token, there)
    assert "can't be reached" in refused(joiner.join, cluster.worker_token, nobody)
    assert "port must be" in refused(joiner.join, cluster.worker_token, "127.0.0.1:x")
    assert "takes the HOST" in refused(joiner.join, cluster.worker_token)
    elsewhere = daemon.JoinRequest(
        token=cluster.worker_token, remote_addresses=[there], listen_address="192.0.2.1"
    )
    assert "not an address of this machine" in refused(joiner.daemon.Join, elsewhere, timeout=20)
    node_port = there.replace("2377", "2378")
    assert "join address" in refused(joiner.join, cluster.worker_token, node_port)
    assert "not part of a swarm" in refused(joiner.leave)
    assert joiner.info().state == daemon.LOCAL_NODE_STATE_INACTIVE
    assert len(manager.nodes()) == 1
    rotated = manager.tokens(rotate_worker=True)
    assert "rotated" in refused(joiner.join, cluster.worker_token, there)
    # A dead address is no reason to give up while there is another one.
    joiner.join(rotated.worker, nobody, there)
    assert "already part of a swarm" in refused(joiner.join, rotated.worker, there)
    assert "already part of a swarm" in refused(joiner.init)
    late = daemons.new().start()
    assert "can't be reached" in refused(late.join, rotated.worker, joiner.address)
    assert "not a swarm manager" in refused(joiner.nodes)
    assert "not a swarm manager" in refused(late.nodes)


def test_ports_that_are_taken_are_named_with_their_holder(daemons: Daemons) -> None:
    manager, node = daemons.new().start(), daemons.new().start()
    for port in (2377, 2378):
        with socket.create_server((node.address, port)):
            said = refused(node.init)
            assert f"{node.address}:{port}" in said
            assert f"pid {os.getpid()}" in said
            assert not node.info().node_id
    cluster = manager.init()
    with socket.create_server((node.address, 2377)):
        said = refused(node.join, cluster.manager_token, cluster.join_address)
        assert f"pid {os.getpid()}" in said
        assert len(manager.nodes()) == 1
        # A worker listens on neither port. To be a manager it needs both, and waits for them.
        node.join(cluster.worker_token, cluster.join_address)
        until(lambda: settled(manager, 1, 2))
        manager.set_role("n2", manager=True)
        until(lambda: f"pid {os.getpid()}" in node.info().error)
        assert node.info().state == daemon.LOCAL_NODE_STATE_PENDING
        assert node.info().raft_id == 0
    until(lambda: settled(manager, 2, 2))
    assert not node.info().error


def test_a_worker_leaves_is_removed_and_joins_again(daemons: Daemons) -> None:
    manager, worker = daemons.cluster(1, 1)
    tokens = manager.tokens()
    assert "not down" in refused(manager.remove_node, "n2")
    worker.leave()
    assert worker.info().state == daemon.LOCAL_NODE_STATE_INACTIVE
    until(lambda: manager.nodes()["n2"].node.status.state == NODE_STATE_DOWN)
    manager.remove_node("n2")
    worker.join(tokens.worker, tokens.join_addresses[0])
    until(lambda: settled(manager, 1, 2))
    # Removed while it runs: it says so, and gets out by `leave --force`.
    manager.remove_node("n2", force=True)
    until(lambda: "removed from the swarm" in worker.info().error)
    assert worker.info().state == daemon.LOCAL_NODE_STATE_ERROR
    worker.kill()
    worker.start()
    until(lambda: "removed from the swarm" in worker.info().error)
    worker.leave(force=True)
    worker.join(tokens.worker, tokens.join_addresses[0])
    until(lambda: settled(manager, 1, 2))


def test_a_manager_leaves_by_force_only(daemons: Daemons) -> None:
    manager = daemons.cluster(1)[0]
    assert "--force" in refused(manager.leave)
    assert manager.nodes()
    manager.leave(force=True)
    assert manager.info().state == daemon.LOCAL_NODE_STATE_INACTIVE
    again = manager.init()
    assert again.node_id == manager.info().node_id
    assert list(manager.nodes()) == ["n1"]


def test_two_nodes_may_have_one_name(daemons: Daemons) -> None:
    """As in Docker: a name that is not unique is no reference."""
    manager = daemons.new("same").start()
    twin = Daemon(daemons.folder, manager.address[:-1] + "2", "same")
    twin.state_dir, twin.socket = daemons.folder / "twin", daemons.folder / "twin.sock"
    twin.log_path = daemons.folder / "twin.log"
    daemons.all.append(twin)
    cluster = manager.init()
    twin.start().join(cluster.worker_token, cluster.join_address)
    assert "ambiguous" in refused(manager.node, "same")
    assert manager.node(twin.info().node_id).node.id == twin.info().node_id


def one_line(said: str) -> str:
    (line,) = said.strip().splitlines()
    assert line.startswith("swarmd: ")
    return line


def test_a_state_folder_that_cannot_be_used(daemons: Daemons) -> None:
    node = daemons.cluster(1)[0]
    second = daemons.new()
    second.state_dir = node.state_dir
    assert "another swarmd runs on" in one_line(second.refuses_to_start())
    second.state_dir = daemons.folder / "other"
    second.socket = node.socket
    assert "another process listens on" in one_line(second.refuses_to_start())
    assert node.info().node_id
    node.terminate()
    with socket.create_server((node.address, 2378)):
        assert f"pid {os.getpid()}" in one_line(node.refuses_to_start())
    folder = node.state_dir
    for path, said in (
        (folder / "node.json", "is damaged"),
        (folder / "certificates" / "current" / "node.key", "can't be used"),
        (folder / "certificates" / "current" / "node.crt", "can't be used"),
        (folder / "raft" / "key", "key"),
        (next((folder / "raft" / "wal").glob("*0001-*.wal")), "damaged"),
    ):
        with damaged(path):
            assert said in one_line(node.refuses_to_start())
    certificates = folder / "certificates"
    certificates.rename(folder / "away")
    assert "certificate is gone" in one_line(node.refuses_to_start())
    (folder / "away").rename(certificates)
    node.start()
    until(lambda: settled(node, 1, 1))


@contextlib.contextmanager
def damaged(path: Path) -> Iterator[None]:
    with path.open("r+b") as handle:
        head = handle.read(200)
        handle.seek(0)
        handle.write(b"#" * len(head))
    yield
    with path.open("r+b") as handle:
        handle.write(head)


def test_settings_that_cannot_be(daemons: Daemons) -> None:
    file = daemons.folder / "swarmd.toml"
    for content, said in (
        ('cpus = "many"', "cpus"),
        ("label = 'a=b'", "label"),
        ("nonsense = 1", "nonsense"),
        ("[", "swarmd.toml"),
        ("listen-addr = '1.2.3.4:nope'", "listen-addr"),
    ):
        file.write_text(content)
        process = run_swarmd("--config", str(file))
        assert process.returncode == 125
        assert said in one_line(process.stderr)
    for flags in (["--runtime", "podman"], ["--log-level", "loud"], ["--election-ticks", "1"]):
        process = run_swarmd("--state-dir", str(daemons.folder / "s"), *flags)
        assert process.returncode == 125
        assert flags[0][2:] in one_line(process.stderr)
    process = run_swarmd("--no-such-flag")
    assert process.returncode == 125
    assert "no-such-flag" in one_line(process.stderr)
    blocked = daemons.folder / "file"
    blocked.write_text("")
    process = run_swarmd("--state-dir", str(blocked / "s"))
    assert process.returncode == 1
    assert str(blocked) in one_line(process.stderr)
    process = run_swarmd("--state-dir", str(blocked))
    assert process.returncode == 1
    assert "is no folder" in one_line(process.stderr)
    long = daemons.folder / ("x" * 120)
    process = run_swarmd("--state-dir", str(daemons.folder / "s"), "--socket", str(long))
    assert process.returncode == 1
    assert "too long" in one_line(process.stderr)
    process = run_swarmd("--state-dir", str(daemons.folder / "s"), "--socket", str(blocked))
    assert process.returncode == 1
    assert "no socket" in one_line(process.stderr)
    assert blocked.exists()


def run_swarmd(*flags: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "swarm.node.main", *flags],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_node_without_a_runtime_says_so(daemons: Daemons) -> None:
    """It is a manager all the same; its agent is tried again until one works."""
    os.environ["DOCKER_HOST"] = f"unix://{daemons.folder}/none.sock"
    try:
        node = daemons.new(runtime="docker").start()
    finally:
        del os.environ["DOCKER_HOST"]
    node.init()
    until(lambda: "docker" in node.info().error)
    info = node.info()
    assert "docker" in info.runtime_reason
    assert info.state == daemon.LOCAL_NODE_STATE_ACTIVE
    assert node.nodes()["n1"].node.status.state != 2
    code, seconds = node.terminate()
    assert code == 0
    assert seconds < 3
    assert node.log().count("the agent can't work") == 1


def test_a_join_that_was_cut_off_is_the_same_node_when_asked_again(daemons: Daemons) -> None:
    manager, node = daemons.new().start(), daemons.new().start()
    cluster = manager.init()
    node.join(cluster.worker_token, cluster.join_address)
    node_id = node.info().node_id
    node.kill()
    # As if it had died before it wrote down that it is a member.
    (node.state_dir / "node.json").unlink()
    node.start()
    assert not node.info().node_id
    assert "worker's token" in refused(node.join, cluster.manager_token, cluster.join_address)
    node.join(cluster.worker_token, cluster.join_address)
    assert node.info().node_id == node_id
    assert node.info().role == NODE_ROLE_WORKER
    until(lambda: settled(manager, 1, 2))
    manager.set_role(node_id, manager=True)
    until(lambda: settled(manager, 2, 2))
    assert node.info().role == NODE_ROLE_MANAGER
    assert json.loads((node.state_dir / "node.json").read_text())["raft_id"]


@pytest.mark.parametrize("role", ["init", "worker", "manager"])
def test_killed_at_any_moment_it_is_in_no_swarm_or_in_it_whole(daemons: Daemons, role: str) -> None:
    """Delays go up through what an init or a join takes."""
    manager = daemons.new().start()
    cluster = manager.init()
    until(lambda: settled(manager, 1, 1))
    token = cluster.worker_token if role == "worker" else cluster.manager_token
    node = daemons.new().start()
    for delay_ms in {"init": (2, 10, 30, 100), "worker": (2, 8, 30), "manager": (4, 15, 60)}[role]:
        kill_after(node, role, token, cluster.join_address, delay_ms / 1e3)
        node.start()
        if not node.info().node_id:
            if role == "init":
                node.init()
            else:
                node.join(token, cluster.join_address)
        if role == "init":
            until(lambda: settled(node, 1, 1))
            node.leave(force=True)
            continue
        managers = 2 if role == "manager" else 1
        until(lambda: settled(manager, managers, 2), 30)  # noqa: B023
        if role == "manager":
            manager.set_role("n2", manager=False)
            until(lambda: node.info().role == NODE_ROLE_WORKER)
        node.leave()
        until(lambda: manager.nodes()["n2"].node.status.state == NODE_STATE_DOWN)
        manager.remove_node(manager.nodes()["n2"].node.id)
        assert len(manager.nodes()) == 1


def kill_after(node: Daemon, role: str, token: str, address: str, delay_s: float) -> None:
    """SIGKILL so long after the request was sent."""
    stub = node.daemon
    if role == "init":
        call = stub.Init.future(daemon.InitRequest())
    else:
        call = stub.Join.future(daemon.JoinRequest(token=token, remote_addresses=[address]))
    try:
        call.result(timeout=delay_s)
    except (grpc.FutureTimeoutError, grpc.RpcError):
        pass
    assert node.process is not None
    node.process.send_signal(signal.SIGKILL)
    node.kill()
