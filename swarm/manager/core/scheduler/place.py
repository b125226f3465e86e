"""Placing a whole group: all tasks of one service revision that have no node yet.

A heap over the candidate nodes, not tasks times nodes. Order of nodes (moby/swarmkit
scheduler.go): those where the revision keeps failing last, then fewer tasks of the service,
then fewer tasks, then who came first. With spread preferences, each level first evens out
the service's tasks over the label's values.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.manager.core.scheduler.demand import Demand, spread_value
from swarm.manager.core.scheduler.filters import Reason, rejection, room
from swarm.manager.core.scheduler.nodes import NodeInfo, NodeSet, RevisionKey


@dataclass(slots=True)
class Candidates:
    """The outcome of the filters."""

    fitting: list[NodeInfo] = field(default_factory=list[NodeInfo])
    rejected: dict[str, Reason] = field(default_factory=dict[str, Reason])


def filter_nodes(nodes: NodeSet, service_id: str, demand: Demand) -> Candidates:
    """All nodes through all filters."""
    candidates = Candidates()
    for info in nodes:
        reason = rejection(info, service_id, demand)
        if reason is None:
            candidates.fitting.append(info)
        else:
            candidates.rejected[info.node.id] = reason
    return candidates


def place(
    nodes: NodeSet,
    fitting: Sequence[NodeInfo],
    key: RevisionKey,
    demand: Demand,
    count: int,
    now_ns: int,
) -> list[str]:
    """Node ids for up to `count` tasks, one by one in the order in which they fill up.

    Fewer are returned where no more fit. Nothing is counted yet: the caller does that with
    NodeSet.put.
    """
    if demand.preferences:
        tree = _tree(nodes, fitting, key, demand, count, now_ns)
        return _take_from_tree(tree, count)
    return _take(_leaf(fitting, key, demand, count, now_ns), count)


@dataclass(slots=True)
class _Leaf:
    """Nodes that no preference tells apart."""

    # (failing, tasks of the service, tasks, number of the node)
    heap: list[tuple[bool, int, int, int]]
    # By number: how many more fit, and the id.
    rooms: dict[int, int]
    ids: dict[int, str]

    def take(self) -> str | None:
        """The best node for one more task; None: full."""
        if not self.heap:
            return None
        failing, of_service, total, number = self.heap[0]
        left = self.rooms[number] - 1
        if left:
            self.rooms[number] = left
            heapq.heapreplace(self.heap, (failing, of_service + 1, total + 1, number))
        else:
            heapq.heappop(self.heap)
        return self.ids[number]


@dataclass(slots=True)
class _Branch:
    """One level of a spread preference: a child per value of the label."""

    children: list[_Branch | _Leaf] = field(default_factory=list["_Branch | _Leaf"])
    # (tasks of the service below, child)
    heap: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def take(self) -> str | None:
        """From the child with the fewest tasks of the service that still has room."""
        while self.heap:
            tasks, child = self.heap[0]
            node_id = self.children[child].take()
            if node_id is not None:
                heapq.heapreplace(self.heap, (tasks + 1, child))
                return node_id
            heapq.heappop(self.heap)
        return None


def _leaf(
    fitting: Sequence[NodeInfo], key: RevisionKey, demand: Demand, count: int, now_ns: int
) -> _Leaf:
    service_id = key[0]
    heap = [
        (info.is_failing(key, now_ns), info.tasks_of.get(service_id, 0), info.total, info.number)
        for info in fitting
    ]
    heapq.heapify(heap)
    rooms = {info.number: room(info, service_id, demand, count) for info in fitting}
    return _Leaf(heap, rooms, {info.number: info.node.id for info in fitting})


def _take(leaf: _Leaf, count: int) -> list[str]:
    """`count` times leaf.take(), without the calls: this is the hot loop of large services."""
    heap, rooms, ids = leaf.heap, leaf.rooms, leaf.ids
    taken: list[str] = []
    while heap and len(taken) < count:
        failing, of_service, total, number = heap[0]
        taken.append(ids[number])
        left = rooms[number] = rooms[number] - 1
        if left:
            heapq.heapreplace(heap, (failing, of_service + 1, total + 1, number))
        else:
            heapq.heappop(heap)
    return taken


def _take_from_tree(tree: _Branch | _Leaf, count: int) -> list[str]:
    taken: list[str] = []
    while len(taken) < count:
        node_id = tree.take()
        if node_id is None:
            break
        taken.append(node_id)
    return taken


def _tree(
    nodes: NodeSet,
    fitting: Sequence[NodeInfo],
    key: RevisionKey,
    demand: Demand,
    count: int,
    now_ns: int,
) -> _Branch | _Leaf:
    """Tasks on nodes that are no candidates count for their branch too, as in Swarm."""
    paths = {info.number: _path(info, demand) for info in fitting}
    tasks: dict[tuple[str, ...], int] = {}
    for info in nodes:
        of_service = info.tasks_of.get(key[0], 0)
        if of_service:
            path = paths.get(info.number) or _path(info, demand)
            for depth in range(1, len(path) + 1):
                tasks[path[:depth]] = tasks.get(path[:depth], 0) + of_service

    def grow(members: Sequence[NodeInfo], prefix: tuple[str, ...]) -> _Branch | _Leaf:
        depth = len(prefix)
        if depth == len(demand.preferences):
            return _leaf(members, key, demand, count, now_ns)
        by_value: dict[str, list[NodeInfo]] = {}
        for info in members:
            by_value.setdefault(paths[info.number][depth], []).append(info)
        branch = _Branch()
        for number, (value, group) in enumerate(by_value.items()):
            below = (*prefix, value)
            branch.children.append(grow(group, below))
            branch.heap.append((tasks.get(below, 0), number))
        heapq.heapify(branch.heap)
        return branch

    return grow(fitting, ())


def _path(info: NodeInfo, demand: Demand) -> tuple[str, ...]:
    return tuple(spread_value(info.node, descriptor) for descriptor in demand.preferences)
