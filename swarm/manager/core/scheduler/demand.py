"""What a task of one service revision asks of a node, worked out once per revision."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import PUBLISH_MODE_HOST, Platform, Resources
from swarm.manager.core.scheduler.constraint import Constraint, matches, parse_all

# Go's names on the left, `uname`'s as Docker's images and nodes may give them on the right.
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}

HostPort = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Demand:
    """Reservations (limits do not count), host ports and placement of a service revision."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    # (protocol, port) published on the node of the task.
    host_ports: tuple[HostPort, ...] = ()
    # (kind, how many) of generic resources.
    generic: tuple[tuple[str, int], ...] = ()
    constraints: tuple[Constraint, ...] = ()
    # (os, architecture), normalised; empty: any.
    platforms: tuple[tuple[str, str], ...] = ()
    # 0 for no limit.
    max_replicas_per_node: int = 0
    # Spread descriptors, outermost first.
    preferences: tuple[str, ...] = ()

    def suits(self, node: Node) -> bool:
        """Do the constraints hold on this node?"""
        return not self.constraints or matches(self.constraints, node)

    def runs_on_platform(self, node: Node) -> bool:
        """Does the node have one of the platforms the image is built for?"""
        if not self.platforms:
            return True
        os, architecture = _normalised(node.description.platform)
        return any(
            want_os in ("", os) and want_architecture in ("", architecture)
            for want_os, want_architecture in self.platforms
        )


NO_DEMAND = Demand()


def demand_of(spec: ServiceSpec | None) -> Demand:
    """The demand of a spec; a revision that is gone demands nothing."""
    if spec is None:
        return NO_DEMAND
    reserved, placement = spec.task.resources.reservations, spec.task.placement
    return Demand(
        nano_cpus=reserved.nano_cpus,
        memory_bytes=reserved.memory_bytes,
        host_ports=_host_ports(spec),
        generic=tuple(amounts_of(reserved).items()),
        constraints=tuple(parse_all(placement.constraints)),
        platforms=tuple(_normalised(platform) for platform in placement.platforms),
        max_replicas_per_node=placement.max_replicas_per_node,
        preferences=tuple(p.spread_descriptor for p in placement.preferences),
    )


def amounts_of(resources: Resources) -> dict[str, int]:
    """How many there are of each kind of generic resource, counted or named."""
    amounts: dict[str, int] = {}
    for generic in resources.generic:
        amount = generic.count + len(generic.names)
        if amount:
            amounts[generic.kind] = amounts.get(generic.kind, 0) + amount
    return amounts


def spread_value(node: Node, descriptor: str) -> str:
    """The node's value of "node.labels.X" or "engine.labels.X"; "" where it has no such label."""
    scope, _, label = descriptor.partition(".labels.")
    of_engine = scope.lower() == "engine"
    labels = node.description.engine.labels if of_engine else node.spec.annotations.labels
    return labels.get(label, "")


def _host_ports(spec: ServiceSpec) -> tuple[HostPort, ...]:
    return tuple(
        (port.protocol, port.published_port)
        for port in spec.endpoint.ports
        if port.publish_mode == PUBLISH_MODE_HOST and port.published_port
    )


def _normalised(platform: Platform) -> tuple[str, str]:
    architecture = platform.architecture.lower()
    return platform.os.lower(), _ARCHITECTURES.get(architecture, architecture)
