"""A leader's store and brain in one process: what decides, with no log, disk or wire beside it.

Time stands still; the turns of the loop are what is measured, in CPU time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from swarm.api.v1.cluster_pb2 import Cluster, ClusterSpec
from swarm.api.v1.managers_pb2 import HeardNode
from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_STATE_READY,
    Node,
    NodeDescription,
    NodeSpec,
    NodeStatus,
)
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.service_pb2 import Service, ServiceRevision, ServiceSpec
from swarm.api.v1.store_pb2 import Change, LogPayload, TaskStatusChange, Transaction
from swarm.api.v1.task_pb2 import Task, TaskState, TaskStatus
from swarm.api.v1.types_pb2 import Annotations, Platform, Resources
from swarm.manager.core.brain import Brain
from swarm.manager.core.raft import Role, Status
from swarm.manager.core.store import Draft, RandomIds, Store, StoreChange
from swarm.manager.garbage import NewRows

_NOW_NS = 1_800_000_000_000_000_000
_TERM = 1
_TOGETHER = 400

_Result = TypeVar("_Result")


def node_of(number: int) -> Node:
    """32 CPUs and 64 GiB, in one of 5 zones, 4 racks and 3 kinds of disk."""
    labels = {"zone": f"z{number % 5}", "rack": f"r{number % 4}", "disk": f"d{number % 3}"}
    return Node(
        id=f"node{number}",
        spec=NodeSpec(
            annotations=Annotations(labels=labels), availability=NODE_AVAILABILITY_ACTIVE
        ),
        description=NodeDescription(
            hostname=f"node{number}",
            platform=Platform(os="linux", architecture="x86_64"),
            resources=Resources(nano_cpus=32_000_000_000, memory_bytes=64 << 30),
        ),
        status=NodeStatus(state=NODE_STATE_READY),
    )


class ControlLoop:
    """Leads a cluster of `nodes` nodes."""

    def __init__(self, nodes: int) -> None:
        self.store = Store()
        self._index = 0
        self._draws = random.Random(1)
        self._now = 1_000.0
        self._new_rows = NewRows()
        # CPU seconds of every turn since it was last emptied: of the brain, of an entry's apply.
        self.thought: list[float] = []
        self.applied: list[float] = []
        self.create([Cluster(id="cluster", spec=ClusterSpec(task_history_limit=5))])
        for start in range(0, nodes, _TOGETHER):
            self.create([node_of(n) for n in range(start, min(nodes, start + _TOGETHER))])
        ids = RandomIds(self._draws.getrandbits)
        self._brain = Brain(ids, _raft_status)
        self._brain.start(self.store, _TERM, self._now)
        for node in self.store.nodes():
            self._brain.heard(HeardNode(node_id=node.id), self._now)
        self.settle([])

    def create(self, rows: Sequence[Cluster | Node | Service | ServiceRevision]) -> None:
        """Rows that the brain does not hear of: for the beginning."""
        draft = Draft(self.store)
        for row in rows:
            draft.create(row)
        self.apply(draft.transactions("user"))

    def create_service(self, service_id: str, spec: ServiceSpec) -> None:
        """As a user does, until the brain is at rest."""
        draft = Draft(self.store)
        with draft.group("service"):
            draft.create(Service(id=service_id, name=service_id, revision=1, task_revision=1))
            draft.create(
                ServiceRevision(
                    id=f"{service_id}.1", service_id=service_id, revision=1, spec=spec, who="user"
                )
            )
        self.settle(self.apply(draft.transactions("user")))

    def report(self, tasks: Sequence[Task], state: TaskState.ValueType) -> list[StoreChange]:
        """Their agents say so; the changes are for `settle`."""
        changes: list[StoreChange] = []
        for start in range(0, len(tasks), _TOGETHER):
            together = [
                Change(
                    task_status=TaskStatusChange(
                        task_id=task.id, status=TaskStatus(state=state, timestamp_ns=_NOW_NS)
                    )
                )
                for task in tasks[start : start + _TOGETHER]
            ]
            changes += self.apply([Transaction(who="agents", changes=together)])
        return changes

    def apply(self, transactions: Sequence[Transaction]) -> list[StoreChange]:
        """One entry."""
        self._index += 1
        payload = LogPayload(proposed_at_ns=_NOW_NS, transactions=transactions)
        applied, taken = _timed(lambda: self.store.apply(self._index, _TERM, payload))
        self.applied.append(taken)
        self._verdicts = applied.verdicts
        self._new_rows.came(len(applied.changes))
        return list(applied.changes)

    def settle(self, changes: Sequence[StoreChange]) -> None:
        """Turns of the brain, each proposal applied at once, until there is nothing to do."""
        while True:
            output, taken = _timed(
                lambda changes=changes: self._brain.handle(changes, self.store, self._now, _NOW_NS)
            )
            self.thought.append(taken)
            for number, piece in enumerate(output.proposals):
                changes = self.apply(piece)
                self._brain.settled(piece, self._verdicts, self.store)
                if number + 1 < len(output.proposals):
                    self._brain.handle(changes, self.store, self._now, _NOW_NS)
            if not output.proposals:
                changes = []
                if output.next_wakeup != self._now:
                    return


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def _raft_status() -> Status:
    return Status(1, Role.LEADER, _TERM, 1, 1, 0, 9, 9, 9, ConfState(voters=[1]), {})
