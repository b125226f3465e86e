"""Jobs: every slot once to completion, so many at a time, anew with every update."""

import pytest

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_DRAIN
from swarm.api.v1.service_pb2 import (
    RESTART_CONDITION_NONE,
    GlobalJob,
    ReplicatedJob,
    RestartPolicy,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
)
from swarm.manager.core.orchestrator.jobs import is_complete
from swarm.manager.core.store import ended, wanted

SECOND = 1_000_000_000


def job(cluster, total=6, concurrent=2, image="work", **restart):
    restart.setdefault("delay_ns", SECOND)
    made = cluster.spec(image=image, restart=RestartPolicy(**restart))
    made.replicated_job.CopyFrom(ReplicatedJob(max_concurrent=concurrent, total_completions=total))
    return made


def on_every_node(cluster):
    made = cluster.spec(image="work", restart=RestartPolicy(delay_ns=SECOND))
    made.global_job.CopyFrom(GlobalJob())
    return made


def active(cluster):
    return [task for task in cluster.live("web") if not ended(task)]


def completed(cluster):
    """Slots, each once."""
    service = cluster.store.service("web")
    return sorted(
        {
            (t.slot, t.node_id if not t.slot else "")
            for t in cluster.tasks("web")
            if is_complete(service, [t])
        }
    )


def finish(cluster, task, state=TASK_STATE_COMPLETE):
    cluster.report(cluster.store.task(task.id), state)


def test_so_many_at_a_time_until_all_are_complete(cluster):
    cluster.create_service("web", job(cluster))
    for done in range(6):
        cluster.obey()
        assert len(active(cluster)) == min(2, 6 - done)
        finish(cluster, active(cluster)[0])
    cluster.obey()
    assert [slot for slot, _ in completed(cluster)] == [1, 2, 3, 4, 5, 6]
    assert not cluster.live("web")
    assert cluster.run() == 0


def test_what_is_complete_is_not_run_again_under_restart_any(cluster):
    cluster.create_service("web", job(cluster, total=1, concurrent=1))
    cluster.obey()
    finish(cluster, active(cluster)[0])
    cluster.pass_time(10)
    assert len(cluster.tasks("web")) == 1


def test_a_failure_is_run_again_in_its_slot(cluster):
    cluster.create_service("web", job(cluster, total=2, concurrent=1))
    cluster.obey()
    (first,) = active(cluster)
    finish(cluster, first, TASK_STATE_FAILED)
    (again,) = active(cluster)
    assert again.slot == first.slot
    assert again.start_after_ns >= cluster.now_ns + SECOND
    cluster.pass_time(2)
    finish(cluster, again)
    cluster.obey()
    assert [task.slot for task in active(cluster)] == [2]


def test_a_slot_that_gave_up_stays_quiet_and_others_go_on(cluster):
    spec = job(cluster, total=2, concurrent=1, condition=RESTART_CONDITION_NONE)
    cluster.create_service("web", spec)
    cluster.obey()
    finish(cluster, active(cluster)[0], TASK_STATE_FAILED)
    cluster.obey()
    (second,) = active(cluster)
    finish(cluster, second)
    cluster.pass_time(10)
    assert completed(cluster) == [(2, "")]
    assert not active(cluster)
    assert cluster.run() == 0


def test_an_update_runs_the_job_anew(cluster):
    cluster.create_service("web", job(cluster, total=2, concurrent=2))
    cluster.obey()
    finish(cluster, active(cluster)[0])
    (left,) = active(cluster)
    cluster.update_service("web", job(cluster, total=2, concurrent=2))
    assert cluster.store.task(left.id).desired_state == TASK_STATE_SHUTDOWN
    cluster.obey()
    assert completed(cluster) == []
    assert sorted(task.slot for task in active(cluster)) == [1, 2]
    for task in active(cluster):
        finish(cluster, task)
    assert len(completed(cluster)) == 2
    assert not cluster.store.service("web").HasField("update")


