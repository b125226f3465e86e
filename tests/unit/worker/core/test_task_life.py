"""Stories of one task, as its manager and its runtime see it."""

from __future__ import annotations

import pytest

from swarm.api.v1.service_pb2 import EndpointSpec, ServiceSpec
from swarm.api.v1.task_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_READY,
    TASK_STATE_REJECTED,
    TASK_STATE_REMOVE,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    TASK_STATE_STARTING,
)
from swarm.api.v1.types_pb2 import PUBLISH_MODE_HOST, PortConfig
from swarm.worker.core import effects as do
from swarm.worker.core import events as ev
from swarm.worker.runtime.port import HealthStatus


def published(**fields):
    port = PortConfig(target_port=80, published_port=8080, **fields)
    return ServiceSpec(endpoint=EndpointSpec(ports=[port]))


def test_a_task_runs_and_tells_so(world):
    world.assign("t1")
    world.pass_time(1)
    status = world.status("t1")
    assert status.state == TASK_STATE_RUNNING
    assert status.message == "started"
    assert status.container.container_id == "c-t1"
    assert status.container.pid == 4711
    assert world.containers["t1"].starts == 1


def test_a_task_that_is_to_be_ready_waits_for_its_start(world):
    world.assign("t1", desired=TASK_STATE_READY)
    world.pass_time(5)
    assert world.status("t1").state == TASK_STATE_READY
    assert world.containers["t1"].starts == 0
    world.want("t1", TASK_STATE_RUNNING)
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_RUNNING


@pytest.mark.parametrize(
    ("code", "fields", "state", "message", "err"),
    [
        (0, {}, TASK_STATE_COMPLETE, "finished", ""),
        (1, {}, TASK_STATE_FAILED, "started", "task: non-zero exit (1)"),
        (
            137,
            {"oom": True},
            TASK_STATE_FAILED,
            "started",
            "task: non-zero exit (137): out of memory",
        ),
        (
            None,
            {"message": "the monitor died"},
            TASK_STATE_FAILED,
            "started",
            "task: the monitor died",
        ),
    ],
)
def test_the_end_of_a_task_is_told_in_docker_words(world, code, fields, state, message, err):
    world.assign("t1")
    world.pass_time(1)
    world.exit("t1", code, **fields)
    world.pass_time(1)
    status = world.status("t1")
    assert (status.state, status.message, status.err) == (state, message, err)
    assert status.container.HasField("exit_code") == (code is not None)
    assert "t1" in world.containers, "kept for its logs"
    world.withdraw("t1")
    world.pass_time(1)
    assert "t1" not in world.containers
    assert ("task", "t1") not in world.rows


def test_what_can_never_run_is_rejected(world):
    world.prepare_fails["t1"] = ("No such image: nothing:latest", True)
    world.assign("t1")
    world.pass_time(1)
    status = world.status("t1")
    assert (status.state, status.message) == (TASK_STATE_REJECTED, "preparing")
    assert status.err == "No such image: nothing:latest"


def test_a_placeholder_that_means_nothing_is_rejected(world):
    spec = ServiceSpec()
    spec.task.container.env.append("A={{.Node.Colour}}")
    world.assign("t1", spec)
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_REJECTED
    assert "{{.Node.Colour}}" in world.status("t1").err
    assert not world.of(do.Prepare)


def test_a_start_that_fails_fails_the_task(world):
    world.start_fails["t1"] = ("exec: no such file", False, 127)
    world.assign("t1")
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_FAILED
    assert world.status("t1").err == "starting container failed: exec: no such file"
    assert world.status("t1").container.exit_code == 127


def test_a_task_with_a_health_check_runs_once_it_is_healthy(world):
    world.health["t1"] = HealthStatus.STARTING
    world.assign("t1")
    world.pass_time(10)
    assert world.status("t1").state == TASK_STATE_STARTING
    world.report_health("t1", HealthStatus.HEALTHY)
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_RUNNING


def test_an_unhealthy_task_is_stopped_and_fails(world):
    world.assign("t1", published())
    world.pass_time(1)
    world.report_health("t1", HealthStatus.UNHEALTHY)
    world.settle()
    assert world.of(do.Stop)[0].grace_s == 10
    world.pass_time(1)
    status = world.status("t1")
    assert (status.state, status.err) == (TASK_STATE_FAILED, "task: unhealthy container")
    assert status.container.exit_code == 143


