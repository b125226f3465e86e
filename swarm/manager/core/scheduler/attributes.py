"""Which nodes have which value of what constraints compare, so that not all are looked at.

A key costs one look at every node when a constraint first names it, and is kept up to date from
then on. The nodes for a list of constraints are then set algebra.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarm.api.v1.node_pb2 import Node
from swarm.manager.core.scheduler.constraint import Constraint, value_of


class Attributes:
    """Nodes go by their numbers (nodes.py)."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._numbers: dict[str, dict[str | None, set[int]]] = {}

    def put(self, number: int, node: Node) -> None:
        """A new or changed row."""
        old = self._nodes.get(number)
        self._nodes[number] = node
        for key, numbers in self._numbers.items():
            new_value = value_of(key, node)
            if old is not None and (old_value := value_of(key, old)) != new_value:
                _discard(numbers, old_value, number)
            numbers.setdefault(new_value, set()).add(number)

    def remove(self, number: int) -> None:
        node = self._nodes.pop(number)
        for key, numbers in self._numbers.items():
            _discard(numbers, value_of(key, node), number)

    def matching(self, constraints: Sequence[Constraint]) -> Iterable[int]:
        """The nodes on which all constraints hold. In no order."""
        if not constraints:
            return self._nodes.keys()
        found: set[int] | None = None
        for constraint in constraints:
            numbers = self._indexed(constraint.key)
            allowed = [of for value, of in numbers.items() if constraint.allows(value)]
            union = set[int]().union(*allowed)
            found = union if found is None else found & union
        return found or ()

    def _indexed(self, key: str) -> dict[str | None, set[int]]:
        numbers = self._numbers.get(key)
        if numbers is None:
            numbers = self._numbers[key] = {}
            for number, node in self._nodes.items():
                numbers.setdefault(value_of(key, node), set()).add(number)
        return numbers


def _discard(numbers: dict[str | None, set[int]], value: str | None, number: int) -> None:
    having = numbers[value]
    having.discard(number)
    if not having:
        del numbers[value]
