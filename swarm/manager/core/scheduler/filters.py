"""Which nodes a task may go to: Swarm's filters, in Swarm's order.

Source: moby/swarmkit manager/scheduler/filter.go and pipeline.go. The first filter that
rejects a node is the one that counts in an explanation.
"""

from __future__ import annotations

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
    if demand.host_ports and any(port in info.ports for port in demand.host_ports):
        return Reason.HOST_PORT
    limit = demand.max_replicas_per_node
    if limit and info.tasks_of.get(service_id, 0) >= limit:
        return Reason.MAX_REPLICAS
    return None


def room(info: NodeInfo, service_id: str, demand: Demand, most: int) -> int:
    """How many more tasks fit on a node that no filter rejects, up to `most`."""
    if demand.host_ports:
        return min(1, most)
    if demand.nano_cpus:
        most = min(most, info.free_nano_cpus // demand.nano_cpus)
    if demand.memory_bytes:
        most = min(most, info.free_memory_bytes // demand.memory_bytes)
    if demand.max_replicas_per_node:
        most = min(most, demand.max_replicas_per_node - info.tasks_of.get(service_id, 0))
    return most


def _lacks_resources(info: NodeInfo, demand: Demand) -> bool:
    return (demand.nano_cpus > 0 and demand.nano_cpus > info.free_nano_cpus) or (
        demand.memory_bytes > 0 and demand.memory_bytes > info.free_memory_bytes
    )
