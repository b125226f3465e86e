"""Deliberate bugs of placement."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import GenericResource
from swarm.manager.core.orchestrator import node as nodes
from swarm.manager.core.scheduler.demand import Demand, demand_of
from swarm.manager.core.scheduler.nodes import NodeInfo
from swarm.simulation.mutants.patches import Maker, Patch, everywhere


def without(**fields: Any) -> Callable[[ServiceSpec | None], Demand]:
    def demand(spec: ServiceSpec | None) -> Demand:
        return dataclasses.replace(demand_of(spec), **fields)

    return demand


def max_replicas_ignored() -> list[Patch]:
    """Every node may have any number of a service's replicas."""
    return everywhere(demand_of, without(max_replicas_per_node=0))


def constraints_ignored() -> list[Patch]:
    """Every node suits every service."""
    return everywhere(demand_of, without(constraints=()))


def generic_ignored() -> list[Patch]:
    """Nobody counts generic resources."""
    return everywhere(demand_of, without(generic=()))


def name_given_twice() -> list[Patch]:
    """Who has which of a node's named resources is not kept."""

    def forget(self: NodeInfo, task_id: str, assigned: Iterable[GenericResource]) -> None:
        del self, task_id, assigned

    return [(NodeInfo, "hold", forget)]


def drain_leaves_tasks() -> list[Patch]:
    """What runs on a node stays, though the node is drained."""

    def keeps_tasks(node: Node | None, demand: Demand) -> bool:
        return node is not None and demand.suits(node)

    return [(nodes, "keeps_tasks", keeps_tasks)]


MAKERS: dict[str, Maker] = {
    "constraints-ignored": constraints_ignored,
    "drain-leaves-tasks": drain_leaves_tasks,
    "generic-ignored": generic_ignored,
    "max-replicas-ignored": max_replicas_ignored,
    "name-given-twice": name_given_twice,
}
