"""What an update does when its tasks fail: pause, go on, roll back; and how it ends."""

import pytest

from swarm.api.v1.service_pb2 import (
    UPDATE_FAILURE_ACTION_CONTINUE,
    UPDATE_FAILURE_ACTION_ROLLBACK,
    UPDATE_STATE_COMPLETED,
    UPDATE_STATE_NONE,
    UPDATE_STATE_PAUSED,
    UPDATE_STATE_ROLLBACK_COMPLETED,
    UPDATE_STATE_ROLLBACK_PAUSED,
    UPDATE_STATE_ROLLBACK_STARTED,
    UPDATE_STATE_UPDATING,
    RestartPolicy,
    UpdateConfig,
)
from swarm.api.v1.task_pb2 import TASK_STATE_FAILED, TASK_STATE_RUNNING, TASK_STATE_SHUTDOWN

SECOND = 1_000_000_000
BACK = UPDATE_FAILURE_ACTION_ROLLBACK


def spec(cluster, image, replicas=4, rollback=None, restart_s=1, **config):
    made = cluster.spec(
        replicas=replicas, image=image, restart=RestartPolicy(delay_ns=restart_s * SECOND)
    )
    config.setdefault("parallelism", 1)
    config.setdefault("monitor_ns", 5 * SECOND)
    made.update.CopyFrom(UpdateConfig(**config))
    if rollback is not None:
        made.rollback.CopyFrom(rollback)
    return made


def start(cluster, replicas=4, **config):
    cluster.create_service("web", spec(cluster, "one", replicas, **config))
    cluster.obey()


def update(cluster, image="two", replicas=4, **config):
    cluster.update_service("web", spec(cluster, image, replicas, **config))


def status(cluster):
    return cluster.store.service("web").update


def image(cluster):
    service = cluster.store.service("web")
    return cluster.store.spec("web", service.revision).task.container.image


def new_ones(cluster):
    revision = cluster.store.service("web").task_revision
    return [task for task in cluster.live("web") if task.revision == revision]


def fail_the_new_one(cluster):
    """Its predecessor stops, and it fails before it runs."""
    (new,) = [t for t in new_ones(cluster) if t.by_update and t.status.state < TASK_STATE_FAILED]
    for old in cluster.tasks("web"):
        if old.slot == new.slot and old.desired_state == TASK_STATE_SHUTDOWN:
            cluster.report(old, TASK_STATE_SHUTDOWN)
    cluster.report(cluster.store.task(new.id), TASK_STATE_FAILED)
    return new


def revisions(cluster):
    return sorted(task.revision for task in cluster.live("web"))


def test_an_update_says_when_it_began_and_when_it_was_complete(cluster):
    start(cluster, replicas=2)
    assert status(cluster).state == UPDATE_STATE_NONE
    update(cluster, replicas=2)
    assert status(cluster).state == UPDATE_STATE_UPDATING
    assert status(cluster).message == "update in progress"
    began = status(cluster).started_at_ns
    assert began == cluster.now_ns
    cluster.obey()
    assert revisions(cluster) == [2, 2]
    assert status(cluster).state == UPDATE_STATE_UPDATING, "the last tasks are watched a little"
    cluster.pass_time(5.5)
    assert status(cluster).state == UPDATE_STATE_COMPLETED
    assert status(cluster).message == "update completed"
    assert status(cluster).started_at_ns == began
    assert status(cluster).completed_at_ns >= began + 5 * SECOND
    assert cluster.run() == 0


def test_scaling_is_no_update(cluster):
    start(cluster)
    cluster.scale("web", 6)
    cluster.obey()
    assert status(cluster).state == UPDATE_STATE_NONE


