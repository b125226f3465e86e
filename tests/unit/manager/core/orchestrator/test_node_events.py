"""What happens to tasks when their node goes down, is drained, relabelled or removed."""

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_AVAILABILITY_DRAIN,
    NODE_AVAILABILITY_PAUSE,
    NODE_STATE_DOWN,
)
from swarm.api.v1.service_pb2 import Placement, RestartPolicy
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ORPHANED,
    TASK_STATE_READY,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
)
from swarm.manager.core.brain import BrainOutput


def on(cluster, service, node):
    return [task for task in cluster.tasks(service) if task.node_id == node]


def test_tasks_of_a_node_that_is_down_are_replaced_at_once(cluster):
    cluster.create_service("web", cluster.spec(replicas=6))
    cluster.obey()
    cluster.silent.add("a")
    cluster.pass_time(7)
    assert cluster.store.node("a").status.state == NODE_STATE_DOWN
    assert cluster.spread("web") == {"b": 3, "c": 3}
    assert len(cluster.running("web")) == 6
    assert {t.desired_state for t in on(cluster, "web", "a")} == {TASK_STATE_SHUTDOWN}


def test_a_node_that_comes_back_stops_what_was_replaced(cluster):
    cluster.create_service("web", cluster.spec(replicas=3))
    cluster.obey()
    cluster.say_goodbye("a")
    cluster.obey()
    cluster.revive("a")
    cluster.obey()
    assert {t.status.state for t in on(cluster, "web", "a")} == {TASK_STATE_SHUTDOWN}
    assert cluster.spread("web") in ({"b": 2, "c": 1}, {"b": 1, "c": 2})
    assert cluster.run() == 0


def test_no_restart_policy_keeps_a_lost_task_from_being_replaced(cluster):
    """It did not end: its node did."""
    cluster.create_service("web", cluster.spec(replicas=3, restart=RestartPolicy(condition=2)))
    cluster.obey()
    cluster.say_goodbye("a")
    cluster.obey()
    assert len(cluster.running("web")) == 3


def test_drain_evicts_and_waits_for_the_old_task_to_stop(cluster):
    cluster.create_service("web", cluster.spec(replicas=3))
    cluster.obey()
    cluster.set_availability("a", NODE_AVAILABILITY_DRAIN)
    (old,) = on(cluster, "web", "a")
    new = next(t for t in cluster.live("web") if t.slot == old.slot)
    assert old.desired_state == TASK_STATE_SHUTDOWN
    assert (new.desired_state, new.start_after_ns) == (TASK_STATE_READY, 0)
    cluster.obey()
    assert len(cluster.running("web")) == 3
    assert "a" not in cluster.spread("web")


def test_a_replacement_waits_a_minute_at_most(cluster):
    cluster.create_service("web", cluster.spec(replicas=1))
    cluster.obey()
    (task,) = cluster.running("web")
    obedient = cluster._next_state
    cluster._next_state = lambda t: None if t.id == task.id else obedient(t)
    cluster.set_availability(task.node_id, NODE_AVAILABILITY_DRAIN)
    cluster.pass_time(59)
    assert cluster.running("web") == []
    cluster.pass_time(2)
    assert len(cluster.running("web")) == 1


def test_pause_keeps_what_runs_and_takes_nothing_new(cluster):
    cluster.create_service("web", cluster.spec(replicas=3))
    cluster.obey()
    cluster.set_availability("a", NODE_AVAILABILITY_PAUSE)
    cluster.scale("web", 9)
    assert cluster.spread("web") == {"a": 1, "b": 4, "c": 4}


def test_a_changed_label_evicts_at_once(cluster):
    cluster.change_node("a", lambda node: node.spec.annotations.labels.update(disk="ssd"))
    cluster.change_node("b", lambda node: node.spec.annotations.labels.update(disk="ssd"))
    placement = Placement(constraints=["node.labels.disk==ssd"])
    cluster.create_service("db", cluster.spec(replicas=2, placement=placement))
    cluster.obey()
    assert cluster.spread("db") == {"a": 1, "b": 1}
    cluster.change_node("a", lambda node: node.spec.annotations.labels.clear())
    cluster.obey()
    assert cluster.spread("db") == {"b": 2}


def test_an_eviction_is_found_by_the_next_leader(cluster):
    placement = Placement(constraints=["node.labels.out!=yes"])
    cluster.create_service("web", cluster.spec(replicas=3, placement=placement))
    cluster.obey()
    cluster.brain.handle = lambda *_: BrainOutput()
    cluster.change_node("a", lambda n: n.spec.annotations.labels.update(out="yes"))
    cluster.change_node("b", lambda n: setattr(n.spec, "availability", NODE_AVAILABILITY_DRAIN))
    cluster.fail_over()
    cluster.obey()
    assert cluster.spread("web") == {"c": 3}


def test_a_removed_nodes_tasks_are_orphaned_and_replaced(cluster):
    cluster.create_service("web", cluster.spec(replicas=3))
    cluster.obey()
    cluster.say_goodbye("a")
    cluster.obey()
    cluster.remove_node("a")
    (old,) = on(cluster, "web", "a")
    assert (old.status.state, old.desired_state) == (TASK_STATE_ORPHANED, TASK_STATE_SHUTDOWN)
    assert len(cluster.running("web")) == 3


def test_tasks_to_remove_go_with_their_node(cluster):
    cluster.create_service("web", cluster.spec(replicas=3))
    cluster.obey()
    cluster.say_goodbye("a")
    cluster.remove_service("web")
    cluster.obey()
    assert {task.node_id for task in cluster.tasks("web")} == {"a"}
    cluster.remove_node("a")
    assert cluster.tasks("web") == []


def test_after_a_day_the_tasks_of_a_lost_node_are_orphaned(cluster):
    cluster.create_service("web", cluster.spec(replicas=3))
    cluster.obey()
    cluster.say_goodbye("a")
    cluster.now += 24 * 3600 - 60
    for name in "bc":
        cluster.revive(name)
    assert {t.status.state for t in on(cluster, "web", "a")} == {TASK_STATE_RUNNING}
    cluster.fail_over()
    cluster.pass_time(61)
    assert {t.status.state for t in on(cluster, "web", "a")} == {TASK_STATE_ORPHANED}
    assert cluster.run() == 0


def test_nothing_moves_when_most_nodes_fall_silent_for_a_moment(cluster):
    cluster.create_service("web", cluster.spec(replicas=6))
    cluster.obey()
    cluster.silent |= {"a", "b", "c"}
    cluster.pass_time(6)
    cluster.silent.clear()
    cluster.pass_time(3)
    assert cluster.spread("web") == {"a": 2, "b": 2, "c": 2}
    assert len(cluster.tasks("web")) == 6
    assert any("fell silent at once" in notice for notice in cluster.notices)


def test_a_node_that_becomes_active_again_takes_new_tasks_only(cluster):
    cluster.create_service("web", cluster.spec(replicas=4))
    cluster.obey()
    cluster.set_availability("a", NODE_AVAILABILITY_DRAIN)
    cluster.obey()
    cluster.set_availability("a", NODE_AVAILABILITY_ACTIVE)
    cluster.obey()
    assert "a" not in cluster.spread("web"), "Swarm does not move running tasks back"
    cluster.scale("web", 6)
    assert cluster.spread("web") == {"a": 2, "b": 2, "c": 2}
