"""Stories of an agent with its tasks: restarts, adoption, strays, limits, and its end."""

from __future__ import annotations

from swarm.api.v1.dispatcher_pb2 import Assignments, IngressService
from swarm.api.v1.logs_pb2 import LogOptions, LogSubscription
from swarm.api.v1.service_pb2 import EndpointSpec, ServiceRevision, ServiceSpec
from swarm.api.v1.task_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    Task,
)
from swarm.api.v1.types_pb2 import PortConfig
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev
from swarm.worker.runtime.port import ContainerState


def restart(world):
    world.crash()
    world.start()
    world.pass_time(2)


def test_nothing_is_prepared_or_started_before_it_is_durable(world):
    world.held = {do.Save}
    world.assign("t1")
    world.pass_time(5)
    assert not world.of(do.Prepare)
    world.release(do.Save)
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_RUNNING


def test_a_database_that_cannot_be_written_holds_up_starts_only(world):
    world.assign("t1")
    world.pass_time(1)
    world.held = {do.Save}
    world.assign("t2")
    world.pass_time(0)
    save = world.of(do.Save)[-1]
    world.pending.clear()
    world.give(ev.SaveFailed(save.ticket, "disk full"))
    assert any("disk full" in warning.message for warning in world.of(do.Warn))
    world.pass_time(2)
    assert world.status("t1").state == TASK_STATE_RUNNING
    world.release(do.Save)
    world.pass_time(1)
    assert world.status("t2").state == TASK_STATE_RUNNING


def test_a_restarted_agent_finds_its_tasks_again(world):
    spec = ServiceSpec(endpoint=EndpointSpec(ports=[PortConfig(target_port=80)]))
    world.assign("t1", spec)
    world.pass_time(1)
    restart(world)
    assert world.containers["t1"].starts == 1
    assert world.status("t1").state == TASK_STATE_RUNNING
    assert world.open_ports["t1"][0].preferred == 50000, "other nodes know this port"
    world.exit("t1", 7)
    world.pass_time(1)
    assert world.status("t1").err == "task: non-zero exit (7)"


def test_how_a_task_ended_meanwhile_is_not_lost(world):
    world.assign("t1")
    world.assign("t2")
    world.pass_time(1)
    world.crash()
    world.exit("t1", 0)
    world.exit("t2", 3)
    world.start()
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_COMPLETE
    assert world.status("t2").err == "task: non-zero exit (3)"
    assert world.status("t2").container.exit_code == 3


def test_tasks_are_taken_up_again_without_any_manager(world):
    world.assign("t1")
    world.pass_time(1)
    world.manager_up = False
    restart(world)
    assert world.waits == {"t1"}


def test_a_container_that_vanished_is_not_started_again(world):
    world.assign("t1")
    world.pass_time(1)
    world.crash()
    del world.containers["t1"]
    world.start()
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_FAILED
    assert world.status("t1").err == "task: its container is gone from this node"


def test_a_start_that_may_have_happened_is_not_repeated(world):
    """Crash after the intent was saved: before the act, and after it."""
    for task_id, happened in (("t1", False), ("t2", True)):
        world.held = {do.Start}
        world.assign(task_id)
        world.pass_time(1)
        if happened:
            world.containers[task_id].state = ContainerState.RUNNING
            world.containers[task_id].starts = 1
        world.held = set()
        restart(world)
        assert world.containers[task_id].starts == 1
        assert world.status(task_id).state == TASK_STATE_RUNNING


def test_strays_go_once_a_manager_has_spoken(world):
    world.assign("t1")
    world.pass_time(1)
    world.crash()
    world.rows.clear()
    world.manager_up = False
    world.start()
    world.pass_time(5)
    assert world.containers["t1"].state is ContainerState.RUNNING
    world.manager.tasks.clear()
    world.manager_up = True
    world.pass_time(5)
    assert not world.containers
    assert not world.core.tasks


def test_a_lost_database_is_made_up_for_by_the_manager(world):
    world.assign("t1")
    world.pass_time(1)
    world.crash()
    world.rows.clear()
    world.start()
    world.pass_time(2)
    assert world.containers["t1"].starts == 1
    assert world.states("t1")[-1] == TASK_STATE_RUNNING
    assert world.waits == {"t1"}


def test_a_runtime_that_does_not_answer_at_start_is_asked_again(new_world):
    world = new_world(1)
    world.held = {do.ListRuntime}
    world.start()
    world.assign("t1")
    world.pass_time(1)
    assert not world.of(do.Prepare)
    world.pending.clear()
    world.give(ev.RuntimeListFailed("no engine"))
    world.pass_time(2)
    assert len(world.of(do.ListRuntime)) == 2
    world.release(do.ListRuntime)
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_RUNNING


def test_few_are_prepared_and_started_at_a_time(world):
    world.held = {do.Prepare, do.Start}
    for n in range(10):
        world.assign(f"t{n}")
    world.pass_time(1)
    assert len(world.of(do.Prepare)) == 4
    world.release(do.Prepare)
    assert len(world.of(do.Prepare)) == 10
    assert len(world.of(do.Start)) == 4
    world.release(do.Start)
    world.pass_time(1)
    assert all(world.status(f"t{n}").state == TASK_STATE_RUNNING for n in range(10))


def test_tasks_that_a_complete_set_does_not_name_are_removed(world):
    world.assign("t1")
    world.assign("t2")
    world.pass_time(1)
    del world.manager.tasks["t1"]
    world.manager.revision += 1
    world.send_complete()
    world.pass_time(1)
    assert list(world.containers) == ["t2"]
    assert ("revision", "svc-t2.1") in world.rows


