"""A drain in turn: the replacement runs first, at most so many tasks of a service move at once,
and the node ends empty."""

import random

import pytest

from swarm.api.v1.managers_pb2 import HeardNode
from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_DRAIN
from swarm.api.v1.service_pb2 import (
    RESTART_CONDITION_NONE,
    UPDATE_STATE_PAUSED,
    Placement,
    ReplicatedJob,
    ResourceRequirements,
    RestartPolicy,
    Service,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_FAILED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
)
from swarm.api.v1.types_pb2 import Resources

CPU = 1_000_000_000
SECOND = 1_000_000_000


def drain(cluster, name: str, most: int = 1) -> None:
    def change(node) -> None:
        node.spec.availability = NODE_AVAILABILITY_DRAIN
        node.spec.drain.max_unavailable = most

    cluster.change_node(name, change)


def running_on(cluster, service: str) -> list[str]:
    return sorted(task.node_id for task in cluster.running(service))


def moving(cluster, service: str) -> list:
    return [t for t in cluster.live(service) if t.replaces and t.status.state < TASK_STATE_RUNNING]


def test_the_replacement_runs_before_the_old_one_stops(cluster) -> None:
    cluster.create_service("web", cluster.spec(3))
    cluster.obey()
    drain(cluster, "a")
    (new,) = moving(cluster, "web")
    assert new.node_id in ("b", "c")
    assert running_on(cluster, "web") == ["a", "b", "c"]
    assert all(task.desired_state == TASK_STATE_RUNNING for task in cluster.live("web"))
    cluster.report(new, TASK_STATE_RUNNING)
    (old,) = [t for t in cluster.tasks("web") if t.node_id == "a"]
    assert (old.id, old.desired_state) == (new.replaces, TASK_STATE_SHUTDOWN)
    cluster.obey()
    assert len(running_on(cluster, "web")) == 3
    assert "a" not in running_on(cluster, "web")


@pytest.mark.parametrize(("most", "at_once"), [(1, 1), (2, 2), (9, 4)])
def test_so_many_move_at_once(new_cluster, most: int, at_once: int) -> None:
    cluster = new_cluster()
    cluster.add_node("a")
    cluster.create_service("web", cluster.spec(4))
    cluster.create_service("db", cluster.spec(1))
    cluster.obey()
    cluster.add_node("b")
    drain(cluster, "a", most)
    moves = 0
    while tasks := moving(cluster, "web"):
        assert len(tasks) <= at_once
        assert len(cluster.running("web")) >= 4
        moves += 1
        cluster.report(tasks[0], TASK_STATE_RUNNING)
    assert moves == 4
    cluster.obey()
    assert running_on(cluster, "web") == ["b"] * 4
    assert running_on(cluster, "db") == ["b"]


def test_two_nodes_share_a_services_limit(new_cluster) -> None:
    cluster = new_cluster()
    for name in "abc":
        cluster.add_node(name)
    cluster.create_service("web", cluster.spec(6))
    cluster.obey()
    drain(cluster, "a")
    drain(cluster, "b")
    while tasks := moving(cluster, "web"):
        assert len(tasks) == 1
        cluster.report(tasks[0], TASK_STATE_RUNNING)
    cluster.obey()
    assert running_on(cluster, "web") == ["c"] * 6


@pytest.mark.parametrize("steps", range(12))
def test_a_new_leader_goes_on_where_it_was(new_cluster, steps: int) -> None:
    cluster = new_cluster()
    cluster.add_node("a")
    cluster.create_service("web", cluster.spec(4))
    cluster.obey()
    cluster.add_node("b")
    drain(cluster, "a", 2)
    cluster.obey(most=steps)
    cluster.fail_over()
    cluster.run()
    assert len(moving(cluster, "web")) <= 2
    while moving(cluster, "web"):
        assert len(moving(cluster, "web")) <= 2
        assert len(cluster.running("web")) >= 4
        cluster.obey(most=1)
    cluster.obey()
    assert running_on(cluster, "web") == ["b"] * 4


