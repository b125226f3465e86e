"""The Engine API's words for our enumerations, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from swarm.api.v1 import control_pb2 as control
from swarm.api.v1 import daemon_pb2 as daemon
from swarm.api.v1 import node_pb2 as node
from swarm.api.v1 import service_pb2 as service
from swarm.api.v1 import task_pb2 as task
from swarm.api.v1 import types_pb2 as types
from swarm.dockerapi.json_values import ApiError

Member = TypeVar("Member", bound=int)


class Words(Generic[Member]):
    """One enumeration. `what` names it in errors."""

    def __init__(self, what: str, words: Mapping[Member, str]) -> None:
        self._what = what
        self._words = dict(words)
        self._members = {word: member for member, word in self._words.items()}

    def word(self, member: int) -> str:
        """Docker's word; "unknown" for a number of a later version."""
        return self._words.get(member, "unknown")  # type: ignore[call-overload]

    def member(self, word: str, default: Member | None = None) -> Member:
        """The number; `default` for the empty word. Raises ApiError with the words there are."""
        if not word and default is not None:
            return default
        found = self._members.get(word)
        if found is None:
            raise ApiError(f'invalid {self._what}: "{word}": use {", ".join(self._members)}')
        return found

    @property
    def all(self) -> list[str]:
        return list(self._members)


PROTOCOL = Words(
    "protocol",
    {types.PROTOCOL_TCP: "tcp", types.PROTOCOL_UDP: "udp", types.PROTOCOL_SCTP: "sctp"},
)
PUBLISH_MODE = Words(
    "publish mode", {types.PUBLISH_MODE_INGRESS: "ingress", types.PUBLISH_MODE_HOST: "host"}
)
MOUNT_TYPE = Words(
    "mount type",
    {
        service.MOUNT_TYPE_BIND: "bind",
        service.MOUNT_TYPE_VOLUME: "volume",
        service.MOUNT_TYPE_TMPFS: "tmpfs",
    },
)
RESTART_CONDITION = Words(
    "restart condition",
    {
        service.RESTART_CONDITION_ANY: "any",
        service.RESTART_CONDITION_ON_FAILURE: "on-failure",
        service.RESTART_CONDITION_NONE: "none",
    },
)
FAILURE_ACTION = Words(
    "update failure action",
    {
        service.UPDATE_FAILURE_ACTION_PAUSE: "pause",
        service.UPDATE_FAILURE_ACTION_CONTINUE: "continue",
        service.UPDATE_FAILURE_ACTION_ROLLBACK: "rollback",
    },
)
UPDATE_ORDER = Words(
    "update order",
    {
        service.UPDATE_ORDER_STOP_FIRST: "stop-first",
        service.UPDATE_ORDER_START_FIRST: "start-first",
    },
)
UPDATE_STATE = Words(
    "update state",
    {
        service.UPDATE_STATE_UPDATING: "updating",
        service.UPDATE_STATE_PAUSED: "paused",
        service.UPDATE_STATE_COMPLETED: "completed",
        service.UPDATE_STATE_ROLLBACK_STARTED: "rollback_started",
        service.UPDATE_STATE_ROLLBACK_PAUSED: "rollback_paused",
        service.UPDATE_STATE_ROLLBACK_COMPLETED: "rollback_completed",
    },
)
ENDPOINT_MODE = Words(
    "endpoint mode", {service.ENDPOINT_MODE_VIP: "vip", service.ENDPOINT_MODE_DNSRR: "dnsrr"}
)
NODE_ROLE = Words("role", {node.NODE_ROLE_WORKER: "worker", node.NODE_ROLE_MANAGER: "manager"})
AVAILABILITY = Words(
    "availability",
    {
        node.NODE_AVAILABILITY_ACTIVE: "active",
        node.NODE_AVAILABILITY_PAUSE: "pause",
        node.NODE_AVAILABILITY_DRAIN: "drain",
    },
)
NODE_STATE = Words(
    "node state",
    {
        node.NODE_STATE_UNKNOWN: "unknown",
        node.NODE_STATE_DOWN: "down",
        node.NODE_STATE_READY: "ready",
        node.NODE_STATE_DISCONNECTED: "disconnected",
    },
)
REACHABILITY = Words(
    "reachability",
    {
        control.REACHABILITY_UNKNOWN: "unknown",
        control.REACHABILITY_UNREACHABLE: "unreachable",
        control.REACHABILITY_REACHABLE: "reachable",
    },
)
LOCAL_NODE_STATE = Words(
    "local node state",
    {
        daemon.LOCAL_NODE_STATE_INACTIVE: "inactive",
        daemon.LOCAL_NODE_STATE_PENDING: "pending",
        daemon.LOCAL_NODE_STATE_ACTIVE: "active",
        daemon.LOCAL_NODE_STATE_ERROR: "error",
    },
)
TASK_STATE = Words(
    "task state",
    {
        task.TASK_STATE_NEW: "new",
        task.TASK_STATE_PENDING: "pending",
        task.TASK_STATE_ASSIGNED: "assigned",
        task.TASK_STATE_ACCEPTED: "accepted",
        task.TASK_STATE_PREPARING: "preparing",
        task.TASK_STATE_READY: "ready",
        task.TASK_STATE_STARTING: "starting",
        task.TASK_STATE_RUNNING: "running",
        task.TASK_STATE_COMPLETE: "complete",
        task.TASK_STATE_SHUTDOWN: "shutdown",
        task.TASK_STATE_FAILED: "failed",
        task.TASK_STATE_REJECTED: "rejected",
        task.TASK_STATE_REMOVE: "remove",
        task.TASK_STATE_ORPHANED: "orphaned",
    },
)