def test_older_assignments_are_refused(world):
    world.assign("t1")
    world.pass_time(1)
    world.manager.revision = 1
    world.manager.tasks.clear()
    world.send_complete()
    world.pass_time(3)
    assert world.containers["t1"].state is ContainerState.RUNNING
    assert len(world.of(do.Disconnect)) >= 1
    world.manager.incarnation = 2
    world.pass_time(5)
    assert not world.containers, "a restored cluster counts anew"


def test_a_spec_of_a_cluster_that_was_set_back_is_replaced_by_its_namesake(world):
    """A backup is restored, and the service is updated another way: to the same number."""
    world.assign("t1")
    world.pass_time(1)
    world.manager.incarnation, world.manager.revision = 2, 1
    world.manager.tasks.clear()
    spec = ServiceSpec()
    spec.task.container.image = "of-the-new-cluster"
    world.assign("t1", spec)
    world.pass_time(5)
    row = ServiceRevision.FromString(world.rows["revision", "svc-t1.1"])
    assert row.spec.task.container.image == "of-the-new-cluster"


def test_a_restarted_agent_still_refuses_older_assignments(world):
    world.assign("t1")
    world.pass_time(1)
    world.manager.revision = 1
    world.manager.tasks.clear()
    restart(world)
    assert world.containers["t1"].state is ContainerState.RUNNING


def test_a_task_without_its_spec_ends_the_session(world):
    sessions = len(world.of(do.Connect))
    world.receive(
        assignments=Assignments(incarnation=1, revision=9, tasks=[Task(id="t1", service_id="x")])
    )
    world.pass_time(2)
    assert len(world.of(do.Connect)) > sessions


def test_the_ingress_table_survives_a_restart_without_managers(world):
    service = IngressService(service_id="s1", ports=[PortConfig(target_port=80)])
    world.manager.ingress = [service]
    world.manager.revision += 1
    world.send_complete()
    world.settle()
    world.manager_up = False
    world.crash()
    world.done.clear()
    world.start()
    world.settle()
    assert world.of(do.UpdateIngress) == [do.UpdateIngress(True, [service])]


def test_a_service_that_publishes_nothing_any_more_is_forgotten(world):
    world.manager.ingress = [IngressService(service_id="s1", ports=[PortConfig(target_port=80)])]
    world.manager.revision += 1
    world.send_complete()
    gone = IngressService(service_id="s1")
    world.receive(assignments=Assignments(incarnation=1, revision=9, ingress=[gone]))
    world.settle()
    assert world.of(do.UpdateIngress)[-1] == do.UpdateIngress(False, [gone])
    assert ("ingress", "s1") not in world.rows


def test_stop_all_leaves_nothing_and_says_goodbye(world):
    world.assign("t1")
    world.assign("t2")
    world.pass_time(1)
    world.give(ev.StopAll())
    world.pass_time(3)
    assert not world.containers
    assert world.of(do.AllStopped)
    assert world.status("t1").state == TASK_STATE_SHUTDOWN
    assert world.manager.heard[-1].WhichOneof("kind") == "goodbye"
    world.pass_time(5)
    assert world.manager.heard[-1].WhichOneof("kind") == "goodbye"


def subscribe(world, *task_ids, **options):
    world.receive(
        log_subscription=LogSubscription(
            id="sub", task_ids=task_ids, options=LogOptions(stdout=True, **options)
        )
    )
    world.settle()


def log_ends(world):
    return [m.logs for m in world.manager.heard if m.HasField("logs")]


def test_logs_are_read_and_the_end_is_told(world):
    world.assign("t1")
    world.pass_time(1)
    subscribe(world, "t1")
    assert world.of(do.ReadLogs)[0].task_id == "t1"
    assert not log_ends(world)
    world.give(ev.LogsEnded("sub", "t1"))
    world.settle()
    assert [(end.done, end.error) for end in log_ends(world)] == [(True, "")]


def test_logs_of_a_task_to_come_are_followed_from_its_start(world):
    world.held = {do.Prepare}
    world.assign("t1")
    world.pass_time(1)
    subscribe(world, "t1", follow=True)
    assert not world.of(do.ReadLogs)
    world.release(do.Prepare)
    world.pass_time(1)
    assert len(world.of(do.ReadLogs)) == 1


def test_logs_of_unknown_tasks_end_with_a_reason(world):
    subscribe(world, "t9")
    assert log_ends(world)[0].done
    assert "t9" in log_ends(world)[0].error


def test_log_subscriptions_end_with_their_session(world):
    world.assign("t1")
    world.pass_time(1)
    subscribe(world, "t1", follow=True)
    world.give(ev.SessionClosed(world.manager.session, "reset"))
    assert world.of(do.StopLogs) == [do.StopLogs("sub")]


def test_taking_over_a_container_is_worth_more_than_one_attempt(world):
    world.assign("t1")
    world.pass_time(1)
    world.start_fails["t1"] = ("the engine does not answer", False)
    restart(world)
    assert world.containers["t1"].state is ContainerState.RUNNING
    assert len(world.of(do.Start)) > 2
    del world.start_fails["t1"]
    world.pass_time(10)
    assert world.waits == {"t1"}
    assert world.status("t1").state == TASK_STATE_RUNNING


def test_a_container_that_cannot_be_taken_over_at_all_is_stopped(world):
    world.assign("t1")
    world.pass_time(1)
    world.start_fails["t1"] = ("the engine does not answer", False)
    restart(world)
    world.pass_time(60)
    assert world.containers["t1"].state is ContainerState.EXITED
    assert "cannot take over" in world.status("t1").err
