"""Promote, demote, and what goes with it: Raft membership, certificates, tasks that stay."""

import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from daemons import Daemon, Daemons, leader_of, settled, until

from swarm.api.v1 import daemon_pb2 as daemon
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER
from swarm.security.certificates import validity_of


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    running = Daemons()
    yield running
    running.close()


def refused(call, *args: object, **fields: object) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **fields)
    said = caught.value.details()  # type: ignore[attr-defined]
    assert said
    assert "\n" not in said
    return said


def is_worker(node: Daemon) -> bool:
    info = node.info()
    return info.role == NODE_ROLE_WORKER and not info.raft_id and not info.error


def test_promoted_demoted_and_promoted_again(daemons: Daemons) -> None:
    first, node, other = daemons.cluster(1, 2)
    assert "last manager" in refused(first.set_role, "n1", manager=False)
    certificate = node.state_dir / "certificates" / "node.crt"
    before = certificate.read_bytes()
    raft_ids: set[int] = set()
    for _ in range(2):
        first.set_role("n2", manager=True)
        until(lambda: settled(first, 2, 3))
        assert node.info().role == NODE_ROLE_MANAGER
        raft_ids.add(node.info().raft_id)
        # A follower serves the control API, whole.
        assert set(node.nodes()) == {"n1", "n2", "n3"}
        node.create_service(f"s{len(raft_ids)}", 1)
        first.set_role("n2", manager=False)
        until(lambda: is_worker(node))
        until(lambda: not (node.state_dir / "raft").exists())
        until(lambda: settled(first, 1, 3))
    assert len(raft_ids) == 2
    assert certificate.read_bytes() != before
    until(lambda: len(first.running()) == 2)
    # A quorum that does not hold without it: with n2 as a manager that is dead, n1 stays.
    first.set_role("n2", manager=True)
    first.set_role("n3", manager=True)
    until(lambda: settled(first, 3, 3))
    node.kill()
    until(lambda: first.nodes()["n2"].manager.reachability == 1)
    assert "loss of quorum" in refused(other.set_role, "n1", manager=False)
    # The dead one may go: what is left is a quorum.
    first.set_role("n2", manager=False)
    until(lambda: not first.nodes()["n2"].HasField("manager"))
    node.start()
    until(lambda: is_worker(node))
    until(lambda: settled(first, 2, 3))


def test_the_leader_is_demoted_and_its_tasks_stay(daemons: Daemons) -> None:
    managers = daemons.cluster(3)
    leader = leader_of(managers)
    leader.create_service("web", 6)
    until(lambda: len(leader.running()) == 6)
    tasks, processes = leader.running(), leader.task_processes()
    assert processes
    leader.set_role(leader.name, manager=False)
    others = [one for one in managers if one is not leader]
    until(lambda: is_worker(leader))
    until(lambda: settled(others[0], 2, 3))
    assert leader_of(others) in others
    assert others[0].running() == tasks
    assert leader.task_processes() == processes
    # And again the next one, from three to one.
    leader = leader_of(others)
    leader.set_role(leader.name, manager=False)
    (last,) = (one for one in others if one is not leader)
    until(lambda: is_worker(leader))
    until(lambda: settled(last, 1, 3))
    assert last.running() == tasks
    assert "last manager" in refused(last.set_role, last.name, manager=False)


def test_a_manager_that_lost_its_log_stays_out_until_it_has_a_new_id(daemons: Daemons) -> None:
    managers = daemons.cluster(3)
    lost = next(one for one in managers if one is not leader_of(managers))
    rest = [one for one in managers if one is not lost]
    old = lost.info().raft_id
    lost.kill()
    shutil.rmtree(lost.state_dir / "raft")
    lost.start()
    info = lost.info()
    assert info.state == daemon.LOCAL_NODE_STATE_ERROR
    assert "log is gone" in info.error
    assert f"demote {lost.name}" in info.error
    assert not info.raft_id
    assert not (lost.state_dir / "raft").exists()
    until(lambda: rest[0].nodes()[lost.name].manager.reachability == 1)
    # What it said is what helps.
    rest[0].set_role(lost.name, manager=False)
    until(lambda: is_worker(lost))
    rest[0].set_role(lost.name, manager=True)
    until(lambda: settled(rest[0], 3, 3))
    assert lost.info().raft_id not in (0, old)


def test_renewed_certificates_are_used_and_streams_go_on(
    daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon whose rule says "now" renews every second."""
    rule = daemons.folder / "rule"
    rule.mkdir()
    (rule / "sitecustomize.py").write_text(
        "import datetime, importlib.abc, importlib.machinery, sys\n"
        "class Patch(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name != 'swarm.node.node':\n"
        "            return None\n"
        "        sys.meta_path.remove(self)\n"
        "        import swarm.security.certificates as certificates\n"
        "        certificates.renewal_time = lambda *_: datetime.datetime.now(datetime.UTC)\n"
        "        return None\n"
        "sys.meta_path.insert(0, Patch())\n"
    )
    managers = daemons.cluster(2, 1)
    first, second, worker = managers
    first.create_service("web", 3)
    until(lambda: len(first.running()) == 3)
    tasks = first.running()
    monkeypatch.setenv("PYTHONPATH", str(rule))
    started = datetime.now(UTC)
    for node in (second, worker):
        node.terminate()
        node.start()
    certificates = [n.state_dir / "certificates" / "node.crt" for n in (second, worker)]
    seen = {path: {path.read_bytes()} for path in certificates}

    def renewed_three_times() -> bool:
        for path, contents in seen.items():
            contents.add(path.read_bytes())
        return all(len(contents) > 3 for contents in seen.values())

    until(renewed_three_times)
    assert validity_of(certificates[0].read_bytes())[1] > started + timedelta(days=80)
    until(lambda: settled(first, 2, 3))
    second.create_service(f"web-{secrets.token_hex(3)}", 1)
    until(lambda: len(first.running()) == 4)
    assert tasks <= first.running()
