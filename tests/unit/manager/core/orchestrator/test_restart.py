"""Restarts: the policy's condition, delay, attempts and window."""

import pytest

from swarm.api.v1.service_pb2 import (
    RESTART_CONDITION_ANY,
    RESTART_CONDITION_NONE,
    RESTART_CONDITION_ON_FAILURE,
    RestartPolicy,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_READY,
    TASK_STATE_REJECTED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
)
from swarm.manager.core.orchestrator.restart import should_restart

SECOND = 1_000_000_000


def start(cluster, **policy):
    restart = RestartPolicy(**policy)
    cluster.create_service("web", cluster.spec(replicas=1, restart=restart))
    cluster.obey()
    return cluster.running("web")[0]


def end(cluster, state):
    """The running task ends by itself."""
    cluster.report(cluster.running("web")[0], state)


def test_a_failed_task_is_replaced_after_the_delay(cluster):
    first = start(cluster)
    end(cluster, TASK_STATE_FAILED)
    old, new = cluster.tasks("web")
    assert (old.id, old.desired_state) == (first.id, TASK_STATE_SHUTDOWN)
    assert (new.slot, new.desired_state) == (1, TASK_STATE_READY)
    assert new.start_after_ns == cluster.now_ns + 5 * SECOND
    cluster.pass_time(4.5)
    assert cluster.running("web") == []
    cluster.pass_time(1)
    assert [task.id for task in cluster.running("web")] == [new.id]
    assert cluster.run() == 0


def test_a_task_rejected_while_it_waits_is_followed_when_its_delay_is_over(cluster):
    start(cluster)
    end(cluster, TASK_STATE_FAILED)
    for _ in range(3):
        *_, waiting = cluster.tasks("web")
        cluster.report(waiting, TASK_STATE_REJECTED)
        cluster.fail_over()
        cluster.pass_time((waiting.start_after_ns - cluster.now_ns) / SECOND - 0.5)
        assert cluster.tasks("web")[-1].id == waiting.id, "followed before its delay was over"
        cluster.pass_time(1)
        *_, new = cluster.tasks("web")
        assert new.id != waiting.id
        assert new.start_after_ns >= waiting.start_after_ns + 5 * SECOND


def test_a_task_that_was_the_last_attempt_ends_at_once_though_it_was_delayed(cluster):
    start(cluster, max_attempts=1)
    end(cluster, TASK_STATE_FAILED)
    *_, waiting = cluster.tasks("web")
    cluster.report(waiting, TASK_STATE_REJECTED)
    assert cluster.tasks("web")[-1].desired_state == TASK_STATE_SHUTDOWN
    cluster.pass_time(20)
    assert len(cluster.tasks("web")) == 2


@pytest.mark.parametrize(
    ("condition", "state", "restarted"),
    [
        (RESTART_CONDITION_ANY, TASK_STATE_COMPLETE, True),
        (RESTART_CONDITION_ANY, TASK_STATE_FAILED, True),
        (RESTART_CONDITION_ON_FAILURE, TASK_STATE_COMPLETE, False),
        (RESTART_CONDITION_ON_FAILURE, TASK_STATE_FAILED, True),
        (RESTART_CONDITION_ON_FAILURE, TASK_STATE_REJECTED, True),
        (RESTART_CONDITION_NONE, TASK_STATE_FAILED, False),
        (RESTART_CONDITION_NONE, TASK_STATE_COMPLETE, False),
    ],
)
def test_the_condition_decides(cluster, condition, state, restarted):
    start(cluster, condition=condition, delay_ns=0)
    end(cluster, state)
    cluster.obey()
    assert bool(cluster.running("web")) == restarted
    assert cluster.run() == 0


def test_a_slot_that_gave_up_stays_quiet_under_every_leader(cluster):
    start(cluster, condition=RESTART_CONDITION_NONE)
    end(cluster, TASK_STATE_FAILED)
    (task,) = cluster.tasks("web")
    assert task.desired_state == TASK_STATE_SHUTDOWN
    cluster.fail_over()
    cluster.pass_time(60)
    assert cluster.run() == 0
    assert len(cluster.tasks("web")) == 1


def test_attempts_are_counted_per_slot_and_run_out(cluster):
    start(cluster, max_attempts=2, delay_ns=0)
    for _ in range(2):
        end(cluster, TASK_STATE_FAILED)
        cluster.obey()
    assert len(cluster.running("web")[0].restarts_at_ns) == 2
    cluster.fail_over()
    end(cluster, TASK_STATE_FAILED)
    cluster.obey()
    assert cluster.running("web") == []
    assert cluster.run() == 0


def test_attempts_outside_of_the_window_do_not_count(cluster):
    start(cluster, max_attempts=1, delay_ns=0, window_ns=30 * SECOND)
    end(cluster, TASK_STATE_FAILED)
    cluster.pass_time(31)
    end(cluster, TASK_STATE_FAILED)
    cluster.obey()
    assert cluster.running("web"), "the first attempt is forgotten"
    cluster.pass_time(10)
    end(cluster, TASK_STATE_FAILED)
    cluster.pass_time(60)
    assert cluster.running("web") == [], "the second within the window was one too many"


def test_the_counter_starts_anew_with_a_new_revision(cluster):
    policy = RestartPolicy(max_attempts=1, delay_ns=0)
    start(cluster, max_attempts=1, delay_ns=0)
    for _ in range(2):
        end(cluster, TASK_STATE_FAILED)
        cluster.obey()
    assert cluster.running("web") == []
    cluster.update_service("web", cluster.spec(replicas=1, image="nginx:2", restart=policy))
    cluster.obey()
    (task,) = cluster.running("web")
    assert list(task.restarts_at_ns) == []


def test_a_new_leader_goes_on_with_a_delay_half_over(cluster):
    start(cluster)
    end(cluster, TASK_STATE_FAILED)
    cluster.pass_time(3)
    cluster.fail_over()
    cluster.pass_time(1.5)
    assert cluster.running("web") == []
    cluster.pass_time(1)
    assert len(cluster.running("web")) == 1


def test_should_restart_depends_on_the_task_alone():
    from swarm.api.v1.task_pb2 import Task, TaskStatus

    policy = RestartPolicy(max_attempts=2, window_ns=10 * SECOND)
    status = TaskStatus(state=TASK_STATE_FAILED, timestamp_ns=100 * SECOND)
    recent = [91 * SECOND, 99 * SECOND]
    assert not should_restart(Task(status=status, restarts_at_ns=recent), policy)
    assert should_restart(Task(status=status, restarts_at_ns=[90 * SECOND, 99 * SECOND]), policy)
    running = TASK_STATE_RUNNING
    assert running < status.state, "only ended tasks are asked about"