def test_without_room_it_waits_and_the_old_one_runs_on(new_cluster) -> None:
    cluster = new_cluster()
    cluster.add_node("a")
    cluster.add_node("b", cpus=1)
    reserved = ResourceRequirements(reservations=Resources(nano_cpus=2 * CPU))
    cluster.create_service("web", cluster.spec(2, resources=reserved))
    cluster.obey()
    drain(cluster, "a")
    cluster.obey()
    assert running_on(cluster, "web") == ["a", "a"]
    assert "insufficient resources on 1 node" in cluster.pending("web")
    cluster.add_node("c")
    cluster.obey()
    assert running_on(cluster, "web") == ["c", "c"]


def test_a_replacement_that_fails_costs_nothing_and_is_tried_again_in_time(new_cluster) -> None:
    cluster = new_cluster()
    cluster.add_node("a")
    policy = RestartPolicy(delay_ns=7 * SECOND)
    cluster.create_service("web", cluster.spec(1, restart=policy))
    cluster.obey()
    cluster.add_node("b")
    drain(cluster, "a")
    (new,) = moving(cluster, "web")
    cluster.report(new, TASK_STATE_FAILED)
    assert running_on(cluster, "web") == ["a"]
    assert not moving(cluster, "web")
    cluster.pass_time(6)
    assert running_on(cluster, "web") == ["a"]
    cluster.pass_time(2)
    assert running_on(cluster, "web") == ["b"]


def test_its_node_goes_down_on_the_way(cluster) -> None:
    cluster.create_service("web", cluster.spec(1))
    cluster.obey()
    (old,) = cluster.running("web")
    drain(cluster, old.node_id)
    (new,) = moving(cluster, "web")
    cluster.say_goodbye(new.node_id)
    assert running_on(cluster, "web") == [old.node_id]
    (other,) = moving(cluster, "web")
    assert other.node_id not in (new.node_id, old.node_id)
    cluster.say_goodbye(old.node_id)
    cluster.obey()
    assert cluster.running("web")[-1].node_id == other.node_id


def test_an_immediate_drain_overtakes_it_and_active_ends_it(cluster) -> None:
    cluster.create_service("web", cluster.spec(1))
    cluster.obey()
    (old,) = cluster.running("web")
    drain(cluster, old.node_id)
    assert moving(cluster, "web")
    cluster.change_node(old.node_id, lambda node: node.spec.ClearField("drain"))
    assert cluster.store.task(old.id).desired_state == TASK_STATE_SHUTDOWN
    cluster.obey()
    (now,) = cluster.running("web")
    cluster.create_service("late", cluster.spec(1))
    cluster.obey()
    drain(cluster, now.node_id)
    cluster.set_availability(now.node_id, 0)
    cluster.obey()
    assert len(cluster.running("web")) == 1


def test_what_does_not_run_leaves_at_once(cluster) -> None:
    cluster.create_service("web", cluster.spec(3))
    drain(cluster, "a")
    assert "a" not in [task.node_id for task in cluster.live("web")]


def test_a_global_services_task_stops_and_a_jobs_runs_to_its_end(cluster) -> None:
    cluster.create_service("agent", cluster.spec(None))
    spec = cluster.spec()
    spec.replicated_job.CopyFrom(ReplicatedJob(max_concurrent=3, total_completions=3))
    cluster.create_service("job", spec)
    cluster.obey()
    drain(cluster, "a")
    cluster.obey()
    assert running_on(cluster, "agent") == ["b", "c"]
    assert running_on(cluster, "job") == ["a", "b", "c"]
    (own,) = [task for task in cluster.running("job") if task.node_id == "a"]
    cluster.report(own, 576)
    assert running_on(cluster, "job") == ["b", "c"]