def test_a_stopped_task_is_shut_down_whatever_its_exit_code(world):
    world.assign("t1")
    world.pass_time(1)
    world.want("t1", TASK_STATE_SHUTDOWN)
    world.pass_time(1)
    status = world.status("t1")
    assert (status.state, status.message, status.err) == (TASK_STATE_SHUTDOWN, "shutdown", "")
    assert status.container.exit_code == 143
    assert "t1" in world.containers


def test_a_task_that_was_never_started_shuts_down_at_once(world):
    world.held = {do.Prepare}
    world.assign("t1")
    world.pass_time(1)
    world.want("t1", TASK_STATE_REMOVE)
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_SHUTDOWN
    assert world.of(do.CancelPrepare)
    world.withdraw("t1")
    world.pass_time(1)
    assert not world.of(do.Remove), "the preparing is still under way"
    world.release(do.Prepare)
    world.pass_time(1)
    assert not world.of(do.Start)
    assert "t1" not in world.containers


def test_a_task_stopped_while_it_starts_is_stopped_after_it(world):
    world.held = {do.Start}
    world.assign("t1")
    world.pass_time(1)
    world.want("t1", TASK_STATE_SHUTDOWN)
    world.pass_time(1)
    assert not world.of(do.Stop)
    world.release(do.Start)
    world.pass_time(1)
    assert world.states("t1")[-1] == TASK_STATE_SHUTDOWN
    assert world.containers["t1"].exit is not None


def test_it_leaves_the_rotation_before_it_is_stopped(world):
    world.assign("t1", published())
    world.pass_time(1)
    assert world.status("t1").endpoints[0].port == 50000
    world.held = {do.ClosePorts}
    world.want("t1", TASK_STATE_SHUTDOWN)
    world.pass_time(0.1)
    assert not world.of(do.ClosePorts), "other nodes still send connections"
    world.pass_time(0.2)
    close = world.of(do.ClosePorts)[0]
    assert (close.drain_s, close.cut) == (5.0, False)
    assert not world.of(do.Stop)
    world.pass_time(3)
    world.release(do.ClosePorts)
    assert world.of(do.Stop)[0].grace_s == pytest.approx(7, abs=0.2)
    world.pass_time(1)
    assert [c.cut for c in world.of(do.ClosePorts)] == [False, True]
    assert world.status("t1").state == TASK_STATE_SHUTDOWN
    assert not world.status("t1").endpoints


def test_running_is_told_with_the_ports_open(world):
    world.held = {do.OpenPorts}
    world.assign("t1", published())
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_STARTING
    world.release(do.OpenPorts)
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_RUNNING
    assert [(e.target_port, e.host, e.port) for e in world.status("t1").endpoints] == [
        (80, "10.0.0.1", 50000)
    ]


def test_a_host_port_that_is_taken_fails_the_task(world):
    world.held = {do.OpenPorts}
    world.assign("t1", published(publish_mode=PUBLISH_MODE_HOST))
    world.pass_time(1)
    assert world.of(do.OpenPorts)[0].ports[0].host_port == 8080
    world.pending.clear()
    world.give(ev.PortsFailed("t1", "port 8080/tcp is in use on this node"))
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_FAILED
    assert world.status("t1").err == "port 8080/tcp is in use on this node"
    assert world.containers["t1"].exit is not None


def test_what_fails_in_stopping_and_removing_is_tried_again(world):
    world.assign("t1")
    world.pass_time(1)
    world.held = {do.Stop, do.Remove}
    world.withdraw("t1")
    world.pass_time(0)
    world.pending.clear()
    world.give(ev.StopFailed("t1", "the engine does not answer"))
    world.pass_time(2)
    assert len(world.of(do.Stop)) == 2
    world.release(do.Stop)
    world.pending.clear()
    world.give(ev.RemoveFailed("t1", "the engine does not answer"))
    world.pass_time(2)
    world.release(do.Remove)
    assert "t1" not in world.containers
    assert "t1" not in world.core.tasks


def test_a_failing_wait_is_taken_up_again(world):
    world.assign("t1")
    world.pass_time(1)
    world.waits.clear()
    world.give(ev.WaitFailed("t1", "connection reset"))
    world.pass_time(2)
    world.exit("t1", 0)
    world.pass_time(1)
    assert world.status("t1").state == TASK_STATE_COMPLETE
