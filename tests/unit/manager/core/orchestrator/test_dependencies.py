"""Tasks are held back until what their service depends on has come so far; once, and no more."""

import random

import pytest

from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_DRAIN
from swarm.api.v1.service_pb2 import (
    DEPENDENCY_CONDITION_COMPLETED,
    DEPENDENCY_CONDITION_HEALTHY,
    DEPENDENCY_CONDITION_STARTED,
    RESTART_CONDITION_NONE,
    ReplicatedJob,
    RestartPolicy,
    Service,
    ServiceDependency,
    ServiceRevision,
)
from swarm.api.v1.task_pb2 import TASK_STATE_COMPLETE, TASK_STATE_FAILED, TASK_STATE_RUNNING
from swarm.manager.core.orchestrator.dependencies import in_words, unmet


def create_held(cluster, name, needs, condition=DEPENDENCY_CONDITION_STARTED, spec=None):
    """As a deployment does it: held from its first row on."""
    spec = spec or cluster.spec()
    spec.depends_on.extend(
        ServiceDependency(service_name=other, condition=condition) for other in needs
    )

    def write(draft):
        with draft.group("service"):
            draft.create(Service(id=name, name=name, revision=1, task_revision=1, held=bool(needs)))
            draft.create(
                ServiceRevision(id=f"{name}.1", service_id=name, revision=1, spec=spec, who="user")
            )

    cluster.propose(write)


def test_no_task_before_all_of_the_other_run(cluster):
    create_held(cluster, "db", [], spec=cluster.spec(2))
    create_held(cluster, "web", ["db"])
    first, second = cluster.tasks("db")
    assert not cluster.tasks("web")
    cluster.report(first, TASK_STATE_RUNNING)
    assert not cluster.tasks("web")
    cluster.report(second, TASK_STATE_RUNNING)
    assert len(cluster.live("web")) == 1
    assert not cluster.store.service("web").held


def test_it_is_waited_for_once(cluster):
    create_held(cluster, "db", [])
    create_held(cluster, "web", ["db"])
    cluster.obey()
    assert len(cluster.running("web")) == 1
    cluster.report(cluster.running("db")[0], TASK_STATE_FAILED)
    cluster.scale("web", 3)
    assert len(cluster.live("web")) == 3


def test_a_chain_starts_from_its_end(cluster):
    create_held(cluster, "db", [])
    create_held(cluster, "api", ["db"], DEPENDENCY_CONDITION_HEALTHY)
    create_held(cluster, "web", ["api"], DEPENDENCY_CONDITION_HEALTHY)
    assert [len(cluster.tasks(n)) for n in ("db", "api", "web")] == [1, 0, 0]
    cluster.report(cluster.tasks("db")[0], TASK_STATE_RUNNING)
    assert [len(cluster.tasks(n)) for n in ("db", "api", "web")] == [1, 1, 0]
    cluster.obey()
    assert len(cluster.running("web")) == 1


@pytest.mark.parametrize("kind", ["job", "service"])
def test_completion_is_waited_for(cluster, kind):
    spec = cluster.spec(restart=RestartPolicy(condition=RESTART_CONDITION_NONE))
    if kind == "job":
        spec.replicated_job.CopyFrom(ReplicatedJob(max_concurrent=1, total_completions=1))
    create_held(cluster, "migrate", [], spec=spec)
    create_held(cluster, "web", ["migrate"], DEPENDENCY_CONDITION_COMPLETED)
    (task,) = cluster.tasks("migrate")
    cluster.report(task, TASK_STATE_RUNNING)
    assert not cluster.tasks("web")
    cluster.report(cluster.store.task(task.id), TASK_STATE_COMPLETE)
    assert len(cluster.live("web")) == 1


def test_a_failure_is_no_completion(cluster):
    spec = cluster.spec(restart=RestartPolicy(condition=RESTART_CONDITION_NONE))
    create_held(cluster, "migrate", [], spec=spec)
    create_held(cluster, "web", ["migrate"], DEPENDENCY_CONDITION_COMPLETED)
    cluster.report(cluster.tasks("migrate")[0], TASK_STATE_FAILED)
    assert not cluster.tasks("web")
    (dependency,) = unmet(cluster.store, cluster.store.spec("web", 1))
    assert in_words(dependency) == "migrate to complete"


