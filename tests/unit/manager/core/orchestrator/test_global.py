"""Global services: a task on every node that takes it."""

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_AVAILABILITY_DRAIN,
    NODE_AVAILABILITY_PAUSE,
)
from swarm.api.v1.service_pb2 import Placement, ResourceRequirements, RestartPolicy
from swarm.api.v1.task_pb2 import TASK_STATE_FAILED, TASK_STATE_RUNNING
from swarm.api.v1.types_pb2 import Resources


def test_every_node_gets_a_task_and_so_does_one_that_joins(cluster):
    cluster.create_service("agent", cluster.spec(None))
    assert cluster.spread("agent") == {"a": 1, "b": 1, "c": 1}
    assert {task.slot for task in cluster.tasks("agent")} == {0}
    cluster.add_node("d")
    assert cluster.spread("agent") == {"a": 1, "b": 1, "c": 1, "d": 1}
    cluster.obey()
    assert cluster.run() == 0


def test_constraints_choose_the_nodes(cluster):
    cluster.change_node("b", lambda node: node.spec.annotations.labels.update(zone="north"))
    placement = Placement(constraints=["node.labels.zone==north"])
    cluster.create_service("agent", cluster.spec(None, placement=placement))
    assert cluster.spread("agent") == {"b": 1}
    cluster.change_node("c", lambda node: node.spec.annotations.labels.update(zone="north"))
    cluster.change_node("b", lambda node: node.spec.annotations.labels.clear())
    assert cluster.spread("agent") == {"c": 1}


def test_drain_stops_and_activity_starts_again(cluster):
    cluster.create_service("agent", cluster.spec(None))
    cluster.obey()
    cluster.set_availability("a", NODE_AVAILABILITY_DRAIN)
    cluster.obey()
    assert cluster.spread("agent") == {"b": 1, "c": 1}
    cluster.set_availability("a", NODE_AVAILABILITY_ACTIVE)
    cluster.obey()
    assert len(cluster.running("agent")) == 3


def test_a_paused_node_keeps_its_task_but_starts_none(cluster):
    cluster.create_service("agent", cluster.spec(None))
    cluster.obey()
    cluster.set_availability("a", NODE_AVAILABILITY_PAUSE)
    assert cluster.spread("agent") == {"a": 1, "b": 1, "c": 1}
    (task,) = [t for t in cluster.live("agent") if t.node_id == "a"]
    cluster.report(task, TASK_STATE_FAILED)
    cluster.pass_time(6)
    assert cluster.spread("agent") == {"b": 1, "c": 1}
    cluster.set_availability("a", NODE_AVAILABILITY_ACTIVE)
    cluster.obey()
    assert len(cluster.running("agent")) == 3


def test_a_node_that_is_down_keeps_its_task(cluster):
    cluster.create_service("agent", cluster.spec(None))
    cluster.obey()
    before = {task.id for task in cluster.live("agent")}
    cluster.say_goodbye("a")
    cluster.obey()
    cluster.revive("a")
    cluster.obey()
    assert {task.id for task in cluster.running("agent")} == before


def test_a_removed_nodes_slot_goes_with_it(cluster):
    cluster.create_service("agent", cluster.spec(None))
    cluster.obey()
    cluster.say_goodbye("a")
    cluster.remove_node("a")
    cluster.obey()
    assert cluster.spread("agent") == {"b": 1, "c": 1}
    assert cluster.run() == 0


def test_restarts_follow_the_policy(cluster):
    policy = RestartPolicy(max_attempts=1, delay_ns=0)
    cluster.create_service("agent", cluster.spec(None, restart=policy))
    cluster.obey()
    for left in (3, 2):
        (task,) = [t for t in cluster.running("agent") if t.node_id == "a"]
        cluster.report(task, TASK_STATE_FAILED)
        cluster.obey()
        assert len(cluster.running("agent")) == left
    assert cluster.run() == 0


def test_it_waits_for_room_on_its_own_node(cluster):
    whole = ResourceRequirements(reservations=Resources(nano_cpus=4_000_000_000))
    cluster.create_service("big", cluster.spec(1, resources=whole))
    (big,) = cluster.live("big")
    cluster.create_service("agent", cluster.spec(None, resources=whole))
    states = {t.node_id: t.status.state for t in cluster.live("agent")}
    assert states[big.node_id] < TASK_STATE_RUNNING
    assert cluster.pending("agent") == "no suitable node (insufficient resources on 1 node)"
    cluster.obey()
    cluster.remove_service("big")
    cluster.obey()
    assert len(cluster.running("agent")) == 3
    assert cluster.pending("agent") == ""
