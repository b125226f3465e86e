"""When a service has converged, and what is said while it has not."""

import pytest

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1 import service_pb2, task_pb2
from swarm.cli.waiting import outlook

RUNNING = task_pb2.TASK_STATE_RUNNING
SHUTDOWN = task_pb2.TASK_STATE_SHUTDOWN


def view(replicas: int | None = 2, revision: int = 1, pending: str = "") -> pb.ServiceView:
    """`replicas` None: a global service."""
    made = pb.ServiceView(
        service=service_pb2.Service(
            id="s", task_revision=revision, pending=service_pb2.PendingReason(message=pending)
        )
    )
    if replicas is None:
        getattr(made.spec, "global").SetInParent()
    else:
        made.spec.replicated.replicas = replicas
    return made


def task(
    slot: int, state: int = RUNNING, desired: int = RUNNING, revision: int = 1, node: str = "n"
) -> task_pb2.Task:
    made = task_pb2.Task(
        id=f"t{slot}{state}{revision}{node}",
        slot=slot,
        node_id=node,
        revision=revision,
        desired_state=desired,  # type: ignore[arg-type]
    )
    made.status.state = state  # type: ignore[assignment]
    made.meta.created_at_ns = revision
    return made


@pytest.mark.parametrize(
    ("replicas", "tasks", "converged"),
    [
        (2, [task(1), task(2)], True),
        (0, [], True),
        (2, [task(1)], False),
        (2, [task(1), task(2, task_pb2.TASK_STATE_STARTING)], False),
        (1, [task(1), task(2)], False),
        (1, [task(1), task(2, RUNNING, task_pb2.TASK_STATE_REMOVE)], True),
        (1, [task(1), task(1, task_pb2.TASK_STATE_FAILED, SHUTDOWN)], True),
        (None, [], False),
        (None, [task(0, node="a"), task(0, node="b")], True),
        (None, [task(0, node="a"), task(0, task_pb2.TASK_STATE_PREPARING, node="b")], False),
    ],
)
def test_converged(replicas, tasks, converged) -> None:
    assert outlook(view(replicas), tasks).converged is converged


def test_tasks_of_the_old_spec_do_not_count() -> None:
    seen = outlook(view(2, revision=2), [task(1), task(2, revision=2)])
    assert (seen.view.running, seen.view.total, seen.converged) == (1, 2, False)


def test_slots_are_counted_from_one_whatever_their_numbers() -> None:
    seen = outlook(view(3), [task(7), task(4, task_pb2.TASK_STATE_PREPARING)])
    assert [(slot.name, slot.state) for slot in seen.view.slots] == [
        ("1/3", "preparing"),
        ("2/3", "running"),
        ("3/3", ""),
    ]


def test_a_reason_is_shown_once() -> None:
    waiting = task(1, task_pb2.TASK_STATE_PENDING)
    waiting.status.err = "no suitable node"
    seen = outlook(view(1, pending="no suitable node"), [waiting])
    assert (seen.view.message, seen.view.slots[0].error) == ("", "no suitable node")


def test_why_it_waits_is_said_and_the_service_is_left(manager, cluster, swarmctl) -> None:
    reason = "no suitable node (scheduling constraints not satisfied on 2 nodes)"

    def place(state, service_id) -> None:
        state.services[service_id].pending.message = reason

    cluster.place = place
    result = swarmctl("service", "create", "--name", "web", "--wait-timeout", "300ms", "nginx")
    assert result.code == 1
    assert f"pending: {reason}\n" in result.out
    (service_id,) = cluster.services
    assert result.err == (
        f"service {service_id} has not converged after 300ms: 0 out of 1 tasks are running: "
        f"{reason}. The service is left as it is and goes on trying: see `swarmctl service ps "
        f"{service_id}`, or remove it with `swarmctl service rm {service_id}`\n"
    )


def test_a_tasks_error_is_shown(manager, cluster, swarmctl) -> None:
    def place(state, service_id) -> None:
        service = state.services[service_id]
        state.add_task(service, 1, "m1", task_pb2.TASK_STATE_PENDING, err="no such image: x")

    cluster.place = place
    result = swarmctl("service", "create", "--wait-timeout", "200ms", "x")
    assert "1/1: no such image: x\n" in result.out
    assert "tasks are running: no such image: x." in result.err


def test_how_the_last_attempt_failed_is_known_while_the_next_one_waits() -> None:
    failed = [task(slot, task_pb2.TASK_STATE_REJECTED, SHUTDOWN) for slot in (1, 2)]
    for at, old in enumerate(failed):
        old.status.err, old.status.timestamp_ns = f"no such image: x{old.slot}", at
    waiting = task(1, task_pb2.TASK_STATE_ASSIGNED, task_pb2.TASK_STATE_READY)
    waiting.id = "t1new"
    assert outlook(view(2), [*failed, waiting, task(2)]).failure == "no such image: x1"
    assert outlook(view(2, revision=2), failed).failure == "", "of an older spec"


