"""A task's place in the rotation: its listeners, and how it leaves before it is stopped.

A task that leaves goes on accepting for a moment, as the tables of other nodes still name it; then
its listeners close, and connections with a request under way get some time. Only then may it be
stopped. Once it has ended, what is left of its connections is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from swarm.api.v1.task_pb2 import PortEndpoint
from swarm.worker.core.effects import ClosePorts, OpenPorts, TaskPort


class _State(Enum):
    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    QUIET = "quiet"  # no listeners; connections may be left
    CUTTING = "cutting"


class Rotation:
    """`announce_s`: seconds between the decision to leave and the closing of the listeners."""

    def __init__(self, task_id: str, announce_s: float) -> None:
        self.endpoints: Sequence[PortEndpoint] = ()
        self._task_id = task_id
        self._announce_s = announce_s
        self._state = _State.CLOSED
        self._close_at: float | None = None

    @property
    def opening(self) -> bool:
        return self._state is _State.OPENING

    @property
    def closed(self) -> bool:
        """Neither listener nor connection."""
        return self._state is _State.CLOSED

    @property
    def left(self) -> bool:
        """No listener, and no request worth waiting for."""
        return self._state in (_State.QUIET, _State.CLOSED)

    def next_wakeup(self) -> float | None:
        return self._close_at

    def enter(self, ports: Sequence[TaskPort]) -> list[OpenPorts]:
        if self._state is not _State.CLOSED or not ports:
            return []
        self._state = _State.OPENING
        return [OpenPorts(self._task_id, ports)]

    def opened(self, endpoints: Sequence[PortEndpoint]) -> bool:
        """Whether that is news."""
        if self._state is not _State.OPENING:
            return False
        self._state = _State.OPEN
        self.endpoints = endpoints
        return True

    def open_failed(self) -> None:
        if self._state is _State.OPENING:
            self._state = _State.CLOSED

    def leave(self, now: float, drain_s: float) -> list[ClosePorts]:
        """To be called until `left`. Without a time to drain it leaves unannounced."""
        if self._state is not _State.OPEN:
            return []
        if self._close_at is None and drain_s > 0:
            self._close_at = now + self._announce_s
        if self._close_at is not None and now < self._close_at:
            return []
        self._close_at = None
        self._state = _State.CLOSING
        return [ClosePorts(self._task_id, drain_s, cut=False)]

    def cut(self, drain_s: float) -> list[ClosePorts]:
        """The task has ended. To be called until `closed`."""
        self._close_at = None
        if self._state not in (_State.OPEN, _State.QUIET):
            return []
        self._state = _State.CUTTING
        return [ClosePorts(self._task_id, drain_s, cut=True)]

    def drained(self) -> None:
        if self._state is _State.CLOSING:
            self._state = _State.QUIET
        elif self._state is _State.CUTTING:
            self._state = _State.CLOSED
