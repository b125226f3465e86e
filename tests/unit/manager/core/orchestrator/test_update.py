"""Rolling updates: outdated slots are replaced, parallelism at a time."""

from swarm.api.v1.service_pb2 import RestartPolicy, UpdateConfig
from swarm.api.v1.task_pb2 import (
    TASK_STATE_FAILED,
    TASK_STATE_READY,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
)

SECOND = 1_000_000_000


def update(cluster, image="nginx:2", replicas=4, **config):
    spec = cluster.spec(replicas=replicas, image=image)
    if config:
        spec.update.CopyFrom(UpdateConfig(**config))
    cluster.update_service("web", spec)


def start(cluster, replicas=4):
    cluster.create_service("web", cluster.spec(replicas=replicas))
    cluster.obey()


def revisions(cluster):
    return sorted(task.revision for task in cluster.live("web"))


def test_one_slot_at_a_time_stop_first(cluster):
    start(cluster)
    update(cluster)
    assert revisions(cluster) == [1, 1, 1, 2]
    (new,) = [task for task in cluster.live("web") if task.revision == 2]
    (old,) = [t for t in cluster.tasks("web") if t.slot == new.slot and t.id != new.id]
    assert old.desired_state == TASK_STATE_SHUTDOWN
    assert new.desired_state == TASK_STATE_READY
    cluster.report(old, TASK_STATE_SHUTDOWN)
    assert cluster.store.task(new.id).desired_state == TASK_STATE_RUNNING
    assert revisions(cluster) == [1, 1, 1, 2], "the next one waits until this one runs"
    cluster.report(new, TASK_STATE_RUNNING)
    assert revisions(cluster) == [1, 1, 2, 2]
    cluster.obey()
    assert revisions(cluster) == [2, 2, 2, 2]
    assert len(cluster.running("web")) == 4
    assert cluster.run() == 0


def test_parallelism(cluster):
    start(cluster)
    update(cluster, parallelism=3)
    assert revisions(cluster) == [1, 2, 2, 2]
    cluster.obey()
    assert revisions(cluster) == [2, 2, 2, 2]


def test_parallelism_0_is_all_at_once(cluster):
    start(cluster)
    update(cluster, parallelism=0)
    assert revisions(cluster) == [2, 2, 2, 2]


def test_start_first_keeps_the_old_one_until_the_new_one_runs(cluster):
    start(cluster, replicas=1)
    (old,) = cluster.running("web")
    update(cluster, replicas=1, parallelism=1, order=1)
    assert revisions(cluster) == [1, 2]
    (new,) = [task for task in cluster.live("web") if task.revision == 2]
    assert new.desired_state == TASK_STATE_RUNNING
    cluster.report(new, TASK_STATE_RUNNING)
    assert cluster.store.task(old.id).desired_state == TASK_STATE_SHUTDOWN
    cluster.obey()
    assert cluster.run() == 0


def test_the_delay_is_kept_between_slots(cluster):
    start(cluster)
    update(cluster, parallelism=1, delay_ns=10 * SECOND)
    cluster.obey()
    assert revisions(cluster) == [1, 1, 1, 2]
    cluster.pass_time(9)
    assert revisions(cluster) == [1, 1, 1, 2]
    cluster.pass_time(2)
    assert revisions(cluster) == [1, 1, 2, 2]
    cluster.pass_time(30)
    assert revisions(cluster) == [2, 2, 2, 2]


def test_a_new_revision_that_does_not_come_up_holds_the_rest_back(cluster):
    start(cluster)
    update(cluster)
    for _ in range(8):
        cluster.run()
        (new,) = [task for task in cluster.live("web") if task.revision == 2]
        cluster.report(new, TASK_STATE_FAILED)
        for task in cluster.tasks("web"):
            if cluster._next_state(task) == TASK_STATE_SHUTDOWN:
                cluster.report(task, TASK_STATE_SHUTDOWN)
        cluster.now += 5.1
        for name in "abc":
            cluster.revive(name)
    assert revisions(cluster) == [1, 1, 1, 2]
    update(cluster, image="nginx:3")
    cluster.pass_time(10)
    assert revisions(cluster) == [3, 3, 3, 3]


def test_only_the_task_spec_replaces_tasks(cluster):
    start(cluster)
    before = {task.id for task in cluster.live("web")}
    spec = cluster.spec(replicas=4)
    spec.annotations.labels["team"] = "blue"
    cluster.update_service("web", spec)
    cluster.scale("web", 5)
    assert before <= {task.id for task in cluster.live("web")}


def test_a_new_leader_finishes_the_update(cluster):
    start(cluster, replicas=6)
    update(cluster, replicas=6)
    cluster.obey(most=5)
    assert revisions(cluster) not in ([1] * 6, [2] * 6)
    cluster.fail_over()
    cluster.obey()
    assert revisions(cluster) == [2] * 6
    assert cluster.run() == 0


def test_a_slot_that_gave_up_is_updated_too(cluster):
    none = RestartPolicy(condition=2)
    cluster.create_service("web", cluster.spec(replicas=2, restart=none))
    cluster.obey()
    cluster.report(cluster.running("web")[0], TASK_STATE_FAILED)
    assert len(cluster.live("web")) == 1
    cluster.update_service("web", cluster.spec(replicas=2, image="nginx:2", restart=none))
    cluster.obey()
    assert [task.revision for task in cluster.running("web")] == [2, 2]


def test_global_services_are_updated_and_skip_nodes_that_are_down(cluster):
    cluster.create_service("web", cluster.spec(None))
    cluster.obey()
    cluster.say_goodbye("b")
    cluster.update_service("web", cluster.spec(None, image="nginx:2"))
    cluster.obey()
    assert sorted((t.node_id, t.revision) for t in cluster.running("web")) == [
        ("a", 2),
        ("b", 1),
        ("c", 2),
    ]
    cluster.revive("b")
    cluster.obey()
    assert revisions(cluster) == [2, 2, 2]