def test_a_failure_pauses_the_update(cluster):
    start(cluster)
    update(cluster)
    failed = fail_the_new_one(cluster)
    assert status(cluster).state == UPDATE_STATE_PAUSED
    assert status(cluster).message == (
        f"update paused due to failure or early termination of task {failed.id}"
    )
    cluster.pass_time(30)
    assert revisions(cluster) == [1, 1, 1, 2], "only the slot that had been begun"
    assert cluster.run() == 0


def test_a_task_that_ends_while_it_is_watched_is_a_failure(cluster):
    start(cluster, replicas=1)
    update(cluster, replicas=1)
    cluster.obey()
    cluster.pass_time(4)
    cluster.report(cluster.running("web")[0], TASK_STATE_FAILED)
    assert status(cluster).state == UPDATE_STATE_PAUSED


def test_a_task_that_ends_after_it_was_watched_is_none(cluster):
    start(cluster, replicas=4)
    update(cluster, delay_ns=4 * SECOND)
    cluster.pass_time(7)
    first = min(new_ones(cluster), key=lambda task: task.running_at_ns)
    cluster.report(first, TASK_STATE_FAILED)
    assert status(cluster).state == UPDATE_STATE_UPDATING
    assert status(cluster).failures == 0


def test_a_delay_as_long_as_the_watch_prolongs_the_watch(cluster):
    start(cluster, replicas=4)
    update(cluster, delay_ns=6 * SECOND)
    cluster.pass_time(6.4)
    first = min(new_ones(cluster), key=lambda task: task.running_at_ns)
    cluster.report(first, TASK_STATE_FAILED)
    assert status(cluster).state == UPDATE_STATE_PAUSED


def test_an_old_task_that_fails_is_no_failure_of_the_update(cluster):
    start(cluster)
    update(cluster, delay_ns=60 * SECOND)
    cluster.obey()
    old = next(task for task in cluster.running("web") if task.revision == 1)
    cluster.report(old, TASK_STATE_FAILED)
    assert status(cluster).state == UPDATE_STATE_UPDATING
    assert status(cluster).failures == 0


def test_a_restart_of_a_failed_task_is_not_counted_again(cluster):
    start(cluster)
    update(cluster, max_failure_ratio=0.25)
    fail_the_new_one(cluster)
    assert status(cluster).failures == 1
    assert status(cluster).state == UPDATE_STATE_UPDATING, "one of four is tolerated"
    cluster.pass_time(1.5)
    again = [task for task in new_ones(cluster) if not task.by_update]
    cluster.report(again[0], TASK_STATE_FAILED)
    assert status(cluster).failures == 1


def test_more_failures_than_the_ratio_pause(cluster):
    start(cluster)
    update(cluster, max_failure_ratio=0.25)
    fail_the_new_one(cluster)
    fail_the_new_one(cluster)
    assert status(cluster).failures == 2
    assert status(cluster).state == UPDATE_STATE_PAUSED


def test_continue_goes_on_whatever_fails(cluster):
    start(cluster)
    update(cluster, failure_action=UPDATE_FAILURE_ACTION_CONTINUE)
    for _ in range(4):
        fail_the_new_one(cluster)
    assert revisions(cluster) == [2, 2, 2, 2]
    cluster.pass_time(8)
    assert status(cluster).state == UPDATE_STATE_COMPLETED


def test_an_update_with_nothing_new_goes_on_with_a_paused_one(cluster):
    start(cluster)
    update(cluster)
    fail_the_new_one(cluster)
    cluster.resume("web")
    cluster.pass_time(10)
    assert revisions(cluster) == [2, 2, 2, 2]
    assert status(cluster).state == UPDATE_STATE_COMPLETED


def test_rollback_ends_at_the_old_spec(cluster):
    start(cluster)
    kept = {task.id for task in cluster.live("web")}
    update(cluster, failure_action=BACK)
    failed = fail_the_new_one(cluster)
    assert image(cluster) == "one"
    assert status(cluster).state == UPDATE_STATE_ROLLBACK_STARTED
    assert status(cluster).message == (
        f"update rolled back due to failure or early termination of task {failed.id}"
    )
    assert cluster.store.service("web").previous_revision == 0
    cluster.pass_time(10)
    assert status(cluster).state == UPDATE_STATE_ROLLBACK_COMPLETED
    assert status(cluster).message == "rollback completed"
    assert revisions(cluster) == [1, 1, 1, 1]
    assert len(kept & {task.id for task in cluster.live("web")}) == 3
    assert cluster.run() == 0


