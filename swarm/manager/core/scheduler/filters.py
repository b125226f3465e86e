"""Which nodes a task may go to: Swarm's filters, in Swarm's order.

Source: moby/swarmkit manager/scheduler/filter.go and pipeline.go. The first filter that
rejects a node is the one that counts in an explanation.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from swarm.manager.core.scheduler.demand import Demand
from swarm.manager.core.scheduler.nodes import NodeInfo


class Reason(IntEnum):
    """Why a node was rejected; the values are the filters' order."""

    NOT_AVAILABLE = 0
    RESOURCES = 1
    CONSTRAINTS = 2
    PLATFORM = 3
    HOST_PORT = 4
    MAX_REPLICAS = 5


# What a task that ends on a node may give back.
USAGE_REASONS = frozenset({Reason.RESOURCES, Reason.HOST_PORT, Reason.MAX_REPLICAS})


def rejection(info: NodeInfo, service_id: str, demand: Demand) -> Reason | None:
    """The first filter that keeps one more task of the service off the node; None: it fits."""
    if not info.available:
        return Reason.NOT_AVAILABLE
    if _lacks_resources(info, demand):
        return Reason.RESOURCES
    if not demand.suits(info.node):
        return Reason.CONSTRAINTS
    if not demand.runs_on_platform(info.node):
        return Reason.PLATFORM
    if _lacks_port(info, demand):
        return Reason.HOST_PORT
    if _is_at_its_most(info, service_id, demand):
        return Reason.MAX_REPLICAS
    return None


def rejections(nodes: Iterable[NodeInfo], service_id: str, demand: Demand) -> dict[str, Reason]:
    """Why not one more task of the service fits, by node. Looks at all of them."""
    reasons = {info.node.id: rejection(info, service_id, demand) for info in nodes}
    return {node_id: reason for node_id, reason in reasons.items() if reason is not None}


def suits(info: NodeInfo, demand: Demand) -> bool:
    """May tasks with the demand go there, as far as the node's row says?"""
    return info.available and demand.suits(info.node) and demand.runs_on_platform(info.node)


def has_room(info: NodeInfo, service_id: str, demand: Demand) -> bool:
    """Is there room for one more task, on a node that suits?"""
    return not (
        _lacks_resources(info, demand)
        or _lacks_port(info, demand)
        or _is_at_its_most(info, service_id, demand)
    )


def _lacks_resources(info: NodeInfo, demand: Demand) -> bool:
    return (
        (demand.nano_cpus > 0 and demand.nano_cpus > info.free_nano_cpus)
        or (demand.memory_bytes > 0 and demand.memory_bytes > info.free_memory_bytes)
        or any(amount > info.free_generic.get(kind, 0) for kind, amount in demand.generic)
    )


def _lacks_port(info: NodeInfo, demand: Demand) -> bool:
    return bool(demand.host_ports) and any(port in info.ports for port in demand.host_ports)


def _is_at_its_most(info: NodeInfo, service_id: str, demand: Demand) -> bool:
    limit = demand.max_replicas_per_node
    return limit > 0 and info.tasks_of.get(service_id, 0) >= limit
