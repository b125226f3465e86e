"""Stories of an agent and its managers: finding one, keeping it, losing it."""

from __future__ import annotations

from itertools import pairwise

from swarm.api.v1.dispatcher_pb2 import StatusAck
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER, Node, NodeDescription
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev


def kinds(world):
    return [message.WhichOneof("kind") for message in world.manager.heard]


def test_the_hello_says_what_was_taken_last(world):
    assert kinds(world) == ["hello"]
    world.assign("t1")
    world.pass_time(1)
    world.give(ev.SessionClosed(world.manager.session, "reset"))
    world.pass_time(1)
    hellos = [m.hello for m in world.manager.heard if m.HasField("hello")]
    assert [(h.incarnation, h.revision) for h in hellos] == [(0, 0), (1, 2)]
    assert hellos[0].address == "10.0.0.1"
    assert hellos[0].description.hostname == "host1"


def test_the_heart_beats_with_the_period_the_manager_gave(world):
    world.pass_time(10)
    assert 9 <= kinds(world).count("heartbeat") <= 12
    world.send_info(heartbeat_period_ns=5_000_000_000)
    before = kinds(world).count("heartbeat")
    world.pass_time(20)
    assert 3 <= kinds(world).count("heartbeat") - before <= 6


def test_attempts_wait_longer_and_longer_up_to_a_second(new_world):
    world = new_world(3)
    world.manager_up = False
    world.managers = ("m1:1", "m2:1", "m3:1")
    times = []
    world.start()
    seen = 0
    while len(times) < 12:
        world.settle()
        connects = world.of(do.Connect)
        times += [world.now] * (len(connects) - seen)
        seen = len(connects)
        world.now = world.core.next_wakeup()
        world.give(ev.Wake())
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert 0.05 <= gaps[0] <= 0.15
    assert all(0.5 <= gap <= 1.5 for gap in gaps[4:])
    addresses = [c.address for c in world.of(do.Connect)]
    assert {*addresses[:3]} == {*addresses[3:6]} == {"m1:1", "m2:1", "m3:1"}


def test_a_manager_that_does_not_answer_is_left(world):
    world.held = {do.Send}
    world.give(ev.SessionClosed(world.manager.session, "reset"))
    world.pass_time(1)
    session = world.of(do.Connect)[-1].session
    world.pass_time(6)
    assert do.Disconnect(session) in world.done


def test_a_manager_that_falls_silent_is_left(world):
    world.pass_time(3)
    world.held = {do.Send}
    session = world.manager.session
    world.pass_time(1.5)
    assert do.Disconnect(session) not in world.done
    world.pass_time(2)
    # Well before the five periods after which this node would be taken for dead.
    assert do.Disconnect(session) in world.done
    assert any("silent" in down.reason for down in world.of(do.SessionDown))


def test_the_manager_that_was_lost_is_tried_last(new_world):
    for seed in range(8):
        world = new_world(seed)
        world.managers = ("m1:1", "m2:1", "m3:1")
        world.start()
        world.assign("t1")
        lost = world.of(do.Connect)[-1].address
        world.manager_up = False
        before = len(world.of(do.Connect))
        world.give(ev.SessionClosed(world.manager.session, "reset"))
        world.pass_time(4)
        after = [connect.address for connect in world.of(do.Connect)][before:]
        assert {*after[:2]} == {"m1:1", "m2:1", "m3:1"} - {lost}


def test_an_agent_that_was_late_itself_blames_nobody(world):
    world.pass_time(3)
    world.held = {do.Send}
    session = world.manager.session
    world.now += 60
    world.give(ev.Wake())
    assert do.Disconnect(session) not in world.done