def test_a_rollback_is_never_rolled_back(cluster):
    start(cluster)
    update(cluster, failure_action=BACK, parallelism=2, monitor_ns=60 * SECOND)
    cluster.obey()
    cluster.report(new_ones(cluster)[0], TASK_STATE_FAILED)
    assert status(cluster).state == UPDATE_STATE_ROLLBACK_STARTED
    fail_the_new_one(cluster)
    assert status(cluster).state == UPDATE_STATE_ROLLBACK_PAUSED
    assert status(cluster).message.startswith("rollback paused due to failure")
    assert image(cluster) == "one"


def test_without_a_previous_spec_it_pauses_and_says_so(cluster):
    start(cluster)
    update(cluster, failure_action=BACK)
    fail_the_new_one(cluster)
    cluster.pass_time(10)
    service = cluster.store.service("web")
    assert (service.previous_revision, image(cluster)) == (0, "one")
    cluster.update_service("web", spec(cluster, "three", failure_action=BACK))
    fail_the_new_one(cluster)
    assert image(cluster) == "one", "one previous spec is always there after an update"


def test_start_first_keeps_the_old_task_of_a_slot_whose_new_one_fails(cluster):
    start(cluster)
    before = {task.id for task in cluster.live("web")}
    update(cluster, order=1, failure_action=BACK, rollback=UpdateConfig(parallelism=1, order=1))
    (new,) = [task for task in new_ones(cluster) if task.by_update]
    cluster.report(new, TASK_STATE_FAILED)
    assert before <= {task.id for task in cluster.running("web")}
    cluster.pass_time(10)
    assert status(cluster).state == UPDATE_STATE_ROLLBACK_COMPLETED
    assert {task.id for task in cluster.live("web")} == before


def test_two_that_fail_at_once_leave_their_old_tasks_alone(cluster):
    """The simulator's seed 99120: the second one's slot got a task of the old spec beside the old
    task."""
    start(cluster)
    before = {task.id for task in cluster.live("web")}
    update(cluster, order=1, parallelism=2, failure_action=BACK)
    cluster.slow = True
    for new in [task for task in new_ones(cluster) if task.by_update]:
        cluster.report(new, TASK_STATE_FAILED)
    cluster.drop()
    assert image(cluster) == "one"
    cluster.pass_time(10)
    assert {task.id for task in cluster.live("web")} == before


def test_start_first_and_paused_the_old_task_runs_on(cluster):
    start(cluster)
    before = {task.id for task in cluster.live("web")}
    update(cluster, order=1)
    for _ in range(3):
        (new,) = new_ones(cluster)
        cluster.report(new, TASK_STATE_FAILED)
        cluster.now += 1.1
        for name in "abc":
            cluster.revive(name)
    assert status(cluster).state == UPDATE_STATE_PAUSED
    assert before <= {task.id for task in cluster.running("web")}


def test_a_rollback_by_hand_and_back_again(cluster):
    start(cluster)
    update(cluster)
    cluster.pass_time(10)
    cluster.roll_back("web")
    assert status(cluster).state == UPDATE_STATE_ROLLBACK_STARTED
    assert status(cluster).message == "manually requested rollback"
    assert image(cluster) == "one"
    cluster.pass_time(10)
    assert status(cluster).state == UPDATE_STATE_ROLLBACK_COMPLETED
    assert revisions(cluster) == [1, 1, 1, 1]
    cluster.roll_back("web")
    cluster.pass_time(10)
    assert image(cluster) == "two"
    assert revisions(cluster) == [2, 2, 2, 2]


