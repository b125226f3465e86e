"""`swarmctl run`: what is typed, as a service of one replica."""

import pytest

from swarm.api.v1.control_pb2 import TaskView, WatchEvent, WatchResponse
from swarm.api.v1.service_pb2 import MOUNT_TYPE_BIND, MOUNT_TYPE_VOLUME, RESTART_CONDITION_NONE
from swarm.api.v1.task_pb2 import TASK_STATE_FAILED, TASK_STATE_RUNNING
from swarm.cli.container import RUN_LABEL, _mount, _Running, _spec, _status
from swarm.cli.errors import CliError
from swarm.cli.portflag import parse_publish

FLAGS = {
    "name": "one", "env": ["A=1", "A=2"], "publish": [parse_publish("8080:80")],
    "volume": ["/etc:/host:ro"], "entrypoint": "sh", "workdir": None, "user": None,
}  # fmt: skip


def test_one_task_that_is_not_restarted() -> None:
    spec = _spec("web:1", ["-c", "true"], FLAGS)
    container = spec.task.container
    assert spec.annotations.name == "one"
    assert RUN_LABEL in spec.annotations.labels
    assert spec.replicated.replicas == 1
    assert spec.task.restart.condition == RESTART_CONDITION_NONE
    assert (list(container.command), list(container.args)) == (["sh"], ["-c", "true"])
    assert list(container.env) == ["A=2"]
    assert spec.endpoint.ports[0].published_port == 8080


def test_volumes_as_docker_run_takes_them() -> None:
    bind = _mount("/etc:/host:ro")
    assert (bind.type, bind.source, bind.target, bind.read_only) == (
        MOUNT_TYPE_BIND, "/etc", "/host", True,
    )  # fmt: skip
    assert (_mount("data:/data").type, _mount("/data").source) == (MOUNT_TYPE_VOLUME, "")
    for wrong in ("data:data", "/a:/b:what", "a:/b:ro:x", "relative"):
        with pytest.raises(CliError, match="invalid volume specification"):
            _mount(wrong)


def test_stop_waits_for_the_last_task_that_runs() -> None:
    def event(task_id: str, state: int, *, deleted: bool = False) -> WatchEvent:
        made = WatchEvent(deleted=deleted)
        made.object.task.id, made.object.task.status.state = task_id, state
        return made

    seen = _Running()
    a, b = event("a", TASK_STATE_RUNNING), event("b", TASK_STATE_RUNNING)
    assert not seen.is_none(WatchResponse(events=[event("b", TASK_STATE_FAILED)]))
    assert not seen.is_none(WatchResponse(events=[a, b], current=True))
    assert not seen.is_none(WatchResponse(events=[event("a", TASK_STATE_FAILED)]))
    assert seen.is_none(WatchResponse(events=[event("b", TASK_STATE_RUNNING, deleted=True)]))
    seen.begin_anew()
    assert not seen.is_none(WatchResponse())
    assert seen.is_none(WatchResponse(current=True))


def test_status_is_dockers() -> None:
    view = TaskView()
    view.task.status.state = TASK_STATE_RUNNING
    assert _status(view).startswith("Up ")
    view.task.status.state = TASK_STATE_FAILED
    view.task.status.container.exit_code = 3
    assert _status(view).startswith("Exited (3) ")
    assert _status(None) == "Exited"