def test_statuses_are_kept_until_acknowledged_and_only_the_latest(world):
    world.manager.acknowledges = False
    world.assign("t1")
    world.pass_time(1)
    world.manager.heard.clear()
    world.give(ev.SessionClosed(world.manager.session, "reset"))
    world.pass_time(2)
    reports = [u for m in world.manager.heard for u in m.statuses.updates]
    assert [(u.task_id, u.status.state) for u in reports] == [("t1", TASK_STATE_RUNNING)]
    world.receive(acknowledged=StatusAck(updates=reports))
    world.manager.heard.clear()
    world.manager.tasks["t1"].status.CopyFrom(reports[0].status)
    world.give(ev.SessionClosed(world.manager.session, "reset"))
    world.pass_time(2)
    assert not [u for m in world.manager.heard for u in m.statuses.updates]


def test_a_manager_that_lost_what_it_had_acknowledged_is_told_again(world):
    world.assign("t1")
    world.pass_time(1)
    world.manager.heard.clear()
    world.manager.tasks["t1"].status.state = 192
    world.manager.revision += 1
    world.send_complete()
    world.pass_time(1)
    assert [u.task_id for m in world.manager.heard for u in m.statuses.updates] == ["t1"]


def test_statuses_travel_in_batches(world):
    for n in range(200):
        world.assign(f"t{n}")
    world.pass_time(2)
    assert kinds(world).count("statuses") < 60


def test_a_role_that_is_not_the_certificates_is_told_once(world):
    for _ in range(3):
        world.send_info(node=Node(role=NODE_ROLE_MANAGER))
    assert world.of(do.RoleChanged) == [do.RoleChanged(NODE_ROLE_MANAGER)]
    world.give(ev.CertificateRenewed(NODE_ROLE_MANAGER, b"root"))
    world.send_info(node=Node(role=NODE_ROLE_MANAGER))
    assert len(world.of(do.RoleChanged)) == 1
    world.settle()
    world.send_info(node=Node(role=NODE_ROLE_WORKER))
    assert world.of(do.RoleChanged)[-1] == do.RoleChanged(NODE_ROLE_WORKER)


def test_a_renewed_certificate_means_a_new_session_at_once(world):
    session = world.manager.session
    world.give(ev.CertificateRenewed(NODE_ROLE_WORKER, b"root"))
    assert do.Disconnect(session) in world.done
    world.settle()
    assert world.manager.session == session + 1


def test_another_root_certificate_is_told(world):
    world.send_info(root_certificate_pem=b"new root")
    world.send_info(root_certificate_pem=b"new root")
    assert world.of(do.RootChanged) == [do.RootChanged(b"new root")]


def test_managers_are_remembered(world):
    world.managers = ("m5:1", "m6:1")
    world.send_info()
    world.settle()
    world.crash()
    world.managers = ()
    world.start()
    assert world.of(do.Connect)[-1].address in ("m5:1", "m6:1")


def test_managers_that_are_given_are_tried_at_once(new_world):
    world = new_world(1)
    world.managers = ()
    world.start()
    world.pass_time(60)
    assert not world.of(do.Connect)
    world.give(ev.ManagersGiven(("m9:1",)))
    assert [c.address for c in world.of(do.Connect)] == ["m9:1"]


def test_a_new_description_is_told(world):
    world.give(ev.Described(NodeDescription(hostname="other")))
    world.give(ev.Described(NodeDescription(hostname="other")))
    world.settle()
    assert [m.description.hostname for m in world.manager.heard if m.HasField("description")] == [
        "other"
    ]


def test_a_new_description_is_told_though_it_came_before_the_managers_answer(new_world):
    world = new_world(1)
    world.start()
    while not world.of(do.Connect):
        world.step()
    assert not world.of(do.SessionUp)
    world.give(ev.Described(NodeDescription(hostname="other")))
    world.settle()
    descriptions = [m.description for m in world.manager.heard if m.HasField("description")]
    assert [description.hostname for description in descriptions] == ["other"]


def test_goodbye_is_the_last_word(world):
    world.give(ev.Goodbye(), ev.ManagersGiven(("m1:2378",)))
    world.pass_time(10)
    assert kinds(world)[-1] == "goodbye"
    assert len(world.of(do.Connect)) == 1
