"""History is bounded: tasks per slot, revisions per service."""

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.service_pb2 import RestartPolicy
from swarm.api.v1.task_pb2 import TASK_STATE_FAILED


def fail(cluster, times):
    for _ in range(times):
        cluster.report(cluster.running("web")[0], TASK_STATE_FAILED)
        cluster.obey()


def limit(cluster, tasks):
    changed = Cluster()
    changed.CopyFrom(cluster.store.cluster())
    changed.spec.task_history_limit = tasks
    cluster.propose(lambda draft: draft.replace(changed))


def test_five_tasks_are_kept_per_slot_the_live_one_included(cluster):
    cluster.create_service("web", cluster.spec(1, restart=RestartPolicy(delay_ns=0)))
    cluster.obey()
    fail(cluster, 8)
    assert len(cluster.tasks("web")) == 5
    assert len(cluster.live("web")) == 1
    assert cluster.run() == 0


def test_a_lower_limit_works_at_once_and_a_negative_one_keeps_all(cluster):
    limit(cluster, -1)
    cluster.create_service("web", cluster.spec(1, restart=RestartPolicy(delay_ns=0)))
    cluster.obey()
    fail(cluster, 8)
    assert len(cluster.tasks("web")) == 9
    limit(cluster, 2)
    assert len(cluster.tasks("web")) == 2
    limit(cluster, 0)
    assert len(cluster.tasks("web")) == 1
    assert len(cluster.running("web")) == 1


def test_attempts_that_are_counted_are_kept(cluster):
    policy = RestartPolicy(delay_ns=0, max_attempts=7)
    cluster.create_service("web", cluster.spec(1, restart=policy))
    cluster.obey()
    fail(cluster, 7)
    assert len(cluster.tasks("web")) == 8


def test_revisions_beyond_the_last_20_go_unless_a_task_names_them(cluster):
    cluster.create_service("web", cluster.spec(1))
    cluster.obey()
    for number in range(30):
        spec = cluster.spec(1)
        spec.annotations.labels["n"] = str(number)
        cluster.update_service("web", spec)
    kept = list(cluster.store.revisions_of_service("web"))
    assert kept[0] == 1, "the running task names it"
    assert kept[-1] == 31
    assert len(kept) == 21
    assert cluster.run() == 0
    cluster.update_service("web", cluster.spec(1, image="nginx:2"))
    cluster.obey()
    cluster.remove_service("web")
    cluster.obey()
    assert list(cluster.store.revisions_of_service("web")) == []
