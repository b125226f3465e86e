"""Task."""

from __future__ import annotations

from swarm.api.v1.control_pb2 import TaskView
from swarm.api.v1.task_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_REMOVE,
    TASK_STATE_RUNNING,
    TaskStatus,
)
from swarm.api.v1.types_pb2 import PUBLISH_MODE_HOST, PortConfig
from swarm.dockerapi.json_values import Json, meta_to_json, rfc3339_nano, without_empty
from swarm.dockerapi.service import (
    generic_to_json,
    job_iteration,
    ports_to_json,
    task_spec_to_json,
)
from swarm.dockerapi.words import TASK_STATE
from swarm.manager.core.modes import is_job


def task_to_json(view: TaskView) -> Json:
    task = view.task
    shown: Json = {"ID": task.id} | meta_to_json(task.meta) | {"Labels": {}}
    shown["Spec"] = task_spec_to_json(view.spec.task)
    shown |= without_empty(
        {"ServiceID": task.service_id, "Slot": task.slot, "NodeID": task.node_id}
    )
    shown["Status"] = _status_to_json(task.status, host_ports(view))
    shown["DesiredState"] = desired_state(view)
    if task.assigned_generic:
        shown["GenericResources"] = generic_to_json(task.assigned_generic)
    if is_job(view.spec):
        shown["JobIteration"] = job_iteration(task.revision)
    return shown


def desired_state(view: TaskView) -> str:
    """What the task is to reach; Docker's word for a job's tasks is complete, not running."""
    task = view.task
    done = task.status.state == TASK_STATE_COMPLETE and task.desired_state < TASK_STATE_REMOVE
    if is_job(view.spec) and (done or task.desired_state == TASK_STATE_RUNNING):
        return TASK_STATE.word(TASK_STATE_COMPLETE)
    return TASK_STATE.word(task.desired_state)


def host_ports(view: TaskView) -> list[PortConfig]:
    """Ports of the task's own node that lead to it: those published in host mode, while it
    runs."""
    if view.task.status.state != TASK_STATE_RUNNING:
        return []
    return [p for p in view.spec.endpoint.ports if p.publish_mode == PUBLISH_MODE_HOST]


def _status_to_json(status: TaskStatus, ports: list[PortConfig]) -> Json:
    shown: Json = {
        "Timestamp": rfc3339_nano(status.timestamp_ns),
        "State": TASK_STATE.word(status.state),
    }
    shown |= without_empty({"Message": status.message, "Err": status.err})
    if status.HasField("container"):
        shown["ContainerStatus"] = {
            "ContainerID": status.container.container_id,
            "PID": status.container.pid,
            "ExitCode": status.container.exit_code,
        }
    shown["PortStatus"] = without_empty({"Ports": ports_to_json(ports)})
    return shown
