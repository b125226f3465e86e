"""Why a task has no node: in Docker Swarm's words how many nodes each filter refused, and of one
node by how much.

Source: moby/swarmkit manager/scheduler: Explain in filter.go, pipeline.go, scheduler.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_DRAIN,
    NODE_AVAILABILITY_PAUSE,
    NODE_STATE_READY,
    Node,
    NodeState,
)
from swarm.api.v1.types_pb2 import Protocol
from swarm.manager.core.scheduler.constraint import Constraint, value_of
from swarm.manager.core.scheduler.demand import Demand
from swarm.manager.core.scheduler.filters import Reason, rejection
from swarm.manager.core.scheduler.nodes import NodeInfo
from swarm.units import bytes_size, format_cpus

_ONE = {
    Reason.NOT_AVAILABLE: "1 node not available for new tasks",
    Reason.RESOURCES: "insufficient resources on 1 node",
    Reason.CONSTRAINTS: "scheduling constraints not satisfied on 1 node",
    Reason.PLATFORM: "unsupported platform on 1 node",
    Reason.HOST_PORT: "host-mode port already in use on 1 node",
    Reason.MAX_REPLICAS: "max replicas per node limit exceed",
}
_MANY = {
    Reason.NOT_AVAILABLE: "{} nodes not available for new tasks",
    Reason.RESOURCES: "insufficient resources on {} nodes",
    Reason.CONSTRAINTS: "scheduling constraints not satisfied on {} nodes",
    Reason.PLATFORM: "unsupported platform on {} nodes",
    Reason.HOST_PORT: "host-mode port already in use on {} nodes",
    Reason.MAX_REPLICAS: "max replicas per node limit exceed",
}
_NUMBERS = re.compile(r"\b\d+ nodes?\b")


def count_reasons(reasons: Iterable[Reason]) -> dict[Reason, int]:
    """How many nodes each filter rejected, in the filters' order."""
    counts = dict.fromkeys(Reason, 0)
    for reason in reasons:
        counts[reason] += 1
    return {reason: count for reason, count in counts.items() if count}


def explain(counts: Mapping[Reason, int]) -> str:
    """One line: the filters that rejected most nodes first, equals in the filters' order."""
    ordered = sorted(counts, key=lambda reason: (-counts[reason], reason))
    if not ordered:
        return "no suitable node"
    parts = [
        _ONE[reason] if counts[reason] == 1 else _MANY[reason].format(counts[reason])
        for reason in ordered
    ]
    return f"no suitable node ({'; '.join(parts)})"


def same_kinds(message: str, other: str) -> bool:
    """Do two explanations name the same filters, whatever the numbers and the order?"""
    return _kinds(message) == _kinds(other)


def _kinds(message: str) -> list[str]:
    inside = message.partition("(")[2].rstrip(")")
    return sorted(_NUMBERS.sub("N", part) for part in inside.split("; "))


def refusal(info: NodeInfo, service_id: str, demand: Demand) -> str | None:
    """Why one more task of the service can't go to the node, and by how much, by the first filter
    that refuses it; None: it can."""
    reason = rejection(info, service_id, demand)
    match reason:
        case None:
            return None
        case Reason.NOT_AVAILABLE:
            return _unavailable(info.node)
        case Reason.RESOURCES:
            return _lacking(info, demand)
        case Reason.CONSTRAINTS:
            failed = next(c for c in demand.constraints if not c.matches(info.node))
            return _unmet(failed, info.node)
        case Reason.PLATFORM:
            return _other_platform(info.node, demand)
        case Reason.HOST_PORT:
            taken = next(port for port in demand.host_ports if port in info.ports)
            return f"port {taken[1]}/{_protocol(taken[0])} of the node is in use"
        case Reason.MAX_REPLICAS:
            has = info.tasks_of.get(service_id, 0)
            return f"has {has} of at most {demand.max_replicas_per_node} tasks of the service"


def reservations(demand: Demand) -> str:
    """What a task holds of its node: "2 CPUs, 512MiB of memory"; "" for nothing."""
    parts = [_cpus(demand.nano_cpus)] if demand.nano_cpus else []
    parts += [f"{bytes_size(demand.memory_bytes)} of memory"] if demand.memory_bytes else []
    return ", ".join(parts + [f"{amount} {kind}" for kind, amount in demand.generic])


def _unavailable(node: Node) -> str:
    if node.spec.availability == NODE_AVAILABILITY_DRAIN:
        return "is drained"
    if node.spec.availability == NODE_AVAILABILITY_PAUSE:
        return "is paused"
    assert node.status.state != NODE_STATE_READY, "an active node that is ready is available"
    return f"is {NodeState.Name(node.status.state).removeprefix('NODE_STATE_').lower()}"


def _lacking(info: NodeInfo, demand: Demand) -> str:
    parts: list[str] = []
    if demand.nano_cpus > max(0, info.free_nano_cpus):
        free = format_cpus(max(0, info.free_nano_cpus))
        parts.append(f"needs {_cpus(demand.nano_cpus)}, {free} free")
    if demand.memory_bytes > max(0, info.free_memory_bytes):
        free = bytes_size(max(0, info.free_memory_bytes))
        parts.append(f"needs {bytes_size(demand.memory_bytes)} of memory, {free} free")
    for kind, amount in demand.generic:
        free = info.free_generic.get(kind, 0)
        if amount > free:
            parts.append(f"needs {amount} {kind}, {max(0, free)} free")
    return "; ".join(parts)


def _cpus(nano_cpus: int) -> str:
    number = format_cpus(nano_cpus)
    return f"{number} CPU" if number == "1" else f"{number} CPUs"


def _unmet(constraint: Constraint, node: Node) -> str:
    value = value_of(constraint.key, node)
    is_so = f"{constraint.key} is {value}" if value else f"it has no {constraint.key}"
    return f"{constraint} does not hold: {is_so}"


def _other_platform(node: Node, demand: Demand) -> str:
    built_for = ", ".join("/".join(filter(None, platform)) for platform in demand.platforms)
    platform = node.description.platform
    return f"is {platform.os}/{platform.architecture}, the image is for {built_for}"


def _protocol(number: int) -> str:
    return Protocol.Name(Protocol.ValueType(number)).removeprefix("PROTOCOL_").lower()