def test_a_rollback_with_nothing_to_replace_is_complete_at_once(cluster):
    start(cluster)
    cluster.scale("web", 2)
    cluster.obey()
    cluster.roll_back("web")
    cluster.obey()
    assert status(cluster).state == UPDATE_STATE_ROLLBACK_COMPLETED
    assert len(cluster.running("web")) == 4


def test_a_rollback_goes_by_its_own_configuration(cluster):
    quick = UpdateConfig(parallelism=3, monitor_ns=SECOND)
    start(cluster, rollback=quick)
    update(cluster, rollback=quick)
    cluster.pass_time(10)
    cluster.roll_back("web")
    assert revisions(cluster) == [1, 1, 1, 2]


@pytest.mark.parametrize("seconds", [0, 3])
def test_a_new_leader_counts_on(cluster, seconds):
    start(cluster)
    update(cluster, max_failure_ratio=0.25)
    fail_the_new_one(cluster)
    cluster.fail_over()
    cluster.run()
    assert status(cluster).failures == 1
    fail_the_new_one(cluster)
    assert status(cluster).state == UPDATE_STATE_PAUSED
    cluster.fail_over()
    cluster.pass_time(seconds)
    assert revisions(cluster) == [1, 1, 2, 2]
    assert cluster.run() == 0


def test_a_new_leader_watches_and_completes(cluster):
    start(cluster)
    update(cluster)
    cluster.obey()
    assert revisions(cluster) == [2, 2, 2, 2]
    cluster.fail_over()
    cluster.pass_time(1)
    assert status(cluster).state == UPDATE_STATE_UPDATING
    cluster.pass_time(5)
    assert status(cluster).state == UPDATE_STATE_COMPLETED


def test_a_new_leader_keeps_to_the_delay(cluster):
    start(cluster)
    update(cluster, delay_ns=10 * SECOND)
    cluster.obey()
    assert revisions(cluster) == [1, 1, 1, 2]
    cluster.fail_over()
    cluster.pass_time(8)
    assert revisions(cluster) == [1, 1, 1, 2]
    cluster.pass_time(3)
    assert revisions(cluster) == [1, 1, 2, 2]


def test_the_slot_that_does_not_run_is_rolled_back_first(cluster):
    start(cluster)
    update(cluster, failure_action=BACK, parallelism=2)
    cluster.obey()
    broken = new_ones(cluster)[1]
    cluster.report(broken, TASK_STATE_FAILED)
    (first,) = [task for task in new_ones(cluster) if task.by_update]
    assert first.slot == broken.slot


def test_a_node_that_goes_down_is_no_failure_and_keeps_the_turn(cluster):
    start(cluster)
    update(cluster)
    (new,) = new_ones(cluster)
    for old in cluster.tasks("web"):
        if old.slot == new.slot and old.id != new.id:
            cluster.report(old, TASK_STATE_SHUTDOWN)
    cluster.say_goodbye(new.node_id)
    assert status(cluster).failures == 0
    outdated_and_up = [t for t in cluster.running("web") if t.revision == 1]
    assert len(outdated_and_up) + len(new_ones(cluster)) >= 3
    (successor,) = [task for task in new_ones(cluster) if task.slot == new.slot]
    assert successor.by_update
    assert successor.status.state < TASK_STATE_RUNNING


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_neither_holds_an_update_up_nor_ends_it_early(cluster, by_s):
    start(cluster, replicas=1)
    update(cluster, replicas=1)
    cluster.obey()
    cluster.run()
    assert status(cluster).state == UPDATE_STATE_UPDATING, "its last task is watched"
    cluster.clock_set_s = by_s
    cluster.pass_time(3)
    assert status(cluster).state == UPDATE_STATE_UPDATING
    cluster.pass_time(4)
    assert status(cluster).state == UPDATE_STATE_COMPLETED