def test_a_paused_update_does_not_keep_a_node_full(cluster) -> None:
    cluster.create_service("web", cluster.spec(3))
    cluster.obey()
    spec = cluster.spec(3, image="nginx:2")
    cluster.slow = True
    cluster.update_service("web", spec)
    cluster.drop()

    def pause(draft) -> None:
        service = Service()
        service.CopyFrom(cluster.store.service("web"))
        service.update.state = UPDATE_STATE_PAUSED
        draft.replace(service)

    cluster.propose(pause)
    drain(cluster, "a")
    cluster.pass_time(5)
    assert "a" not in running_on(cluster, "web")
    assert len(running_on(cluster, "web")) == 3


def test_a_label_that_goes_moves_at_once(cluster) -> None:
    cluster.change_node("a", lambda node: node.spec.annotations.labels.update(zone="x"))
    cluster.change_node("b", lambda node: node.spec.annotations.labels.update(zone="x"))
    placement = Placement(constraints=["node.labels.zone==x"])
    cluster.create_service("web", cluster.spec(2, placement=placement))
    cluster.obey()
    drain(cluster, "a")
    cluster.change_node("a", lambda node: node.spec.annotations.labels.clear())
    cluster.obey()
    assert running_on(cluster, "web") == ["b", "b"]


@pytest.mark.parametrize("seed", range(40))
def test_by_chance(new_cluster, seed: int) -> None:
    """Drains, leaders that change, updates and failures: never fewer than are wanted, less those
    that failed; and every drained node ends empty."""
    chance = random.Random(seed)
    cluster = new_cluster(seed, pass_changes=chance.choice([3, 10, 200]))
    for name in "abcd":
        cluster.add_node(name)
    for name in ("web", "db"):
        cluster.create_service(name, cluster.spec(chance.randint(1, 6)))
    cluster.obey()
    most = chance.randint(1, 3)
    drained = chance.sample("abcd", chance.randint(1, 3))
    for name in drained:
        drain(cluster, name, most)
    for _ in range(200):
        for service in ("web", "db"):
            wanted = cluster.store.spec(service, 1).replicated.replicas
            assert len(moving(cluster, service)) <= most
            assert len(cluster.running(service)) >= wanted
        match chance.randrange(8):
            case 0:
                cluster.fail_over()
                cluster.run()
            case 1:
                tasks = [t for s in ("web", "db") for t in moving(cluster, s) if t.node_id]
                if tasks:
                    cluster.report(chance.choice(tasks), TASK_STATE_FAILED)
            case _:
                cluster.obey(most=1)
        if chance.random() < 0.2:
            cluster.now += 3
            for name in "abcd":
                cluster.brain.heard(HeardNode(node_id=name), cluster.now)
    cluster.pass_time(60)
    for name in drained:
        assert not [t for t in cluster.store.tasks_of_node(name) if t.status.state <= 512]


def test_a_change_of_the_service_meanwhile_stops_no_drain(new_cluster) -> None:
    """What was about to move is compared with the new spec, and moves then."""
    cluster = new_cluster(pass_changes=2)
    cluster.add_node("a")
    cluster.create_service("web", cluster.spec(6))
    cluster.obey()
    cluster.add_node("b")
    cluster.slow = True
    drain(cluster, "a", 6)
    assert cluster.in_flight, "two are on their way, and four are to follow"
    cluster.scale("web", 7)
    cluster.deliver()
    cluster.obey()
    assert running_on(cluster, "web") == ["b"] * 7


def test_what_an_update_left_behind_when_it_paused_moves_too(new_cluster) -> None:
    cluster = new_cluster()
    cluster.add_node("a")
    cluster.create_service("web", cluster.spec(3))
    cluster.obey()
    cluster.add_node("b")
    spec = cluster.spec(
        3, image="nginx:broken", restart=RestartPolicy(condition=RESTART_CONDITION_NONE)
    )
    spec.update.parallelism = 1
    cluster.update_service("web", spec)
    drain(cluster, "a")
    (new,) = [task for task in cluster.live("web") if task.revision == 2]
    cluster.report(new, TASK_STATE_FAILED)
    assert cluster.store.service("web").update.state == UPDATE_STATE_PAUSED
    cluster.obey()
    assert running_on(cluster, "web") == ["b", "b"]
