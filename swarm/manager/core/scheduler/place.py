"""Placing a whole group: all tasks of one service revision that have no node yet.

The nodes that have room stand in a ranking, kept from one group of the revision to the next: a
heap over nodes, not tasks times nodes, and a single task costs the nodes that changed meanwhile.
Order of nodes (moby/swarmkit scheduler.go): those where the revision keeps failing last, then
fewer tasks of the service, then fewer tasks, then who came first. With spread preferences, each
level first evens out the service's tasks over the label's values.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from swarm.manager.core.scheduler.demand import Demand, spread_value
from swarm.manager.core.scheduler.filters import has_room, suits
from swarm.manager.core.scheduler.nodes import Claim, NodeInfo, NodeSet, RevisionKey

# Kept rankings hold so many nodes together: some 80 MB.
_KEPT_NODES = 500_000

# (failing, tasks of the service, tasks, number of the node)
_Rank = tuple[bool, int, int, int]
_Path = tuple[str, ...]


class Rankings:
    """Those of the revisions that tasks were placed of last."""

    def __init__(self, nodes: NodeSet) -> None:
        self._nodes = nodes
        self._rankings: OrderedDict[RevisionKey, Ranking] = OrderedDict()
        # How many nodes each held when it was last used.
        self._sizes: dict[RevisionKey, int] = {}
        self._size = 0

    def of(self, key: RevisionKey, demand: Demand, now_ns: int) -> Ranking:
        """Up to date."""
        ranking = self._rankings.get(key)
        self.forget(key)
        if ranking is None or not ranking.follow(now_ns):
            ranking = Ranking(self._nodes, key, demand, now_ns)
        # Who is failing is a matter of time, and of few nodes: no changes would tell of its end.
        if not ranking.has_failing:
            self._keep(key, ranking)
        return ranking

    def forget(self, key: RevisionKey) -> None:
        if self._rankings.pop(key, None) is not None:
            self._size -= self._sizes.pop(key)

    def _keep(self, key: RevisionKey, ranking: Ranking) -> None:
        self._rankings[key] = ranking
        self._sizes[key] = ranking.size
        self._size += ranking.size
        while self._size > _KEPT_NODES and len(self._rankings) > 1:
            self.forget(next(iter(self._rankings)))


class Ranking:
    """The nodes that have room for a service revision, the best first."""

    def __init__(self, nodes: NodeSet, key: RevisionKey, demand: Demand, now_ns: int) -> None:
        self.has_failing = False
        self._nodes = nodes
        self._key = key
        self._demand = demand
        self._now_ns = now_ns
        self._mark = nodes.mark
        self._root = _Level() if demand.preferences else _Leaf()
        # The nodes whose rows suit.
        self._suitable: set[int] = set()
        # Where each node's tasks of the service are counted, and how many.
        self._counted: dict[int, tuple[_Path, int]] = {}
        if demand.preferences:
            for info in nodes:
                self._look_at_row(info.number)
        else:
            self._fill_leaf()

    @property
    def size(self) -> int:
        """How many nodes it holds."""
        return max(len(self._suitable), len(self._counted))

    def follow(self, now_ns: int) -> bool:
        """Take in what changed. False: it was too much, a new ranking is quicker."""
        self._now_ns = now_ns
        changed = self._nodes.changed_since(self._mark)
        if changed is None:
            return False
        for number in changed:
            if number < 0:
                self._look_at_row(~number)
            elif number in self._suitable or self._demand.preferences:
                self._look_at_claims(number)
        self._mark = self._nodes.mark
        return True

    def take(self, task_ids: Iterable[str], claim: Claim) -> list[str]:
        """Nodes for the tasks in their order, as many as fit; they are counted there at once."""
        service_id, demand, nodes = self._key[0], self._demand, self._nodes
        taken: list[str] = []
        for task_id in task_ids:
            leaf = self._root.best()
            if leaf is None:
                break
            failing, of_service, total, number = leaf.heap[0]
            info = nodes.numbered(number)
            assert info is not None, "a node that is gone has no rank"
            info.add(task_id, claim)
            taken.append(info.node.id)
            if has_room(info, service_id, demand):
                leaf.replace_first((failing, of_service + 1, total + 1, number))
            else:
                leaf.drop_first()
            self._count(info, of_service + 1)
            nodes.note(number)
        self._mark = nodes.mark
        return taken

    def _fill_leaf(self) -> None:
        assert isinstance(self._root, _Leaf)
        service_id, demand = self._key[0], self._demand
        suitable = [
            info
            for info in self._nodes.matching(demand)
            if info.available and demand.runs_on_platform(info.node)
        ]
        self._suitable = {info.number for info in suitable}
        self._root.fill([self._rank(i) for i in suitable if has_room(i, service_id, demand)])

    def _look_at_row(self, number: int) -> None:
        """The node is new, other or gone: see where it belongs."""
        info = self._nodes.numbered(number)
        path, _ = self._counted.get(number, ((), 0))
        if info is None or _path(info, self._demand) != path:
            self._uncount(number)
            self._leaf(path).drop(number)
        if info is not None and suits(info, self._demand):
            self._suitable.add(number)
        else:
            self._suitable.discard(number)
        self._look_at_claims(number)

    def _look_at_claims(self, number: int) -> None:
        """Put the node where it stands now."""
        info = self._nodes.numbered(number)
        if info is None:
            return
        service_id, demand = self._key[0], self._demand
        self._count(info, info.tasks_of.get(service_id, 0))
        path = _path(info, demand)
        if number in self._suitable and has_room(info, service_id, demand):
            self._leaf(path).put(self._rank(info))
            self._open(path)
        else:
            self._leaf(path).drop(number)

    def _rank(self, info: NodeInfo) -> _Rank:
        failing = info.is_failing(self._key, self._now_ns)
        self.has_failing |= failing
        return failing, info.tasks_of.get(self._key[0], 0), info.total, info.number

    # Levels of preferences

    def _leaf(self, path: _Path) -> _Leaf:
        level = self._root
        for depth, value in enumerate(path, 1):
            assert isinstance(level, _Level)
            level = level.child(value, last=depth == len(self._demand.preferences))
        # The empty path of a node that was not seen yet ends above: nothing is kept there.
        return level if isinstance(level, _Leaf) else _Leaf()

    def _count(self, info: NodeInfo, of_service: int) -> None:
        """Tasks on nodes that are no candidates count for their branch too, as in Swarm."""
        if not self._demand.preferences:
            return
        path, counted = self._counted.get(info.number, (_path(info, self._demand), 0))
        self._counted[info.number] = path, of_service
        self._add(path, of_service - counted)

    def _uncount(self, number: int) -> None:
        path, counted = self._counted.pop(number, ((), 0))
        self._add(path, -counted)

    def _add(self, path: _Path, tasks: int) -> None:
        if not tasks:
            return
        level = self._root
        for depth, value in enumerate(path, 1):
            assert isinstance(level, _Level)
            child = level.child(value, last=depth == len(path))
            child.tasks += tasks
            level.queue(child)
            level = child

    def _open(self, path: _Path) -> None:
        """The leaf has room: so have the levels above it."""
        level = self._root
        for depth, value in enumerate(path, 1):
            assert isinstance(level, _Level)
            child = level.child(value, last=depth == len(path))
            level.queue(child)
            level = child


class _Leaf:
    """Nodes that no preference tells apart.

    What is not a node's newest rank any more stays in the heap until it comes up.
    """

    __slots__ = ("_newest", "heap", "number", "tasks")

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.tasks = 0
        self.heap: list[_Rank] = []
        self._newest: dict[int, _Rank] = {}

    def fill(self, ranks: list[_Rank]) -> None:
        self.heap = ranks
        heapq.heapify(ranks)
        self._newest = {rank[3]: rank for rank in ranks}

    def put(self, rank: _Rank) -> None:
        if self._newest.get(rank[3]) != rank:
            self._newest[rank[3]] = rank
            heapq.heappush(self.heap, rank)
            if len(self.heap) > 2 * len(self._newest) + 16:
                self.fill(list(self._newest.values()))

    def drop(self, number: int) -> None:
        self._newest.pop(number, None)

    def best(self) -> _Leaf | None:
        """Itself, with the best node at the top of the heap; None: full."""
        heap, newest = self.heap, self._newest
        while heap:
            rank = heap[0]
            if newest.get(rank[3]) is rank:
                return self
            heapq.heappop(heap)
        return None

    def replace_first(self, rank: _Rank) -> None:
        self._newest[rank[3]] = rank
        heapq.heapreplace(self.heap, rank)

    def drop_first(self) -> None:
        del self._newest[heapq.heappop(self.heap)[3]]


@dataclass(slots=True)
class _Level:
    """One level of a spread preference: a child per value of the label."""

    number: int = 0
    tasks: int = 0
    _by_value: dict[str, _Level | _Leaf] = field(default_factory=dict[str, "_Level | _Leaf"])
    _children: list[_Level | _Leaf] = field(default_factory=list["_Level | _Leaf"])
    # (tasks of the service below, number of the child): old ones stay until they come up.
    _heap: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def child(self, value: str, *, last: bool) -> _Level | _Leaf:
        child = self._by_value.get(value)
        if child is None:
            number = len(self._children)
            child = self._by_value[value] = _Leaf(number) if last else _Level(number)
            self._children.append(child)
        return child

    def queue(self, child: _Level | _Leaf) -> None:
        """The child's number of tasks is another one, or it has room again."""
        heapq.heappush(self._heap, (child.tasks, child.number))
        if len(self._heap) > 2 * len(self._children) + 16:
            self._heap = [(c.tasks, c.number) for c in self._children]
            heapq.heapify(self._heap)

    def best(self) -> _Leaf | None:
        """In the child with the fewest tasks of the service that has room; None: full."""
        while self._heap:
            tasks, number = self._heap[0]
            child = self._children[number]
            if child.tasks == tasks:
                found = child.best()
                if found is not None:
                    return found
            heapq.heappop(self._heap)
        return None


def _path(info: NodeInfo, demand: Demand) -> _Path:
    return tuple(spread_value(info.node, descriptor) for descriptor in demand.preferences)