def test_a_service_that_keeps_failing_is_given_up_with_the_reason(
    manager, cluster, swarmctl
) -> None:
    def place(state, service_id) -> None:
        service = state.services[service_id]
        failed = task_pb2.TASK_STATE_FAILED
        state.add_task(service, 1, "m1", failed, SHUTDOWN, err="task: non-zero exit (1)")
        state.add_task(service, 1, "m1", task_pb2.TASK_STATE_ASSIGNED)

    cluster.place = place
    result = swarmctl("service", "create", "--wait-timeout", "200ms", "x")
    assert "tasks are running: task: non-zero exit (1)." in result.err


def test_a_service_removed_while_one_waits(manager, cluster, swarmctl) -> None:
    cluster.place = lambda *_: None
    enter = manager._enter

    def removed_at_the_watch(name, request, context) -> None:
        enter(name, request, context)
        if name == "Watch":
            with cluster.changed:
                cluster.services.clear()
                cluster.revision += 1
                cluster.changed.notify_all()

    manager._enter = removed_at_the_watch
    result = swarmctl("service", "create", "--name", "web", "nginx")
    assert result.code == 1
    assert "was removed while waiting for it" in result.err


def test_ctrl_c_ends_the_waiting_and_says_that_the_work_goes_on(
    manager, cluster, swarmctl, monkeypatch
) -> None:
    import swarm.cli.waiting as waiting

    cluster.place = lambda *_: None

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(waiting, "_wait", interrupted)
    result = swarmctl("service", "create", "--name", "web", "nginx")
    (service_id,) = cluster.services
    assert result.code == 0
    assert result.out.endswith(
        "Operation continuing in background.\n"
        f"Use `swarmctl service ps {service_id}` to check progress.\n"
    )


def updating(state: int, message: str = "why", **config: int) -> pb.ServiceView:
    made = view(1, revision=2)
    made.service.update.state = state  # type: ignore[assignment]
    made.service.update.message = message
    made.spec.update.monitor_ns = 5_000_000_000
    made.spec.rollback.monitor_ns = 7_000_000_000
    return made


def test_an_update_that_is_watched_has_not_converged() -> None:
    seen = outlook(updating(service_pb2.UPDATE_STATE_UPDATING), [task(1, revision=2)])
    assert (seen.converged, seen.view.verify_seconds, seen.ended) == (False, 5, "")
    seen = outlook(updating(service_pb2.UPDATE_STATE_COMPLETED), [task(1, revision=2)])
    assert (seen.converged, seen.view.verify_seconds, seen.ended) == (True, None, "")


@pytest.mark.parametrize(
    ("state", "asked_back", "ended"),
    [
        (service_pb2.UPDATE_STATE_PAUSED, False, "service update paused: why"),
        (service_pb2.UPDATE_STATE_ROLLBACK_PAUSED, True, "service rollback paused: why"),
        (service_pb2.UPDATE_STATE_ROLLBACK_COMPLETED, False, "service update rolled back: why"),
        (service_pb2.UPDATE_STATE_ROLLBACK_COMPLETED, True, ""),
        (service_pb2.UPDATE_STATE_ROLLBACK_STARTED, False, ""),
    ],
)
def test_waiting_ends_where_an_update_does_not_come_through(state, asked_back, ended) -> None:
    assert outlook(updating(state), [task(1, revision=2)], asked_back=asked_back).ended == ended


def test_a_rollback_says_why() -> None:
    seen = outlook(updating(service_pb2.UPDATE_STATE_ROLLBACK_STARTED), [task(1, revision=3)])
    assert seen.view.rollback
    assert seen.view.rollback_message == "why"
    assert seen.view.running == 0, "tasks of the spec that failed do not count"


def job_view(total: int | None = 3, concurrent: int = 2) -> pb.ServiceView:
    """`total` None: a global job."""
    made = pb.ServiceView(service=service_pb2.Service(id="s", revision=2, task_revision=2))
    if total is None:
        made.spec.global_job.SetInParent()
    else:
        made.spec.replicated_job.total_completions = total
        made.spec.replicated_job.max_concurrent = concurrent
    return made


DONE = task_pb2.TASK_STATE_COMPLETE


def test_a_job_has_converged_when_every_slot_is_complete() -> None:
    tasks = [task(1, DONE, SHUTDOWN, 2), task(2, RUNNING, RUNNING, 2), task(3, DONE, SHUTDOWN, 1)]
    seen = outlook(job_view(), tasks)
    assert seen.view.job
    assert (seen.view.running, seen.view.total, seen.converged) == (1, 3, False)
    assert (seen.view.active, seen.view.active_max) == (1, 2)
    tasks += [task(2, DONE, SHUTDOWN, 2), task(3, DONE, SHUTDOWN, 2)]
    assert outlook(job_view(), tasks).converged


def test_a_slot_that_was_complete_twice_counts_once() -> None:
    tasks = [task(1, DONE, SHUTDOWN, 2, node) for node in "ab"]
    assert outlook(job_view(2), tasks).view.running == 1


def test_a_global_job_counts_nodes() -> None:
    tasks = [task(0, DONE, SHUTDOWN, 2, "a"), task(0, RUNNING, RUNNING, 2, "b")]
    assert (outlook(job_view(None), tasks).view.running, outlook(job_view(None), []).converged) == (
        1,
        False,
    )
    assert outlook(job_view(None), tasks[:1]).converged
