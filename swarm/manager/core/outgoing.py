"""What a manager heard from its agents and still has to tell the leader.

Kept until it is of no use: a heartbeat until the next flush, a status or a description until the
store has it. Only the latest status per task counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from swarm.api.v1.dispatcher_pb2 import TaskStatusUpdate
from swarm.api.v1.managers_pb2 import HeardNode, RelayBatch
from swarm.api.v1.node_pb2 import Node, NodeDescription
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.dispatcher.reports import supersedes
from swarm.manager.core.store import View

# Statuses relayed but not yet in the store are told again after this long: the relay, or the
# leader's proposal, may have been lost.
REPEAT_S = 1.0


@dataclass(slots=True)
class _Heard:
    at: float
    goodbye: bool = False


@dataclass(slots=True)
class _Described:
    """What an agent said of its node. `told_at`: -inf until the leader was told."""

    description: NodeDescription
    address: str
    stored: bool
    told_at: float = float("-inf")

    def is_in(self, node: Node | None) -> bool:
        return (
            node is not None
            and node.description == self.description
            and self.address in ("", node.status.address)
        )


@dataclass(slots=True)
class Outgoing:
    _heard: dict[str, _Heard] = field(default_factory=dict[str, _Heard])
    _described: dict[str, _Described] = field(default_factory=dict[str, _Described])
    _statuses: dict[str, TaskStatusUpdate] = field(default_factory=dict[str, TaskStatusUpdate])
    _told: dict[str, tuple[TaskStatusUpdate, float]] = field(
        default_factory=dict[str, tuple[TaskStatusUpdate, float]]
    )

    def heard(self, node_id: str, now: float, *, goodbye: bool = False) -> None:
        self._heard[node_id] = _Heard(now, goodbye)

    def described(
        self, node_id: str, description: NodeDescription, address: str, stored: Node | None
    ) -> None:
        """`address` may be empty: as before. `stored` is the node's row here."""
        earlier = self._described.get(node_id)
        address = address or (earlier.address if earlier is not None else "")
        described = self._described[node_id] = _Described(description, address, stored=False)
        described.stored = described.is_in(stored)

    def node_stored(self, node_id: str, node: Node | None) -> None:
        """The store has something new of the node."""
        described = self._described.get(node_id)
        if node is None:
            self._described.pop(node_id, None)
        elif described is not None:
            described.stored = described.is_in(node)

    def statuses(self, updates: Iterable[TaskStatusUpdate]) -> None:
        for update in updates:
            self._statuses[update.task_id] = update
            self._told.pop(update.task_id, None)

    def stored(self, task_id: str, task: Task | None) -> None:
        """The store has something new of the task: a status that it supersedes is of no use."""
        told = self._told.get(task_id)
        update = self._statuses.get(task_id) or (told[0] if told is not None else None)
        if update is not None and (task is None or supersedes(task, update.status)):
            self._statuses.pop(task_id, None)
            self._told.pop(task_id, None)

    def restored(self, view: View) -> None:
        """The store was swapped for another one."""
        for task_id in [*self._statuses, *self._told]:
            self.stored(task_id, view.task(task_id))
        for node_id in list(self._described):
            self.node_stored(node_id, view.node(node_id))

    def take(self, now: float) -> RelayBatch | None:
        """What is to be told now."""
        for task_id, (update, at) in list(self._told.items()):
            if now - at < REPEAT_S:
                break
            del self._told[task_id]
            self._statuses.setdefault(task_id, update)
        if not self._heard and not self._statuses:
            return None
        batch = RelayBatch(statuses=self._statuses.values())
        for node_id, heard in self._heard.items():
            batch.nodes.append(self._sign_of_life(node_id, heard, now))
        self._told |= {task_id: (update, now) for task_id, update in self._statuses.items()}
        self._statuses = {}
        self._heard = {}
        return batch

    def _sign_of_life(self, node_id: str, heard: _Heard, now: float) -> HeardNode:
        """With what the store lacks of the node's description."""
        node = HeardNode(node_id=node_id, age_ns=int((now - heard.at) * 1e9), goodbye=heard.goodbye)
        described = self._described.get(node_id)
        if described is not None and not described.stored and now - described.told_at >= REPEAT_S:
            described.told_at = now
            node.description.CopyFrom(described.description)
            node.address = described.address
        return node

    def leader_changed(self) -> None:
        """The new one was told nothing."""
        for described in self._described.values():
            described.told_at = float("-inf")
        for task_id, (update, _) in self._told.items():
            self._statuses.setdefault(task_id, update)
        self._told.clear()