def test_a_global_service_is_held_on_every_node(cluster):
    create_held(cluster, "db", [])
    create_held(cluster, "agent", ["db"], spec=cluster.spec(None))
    cluster.add_node("d")
    assert not cluster.tasks("agent")
    cluster.report(cluster.tasks("db")[0], TASK_STATE_RUNNING)
    assert len(cluster.live("agent")) == 4


def test_another_leader_goes_on_waiting(cluster):
    create_held(cluster, "db", [])
    create_held(cluster, "web", ["db"], spec=cluster.spec(0))
    create_held(cluster, "www", ["db"])
    cluster.fail_over()
    cluster.run()
    assert cluster.store.service("www").held
    cluster.report(cluster.tasks("db")[0], TASK_STATE_RUNNING)
    assert len(cluster.live("www")) == 1
    assert not cluster.store.service("web").held


def test_what_came_between_two_leaders_is_seen(cluster):
    create_held(cluster, "db", [])
    create_held(cluster, "web", ["db"])
    cluster.slow = True
    cluster.report(cluster.tasks("db")[0], TASK_STATE_RUNNING)
    cluster.fail_over()
    cluster.run()
    assert len(cluster.live("web")) == 1


def test_a_service_that_is_removed_is_not_waited_for(cluster):
    create_held(cluster, "db", [])
    create_held(cluster, "web", ["db"])
    cluster.remove_service("db")
    assert len(cluster.live("web")) == 1


def test_nothing_to_start_is_nothing_to_wait_for(cluster):
    create_held(cluster, "db", [], spec=cluster.spec(0))
    create_held(cluster, "web", ["db"])
    assert len(cluster.live("web")) == 1


@pytest.mark.parametrize("goes", ["remove_node", "drain"])
def test_a_node_that_goes_is_waited_for_no_longer(cluster, goes):
    """Of a global service, on the node that never came so far."""
    create_held(cluster, "db", [], spec=cluster.spec(None))
    create_held(cluster, "web", ["db"])
    for task in cluster.tasks("db"):
        if task.node_id != "c":
            cluster.report(task, TASK_STATE_RUNNING)
    assert cluster.store.service("web").held
    if goes == "drain":
        cluster.set_availability("c", NODE_AVAILABILITY_DRAIN)
    else:
        cluster.remove_node("c")
    assert len(cluster.live("web")) == 1


@pytest.mark.parametrize("seed", range(60))
def test_by_chance(new_cluster, seed):
    """Services in a random order of dependence, tasks that start and fail, leaders that change:
    no task is made before what its service waits for has come, and in the end all run."""
    rng = random.Random(seed)
    cluster = new_cluster(seed)
    for node in "ab":
        cluster.add_node(node)
    names = [f"s{number}" for number in range(6)]
    for number, name in enumerate(names):
        needs = rng.sample(names[:number], rng.randint(0, min(number, 2)))
        create_held(cluster, name, needs, spec=cluster.spec(rng.choice([0, 1, 3, None])))
    for _ in range(40):
        held = {n for n in names if (s := cluster.store.service(n)) is not None and s.held}
        unready = {n for n in held if any(unmet(cluster.store, cluster.store.spec(n, 1)))}
        assert not [n for n in held if cluster.tasks(n)]
        assert held == unready, "who can start is let go at once"
        tasks = [task for name in names for task in cluster.live(name) if task.node_id]
        match rng.randint(0, 9):
            case 0:
                cluster.fail_over()
                cluster.run()
            case 1 if tasks:
                cluster.report(rng.choice(tasks), TASK_STATE_FAILED)
            case 2:
                cluster.pass_time(6)
            case _ if tasks:
                task = rng.choice(tasks)
                if task.status.state < TASK_STATE_RUNNING:
                    cluster.report(task, TASK_STATE_RUNNING)
    cluster.pass_time(30)
    cluster.pass_time(30)
    assert not [name for name in names if cluster.store.service(name).held]
