"""What is reported of a task, in Docker's words."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.task_pb2 import PortEndpoint, TaskState, TaskStatus
from swarm.worker.runtime.port import Exit, Started


def next_status(
    previous: TaskStatus,
    state: TaskState.ValueType,
    at_ns: int,
    started: Started | None,
    endpoints: Sequence[PortEndpoint],
) -> TaskStatus:
    """The status of a later state; what is known of the container is carried along."""
    status = TaskStatus(state=state, timestamp_ns=at_ns, message=previous.message)
    if previous.HasField("container"):
        status.container.CopyFrom(previous.container)
    if started is not None:
        status.container.container_id = started.container_id
        status.container.pid = started.pid
    status.endpoints.extend(endpoints)
    return status


def exit_error(end: Exit) -> str:
    """Why a task failed that ended by itself (swarmkit agent/exec/errors.go, moby exitError)."""
    if end.exit_code is None:
        return f"task: {end.message or 'nobody saw how it ended'}"
    detail = "out of memory" if end.oom else end.message
    return f"task: non-zero exit ({end.exit_code})" + (f": {detail}" if detail else "")
