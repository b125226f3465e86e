"""Tasks by what is asked of them: service, slot, node, and what is unsettled about them.

A change costs the same however many tasks there are (DESIGN, law 4).
"""

from collections.abc import Callable, Hashable
from typing import TypeVar

from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_READY,
    TASK_STATE_REMOVE,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    Task,
)
from swarm.manager.core.store.objects import SlotKey, slot_key

_Key = TypeVar("_Key", bound=Hashable)


def is_unassigned(state: int, desired: int) -> bool:
    return state < TASK_STATE_ASSIGNED and desired <= TASK_STATE_RUNNING


def is_delayed(state: int, desired: int) -> bool:
    return desired == TASK_STATE_READY and state <= TASK_STATE_RUNNING


def is_to_reap(state: int, desired: int) -> bool:
    """Nothing of it can be running: no agent ever had it, or its agent said that it ended."""
    if state < TASK_STATE_ASSIGNED:
        return desired >= TASK_STATE_SHUTDOWN
    return desired == TASK_STATE_REMOVE and state > TASK_STATE_RUNNING


def is_ended_wanted(state: int, desired: int) -> bool:
    return state > TASK_STATE_RUNNING and desired <= TASK_STATE_RUNNING


class TaskIndex:
    def __init__(self) -> None:
        self.of_service: dict[str, dict[str, Task]] = {}
        self.of_node: dict[str, dict[str, Task]] = {}
        self.of_slot: dict[SlotKey, dict[str, Task]] = {}
        self.unassigned: dict[str, Task] = {}
        self.delayed: dict[str, Task] = {}
        self.to_reap: dict[str, Task] = {}
        self.ended_wanted: dict[str, Task] = {}
        self.over_history: dict[SlotKey, None] = {}
        self._history_limit: int | None = None
        self._buckets: tuple[tuple[dict[str, Task], Callable[[int, int], bool]], ...] = (
            (self.unassigned, is_unassigned),
            (self.delayed, is_delayed),
            (self.to_reap, is_to_reap),
            (self.ended_wanted, is_ended_wanted),
        )

    def move(self, key: str, old: Task | None, new: Task | None) -> None:
        old_slot = slot_key(old) if old is not None else None
        new_slot = slot_key(new) if new is not None else None
        _regroup(
            self.of_service,
            key,
            old_slot.service_id if old_slot else None,
            new_slot.service_id if new_slot else None,
            new,
        )
        _regroup(self.of_slot, key, old_slot, new_slot, new)
        _regroup(
            self.of_node,
            key,
            old.node_id or None if old is not None else None,
            new.node_id or None if new is not None else None,
            new,
        )
        if old_slot != new_slot:
            for slot in (old_slot, new_slot):
                if slot is not None:
                    self._note_history(slot)
        self._sort_in(key, new)

    def set_history_limit(self, limit: int | None) -> None:
        """None or negative: all are kept. Looks at every slot where the limit changes."""
        if limit is not None:
            limit = None if limit < 0 else max(limit, 1)
        if limit == self._history_limit:
            return
        self._history_limit = limit
        self.over_history.clear()
        for slot in self.of_slot:
            self._note_history(slot)

    def _note_history(self, slot: SlotKey) -> None:
        limit = self._history_limit
        if limit is not None and len(self.of_slot.get(slot, ())) > limit:
            self.over_history[slot] = None
        else:
            self.over_history.pop(slot, None)

    def _sort_in(self, key: str, new: Task | None) -> None:
        if new is None:
            for bucket, _ in self._buckets:
                bucket.pop(key, None)
            return
        state, desired = new.status.state, new.desired_state
        for bucket, belongs in self._buckets:
            if belongs(state, desired):
                bucket[key] = new
            else:
                bucket.pop(key, None)


def _regroup(
    groups: dict[_Key, dict[str, Task]],
    key: str,
    old_group: _Key | None,
    new_group: _Key | None,
    new: Task | None,
) -> None:
    if old_group is not None and old_group != new_group:
        rest = groups[old_group]
        del rest[key]
        if not rest:
            del groups[old_group]
    if new_group is not None and new is not None:
        group = groups.get(new_group)
        if group is None:
            groups[new_group] = {key: new}
        else:
            group[key] = new
