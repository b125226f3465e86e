"""A swarm that lost its quorum or all of its machines: made anew from a log or from a backup."""

import asyncio
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from daemons import Daemon, Daemons, leader_of, settled, until

from swarm.api.v1 import control_pb2 as control
from swarm.api.v1 import daemon_pb2 as daemon
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.node_pb2 import NODE_STATE_DOWN, NODE_STATE_READY
from swarm.security.node_keys import NodeBundle
from swarm.security.tls import manager_channel

_CERTIFICATE_FILES = ("node.key", "node.crt", "root.crt")
PASSPHRASE = "correct horse battery"


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    running = Daemons()
    yield running
    running.close()


def swarmctl(node: Daemon, *words: str, fails: bool = False) -> str:
    """Its output; of a command that has to fail, its one line."""
    done = subprocess.run(
        [sys.executable, "-m", "swarm.cli", "-H", f"unix://{node.socket}", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    said = done.stderr.strip()
    assert "Traceback" not in said
    if fails:
        assert done.returncode != 0, done.stdout
        assert said
        assert "\n" not in said, said
        return said
    assert done.returncode == 0, said
    return done.stdout


def passphrase_file(daemons: Daemons, text: str = PASSPHRASE) -> str:
    path = daemons.folder / f"passphrase-{secrets.token_hex(4)}"
    path.write_text(text + "\n")
    return str(path)


def processes(nodes: list[Daemon]) -> dict[str, list[int]]:
    return {task: pids for node in nodes for task, pids in node.task_processes().items()}


def states(manager: Daemon) -> dict[str, int]:
    return {name: view.node.status.state for name, view in manager.nodes().items()}


def test_a_manager_that_lost_its_quorum_goes_on_alone_and_others_join_again(
    daemons: Daemons,
) -> None:
    *managers, worker = daemons.cluster(3, 1)
    survivor = next(one for one in managers if one is not leader_of(managers))
    lost = [one for one in managers if one is not survivor]
    service = survivor.create_service("web", 8)
    until(lambda: len(survivor.running()) == 8)
    until(lambda: worker.task_processes())
    assert "has its quorum" in swarmctl(survivor, "init", "--force-new-cluster", fails=True)
    assert "worker" in swarmctl(worker, "init", "--force-new-cluster", fails=True)
    before, kept = survivor.info(), worker.task_processes()
    for one in lost:
        one.kill()
    until(lambda: not survivor.info().leader_raft_id)
    assert "does not go with" in swarmctl(
        survivor, "init", "--force-new-cluster", "--task-history-limit", "3", fails=True
    )

    said = swarmctl(survivor, "init", "--force-new-cluster")

    assert "is now a manager" in said
    assert "swarm join --token SWMTKN-1-" in said
    after = survivor.info()
    assert after.cluster_id == before.cluster_id
    assert after.node_id == before.node_id
    assert after.raft_id not in (0, before.raft_id)
    assert after.leader_raft_id == after.raft_id
    # The lost ones are known still, as nodes that are down; the worker has come back by itself,
    # and its containers have gone on all the while.
    until(lambda: states(survivor)[worker.name] == NODE_STATE_READY)
    until(lambda: all(states(survivor)[one.name] == NODE_STATE_DOWN for one in lost))
    until(lambda: len(survivor.running()) == 8)
    assert worker.task_processes() == worker.task_processes() | kept
    assert [n for n, v in survivor.nodes().items() if v.HasField("manager")] == [survivor.name]
    assert any(task.service_id == service for task in survivor.tasks())
    survivor.create_service("new", 1)

    # Two of three of the old group are its quorum. They are told before they elect anybody.
    for one in lost:
        one.launch()
    for one in lost:
        one.ready()
    for one in lost:
        until(lambda one=one: one.info().state == daemon.LOCAL_NODE_STATE_ERROR)
        assert not one.info().leader_raft_id
        assert "made anew without this manager" in one.info().error
        assert "leave --force" in one.info().error
        assert (one.state_dir / "raft" / "wal").is_dir(), "its log may be wanted yet"
        assert "not a swarm manager" in swarmctl(one, "service", "ls", fails=True)
    assert survivor.info().leader_raft_id == after.raft_id
    # It is so after a restart too, without anybody who tells.
    lost[0].terminate()
    lost[0].start()
    assert "made anew" in lost[0].info().error

    # What they were told is what helps; the other way keeps the node's id.
    lost[0].leave(force=True)
    lost[0].join(survivor.tokens().manager, f"{survivor.address}:2377")
    survivor.set_role(lost[1].name, manager=False)
    until(lambda: not lost[1].info().error)
    survivor.set_role(lost[1].name, manager=True)
    until(lambda: sum(v.HasField("manager") for v in survivor.nodes().values()) == 3)
    until(lambda: len({one.info().leader_raft_id for one in managers} - {0}) == 1)
    leader = leader_of(managers)
    leader.create_service("last", 1)
    until(lambda: len(survivor.running()) == 10)
    until(lambda: set(processes([*managers, worker])) == survivor.running())


def test_a_new_cluster_that_was_cut_off_is_finished_by_the_next_start(daemons: Daemons) -> None:
    managers = daemons.cluster(2)
    survivor, other = managers
    survivor.create_service("web", 2)
    until(lambda: len(survivor.running()) == 2)
    other.stop_hard()
    old = survivor.info().raft_id
    survivor.kill()
    # As a kill leaves it between the intent and the log.
    path = survivor.state_dir / "node.json"
    text = path.read_text()
    assert '"new_raft_id": 0' in text
    path.write_text(text.replace('"new_raft_id": 0', '"new_raft_id": 77'))
    survivor.start()
    assert survivor.info().raft_id == 77 != old
    until(lambda: survivor.info().leader_raft_id == 77)
    # And as it leaves it after the log, before node.json: nothing is done twice.
    survivor.kill()
    text = path.read_text()
    path.write_text(text.replace('"new_raft_id": 0', '"new_raft_id": 77'))
    snapshots = sorted((survivor.state_dir / "raft" / "snapshots").glob("*.snap"))
    survivor.start()
    assert sorted((survivor.state_dir / "raft" / "snapshots").glob("*.snap")) == snapshots
    until(lambda: survivor.info().leader_raft_id == 77)
    until(lambda: len(survivor.running()) == 2)
    # Alone, it may do it again: for another address.
    swarmctl(survivor, "init", "--force-new-cluster", "--advertise-addr", other.address)
    assert survivor.info().node_address == other.address
    assert survivor.tokens().join_addresses == [f"{other.address}:2377"]


def test_a_backup_is_restored_as_a_new_cluster_and_old_nodes_come_back(daemons: Daemons) -> None:
    manager, follower, worker = daemons.cluster(2, 1)
    manager.create_service("web", 6)
    until(lambda: len(manager.running()) == 6)
    until(lambda: worker.task_processes())
    tokens = manager.tokens()
    secret = passphrase_file(daemons)
    backup = daemons.folder / "swarm.backup"
    by = next(one for one in (manager, follower) if one is not leader_of([manager, follower]))
    said = swarmctl(by, "cluster", "backup", "--passphrase-file", secret, str(backup))
    assert str(backup) in said
    assert backup.stat().st_mode & 0o777 == 0o600
    content = backup.read_bytes()
    assert b"PRIVATE KEY" not in content
    assert b"SWMTKN" not in content
    assert not list(daemons.folder.glob(".*.tmp"))
    assert "12 or more" in swarmctl(
        by, "cluster", "backup", "--passphrase-file", passphrase_file(daemons, "short"),
        str(backup), fails=True,
    )  # fmt: skip
    assert backup.read_bytes() == content
    # The old swarm goes on for a while: what came later is not in the backup.
    later = manager.create_service("later", 2)
    until(lambda: len(manager.running()) == 8)
    doomed = {task.id for task in manager.tasks() if task.service_id == later}
    old = manager.info()
    for one in (manager, follower):
        one.stop_hard()
    shutil.rmtree(manager.state_dir)

    restored = Daemon(daemons.folder, manager.address, "restored")
    daemons.all.append(restored)
    restored.start()
    wrong = passphrase_file(daemons, PASSPHRASE + "!")
    assert "passphrase is not" in swarmctl(
        restored, "cluster", "restore", "--passphrase-file", wrong, str(backup), fails=True
    )
    damaged = daemons.folder / "damaged"
    damages = {
        content[: len(content) - 1]: "cut short",
        content[:60] + bytes([content[60] ^ 1]) + content[61:]: "changed or moved",
        content[:8] + b"\x07" + content[9:]: "newer swarmd",
        b"PK" + content: "no backup",
        content + b"x": "after its end",
    }
    for data, word in damages.items():
        damaged.write_bytes(data)
        said = swarmctl(
            restored, "cluster", "restore", "--passphrase-file", secret, str(damaged), fails=True
        )
        assert word in said
        assert restored.info().state == daemon.LOCAL_NODE_STATE_INACTIVE
        assert not (restored.state_dir / "raft").exists()

    said = swarmctl(restored, "cluster", "restore", "--passphrase-file", secret, str(backup))

    assert "1 services" in said
    assert "already part of a swarm" in swarmctl(
        restored, "cluster", "restore", "--passphrase-file", secret, str(backup), fails=True
    )
    info = restored.info()
    assert info.cluster_id == old.cluster_id
    assert info.node_id not in (old.node_id, "")
    assert info.raft_id not in (old.raft_id, 0)
    assert restored.tokens().worker == tokens.worker
    assert restored.tokens().manager == tokens.manager
    # The worker has seen later revisions of the old incarnation. It comes back, its tasks go on,
    # those that the backup knows nothing of end, and none runs twice.
    until(lambda: states(restored)[worker.name] == NODE_STATE_READY, 30)
    until(lambda: states(restored)[manager.name] == NODE_STATE_DOWN, 30)
    until(lambda: len(restored.running()) == 6, 30)
    until(lambda: set(processes([restored, worker])) == restored.running(), 30)
    assert not doomed & set(worker.task_processes())
    # A manager of the old swarm that comes back is of the past.
    follower.start()
    until(lambda: "made anew without this manager" in follower.info().error)
    restored.create_service("more", 1)
    until(lambda: len(restored.running()) == 7)
    # The same tokens, the same root: a new node joins as ever.
    fresh = daemons.new("fresh")
    fresh.start()
    fresh.join(tokens.worker, f"{restored.address}:2377")
    until(lambda: states(restored)["fresh"] == NODE_STATE_READY)


def test_a_backup_goes_to_stdout_and_is_for_users_alone(daemons: Daemons) -> None:
    (manager,) = daemons.cluster(1)
    secret = passphrase_file(daemons)
    command = [sys.executable, "-m", "swarm.cli", "-H", f"unix://{manager.socket}"]
    done = subprocess.run(
        [*command, "cluster", "backup", "--passphrase-file", secret, "-"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(b"SWARMBAK\x01")
    assert not done.stderr
    folder = Path(daemons.folder) / "nowhere" / "b"
    assert "can't be written" in swarmctl(
        manager, "cluster", "backup", "--passphrase-file", secret, str(folder), fails=True
    )
    assert "no terminal" in swarmctl(manager, "cluster", "backup", str(folder), fails=True)


def test_a_damaged_log_is_refused_with_a_way_out_that_works(daemons: Daemons) -> None:
    managers = daemons.cluster(3)
    damaged = next(one for one in managers if one is not leader_of(managers))
    rest = [one for one in managers if one is not damaged]
    old = damaged.info().raft_id
    damaged.kill()
    log = max((damaged.state_dir / "raft" / "wal").glob("*.wal"))
    data = bytearray(log.read_bytes())
    data[len(data.rstrip(b"\0")) // 2] ^= 1
    log.write_bytes(data)
    said = damaged.refuses_to_start()
    assert f"{log} is damaged at byte " in said
    for way in ("node demote", "--force-new-cluster", "cluster restore"):
        assert way in said
    (damaged.state_dir / "raft").rename(damaged.state_dir / "raft.damaged")
    damaged.start()
    rest[0].set_role(damaged.name, manager=False)
    until(lambda: not damaged.info().error)
    rest[0].set_role(damaged.name, manager=True)
    until(lambda: settled(rest[0], 3, 3))
    assert damaged.info().raft_id not in (0, old)


def test_the_backup_method_is_for_users_and_not_for_nodes(daemons: Daemons) -> None:
    """A worker's and a manager's certificate are both refused, at the method."""
    manager, worker = daemons.cluster(1, 1)
    for node in (manager, worker):
        folder = node.state_dir / "certificates"
        bundle = NodeBundle(*((folder / name).read_bytes() for name in _CERTIFICATE_FILES))

        async def backup(bundle: NodeBundle = bundle) -> None:
            async with manager_channel(f"{manager.address}:2378", bundle) as channel:
                async for _ in ControlStub(channel).Backup(
                    control.BackupRequest(passphrase=PASSPHRASE), timeout=10
                ):
                    raise AssertionError("it was answered")

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            asyncio.run(backup())
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_disk_from_the_past_brings_no_removed_member_back(daemons: Daemons) -> None:
    """As after a machine's snapshot was rolled back: node.json and the log are an earlier
    member's, which was removed since."""
    managers = daemons.cluster(3)
    node = next(one for one in managers if one is not leader_of(managers))
    rest = [one for one in managers if one is not node]
    old = node.info().raft_id
    node.terminate()
    past = daemons.folder / "past"
    past.mkdir()
    shutil.copy(node.state_dir / "node.json", past)
    shutil.copytree(node.state_dir / "raft", past / "raft")
    node.start()
    rest[0].set_role(node.name, manager=False)
    until(lambda: not node.info().raft_id)
    rest[0].set_role(node.name, manager=True)
    until(lambda: settled(rest[0], 3, 3))
    newer = node.info().raft_id
    assert newer not in (0, old)

    node.terminate()
    shutil.copy(past / "node.json", node.state_dir)
    shutil.rmtree(node.state_dir / "raft")
    shutil.copytree(past / "raft", node.state_dir / "raft")
    node.start()

    until(lambda: node.info().raft_id not in (0, old, newer), 30)
    assert "this manager was removed from the Raft group" in node.log()
    until(lambda: settled(rest[0], 3, 3), 30)
    leader = leader_of(managers)
    leader.create_service("web", 1)
    until(lambda: leader.running())


def test_a_backup_that_finds_no_room_leaves_the_older_one(daemons: Daemons) -> None:
    """A file size limit stands for a full disk: the same error to who writes."""
    (manager,) = daemons.cluster(1)
    secret = passphrase_file(daemons)
    target = daemons.folder / "swarm.backup"
    target.write_bytes(b"the older one")
    command = [sys.executable, "-m", "swarm.cli", "-H", f"unix://{manager.socket}", "cluster"]
    command += ["backup", "--passphrase-file", secret, str(target)]
    done = subprocess.run(
        ["prlimit", "--fsize=1000", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "can't be written, and is what it was before" in done.stderr
    assert done.stderr.count("\n") == 1
    assert target.read_bytes() == b"the older one"
    assert not list(daemons.folder.glob(".*.tmp"))
