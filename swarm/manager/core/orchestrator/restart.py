"""Whether, and when, an ended task is followed by another (Docker: --restart-*)."""

from __future__ import annotations

from swarm.api.v1.service_pb2 import (
    RESTART_CONDITION_NONE,
    RESTART_CONDITION_ON_FAILURE,
    RestartPolicy,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_FAILED,
    TASK_STATE_REJECTED,
    Task,
)

DEFAULT_DELAY_NS = 5 * 1_000_000_000


def should_restart(task: Task, policy: RestartPolicy) -> bool:
    """Does the policy want another attempt after this ended task?

    A function of the stored task alone (attempts are counted back from the moment it ended),
    so that every leader at any time answers the same.
    """
    if policy.condition == RESTART_CONDITION_NONE:
        return False
    completed = task.status.state == TASK_STATE_COMPLETE
    if policy.condition == RESTART_CONDITION_ON_FAILURE and completed:
        return False
    if not policy.max_attempts:
        return True
    return _attempts(task, policy) < policy.max_attempts


def gave_up(task: Task, policy: RestartPolicy) -> bool:
    """Did the task end by itself, for good? Its slot counts as filled, and stays quiet."""
    ended_itself = task.status.state in (
        TASK_STATE_COMPLETE,
        TASK_STATE_FAILED,
        TASK_STATE_REJECTED,
    )
    return ended_itself and not should_restart(task, policy)


def delay_ns(policy: RestartPolicy) -> int:
    """How long after the end the next attempt starts; 5 s unless set."""
    return policy.delay_ns if policy.HasField("delay_ns") else DEFAULT_DELAY_NS


def restarts_after(task: Task, policy: RestartPolicy, now_ns: int) -> list[int]:
    """restarts_at_ns of the task that follows: as many as max_attempts needs, newest last."""
    if not policy.max_attempts:
        return []
    return [*task.restarts_at_ns, now_ns][-policy.max_attempts :]


def _attempts(task: Task, policy: RestartPolicy) -> int:
    if not policy.window_ns:
        return len(task.restarts_at_ns)
    since = task.status.timestamp_ns - policy.window_ns
    return sum(at > since for at in task.restarts_at_ns)