def test_a_task_whose_node_is_lost_runs_elsewhere_and_counts_once(cluster):
    cluster.create_service("web", job(cluster, total=1, concurrent=1))
    cluster.obey()
    (first,) = active(cluster)
    cluster.say_goodbye(first.node_id)
    cluster.obey()
    (second,) = active(cluster)
    assert second.node_id != first.node_id
    finish(cluster, first)
    cluster.obey()
    assert not cluster.live("web"), "it was complete all the while"
    assert completed(cluster) == [(1, "")]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_new_leader_goes_on_with_the_job(cluster, after):
    cluster.create_service("web", job(cluster, total=4, concurrent=2))
    cluster.obey()
    for _ in range(after):
        finish(cluster, active(cluster)[0])
        cluster.obey()
    cluster.fail_over()
    cluster.obey()
    assert len(active(cluster)) == min(2, 4 - after)
    while active(cluster):
        finish(cluster, active(cluster)[0])
        cluster.obey()
    assert len(completed(cluster)) == 4
    assert cluster.run() == 0


def test_fewer_completions_end_what_is_too_much(cluster):
    cluster.create_service("web", job(cluster, total=3, concurrent=3))
    cluster.obey()
    cluster.update_service("web", job(cluster, total=1, concurrent=3))
    cluster.obey()
    assert [task.slot for task in active(cluster)] == [1]


def test_the_history_of_a_slot_is_bounded(cluster):
    cluster.create_service("web", job(cluster, total=1, concurrent=1))
    for _ in range(8):
        cluster.obey()
        finish(cluster, active(cluster)[0], TASK_STATE_FAILED)
        cluster.pass_time(2)
    assert len(cluster.tasks("web")) <= 5
    finish(cluster, active(cluster)[0])
    cluster.obey()
    assert completed(cluster) == [(1, "")]


def test_a_completion_is_never_reaped(cluster):
    """The simulator's seed 94053: tasks on a node that is down are kept, and the newest went."""
    change = Cluster()
    change.CopyFrom(cluster.store.cluster())
    change.spec.task_history_limit = 1
    cluster.propose(lambda draft: draft.replace(change))
    cluster.create_service("web", job(cluster, total=1, concurrent=1))
    cluster.obey()
    (first,) = active(cluster)
    cluster.say_goodbye(first.node_id)
    cluster.obey()
    finish(cluster, active(cluster)[0])
    cluster.obey()
    assert completed(cluster) == [(1, "")]
    assert not active(cluster)


def test_a_global_job_runs_once_on_every_node_and_on_those_that_come(cluster):
    cluster.create_service("web", on_every_node(cluster))
    cluster.obey()
    assert sorted(task.node_id for task in active(cluster)) == ["a", "b", "c"]
    for task in active(cluster):
        finish(cluster, task)
    cluster.obey()
    assert not active(cluster)
    cluster.add_node("d")
    cluster.obey()
    (new,) = active(cluster)
    assert new.node_id == "d"
    cluster.fail_over()
    cluster.obey()
    assert [task.id for task in active(cluster)] == [new.id]


def test_a_global_job_leaves_a_drained_node_and_comes_back(cluster):
    cluster.create_service("web", on_every_node(cluster))
    cluster.obey()
    cluster.set_availability("b", NODE_AVAILABILITY_DRAIN)
    cluster.obey()
    assert sorted(task.node_id for task in active(cluster)) == ["a", "c"]
    cluster.set_availability("b", 0)
    cluster.obey()
    assert sorted(task.node_id for task in active(cluster)) == ["a", "b", "c"]


def test_removed_jobs_leave_nothing(cluster):
    cluster.create_service("web", job(cluster))
    cluster.obey()
    finish(cluster, active(cluster)[0])
    cluster.remove_service("web")
    cluster.obey()
    assert not cluster.tasks("web")
    assert not any(
        wanted(t) and t.status.state == TASK_STATE_RUNNING for t in cluster.store.tasks()
    )
