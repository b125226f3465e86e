"""Placement as users ask for it: constraints on a label that comes and goes, so many replicas a
node, a spread, generic resources; and what of it surely fits when the storm is over."""

from __future__ import annotations

import random

from swarm.api.v1.node_pb2 import NodeSpec
from swarm.api.v1.service_pb2 import PlacementPreference, ServiceSpec
from swarm.api.v1.types_pb2 import GenericResource

_ZONE = "zone"
_ZONES = ("a", "b")
# Of each node: enough for what services may reserve at rest.
_GPUS = ("g0", "g1", "g2", "g3")
_REPLICAS_PER_NODE_AT_REST = 2


def gpus_of(number: int) -> list[GenericResource]:
    """The generic resources of a node: named on every second one, counted on the others."""
    if number % 2:
        return [GenericResource(kind="gpu", count=len(_GPUS))]
    return [GenericResource(kind="gpu", names=_GPUS)]


def draw_placement(rng: random.Random, spec: ServiceSpec) -> None:
    """Where it may run."""
    placement = spec.task.placement
    placement.Clear()
    if rng.random() < 0.3:
        placement.constraints.append(f"node.labels.{_ZONE}!={rng.choice(_ZONES)}")
    if rng.random() < 0.3:
        spread = PlacementPreference(spread_descriptor=f"node.labels.{_ZONE}")
        placement.preferences.append(spread)
    many = spec.HasField("replicated") or spec.HasField("replicated_job")
    if many and rng.random() < 0.3:
        placement.max_replicas_per_node = rng.choice((1, 2))
    del spec.task.resources.reservations.generic[:]
    if rng.random() < 0.3:
        spec.task.resources.reservations.generic.add(kind="gpu", count=1)


def first_zone(number: int, spec: NodeSpec) -> None:
    """Nodes begin in the zones by turns."""
    spec.annotations.labels[_ZONE] = _ZONES[number % len(_ZONES)]


def draw_zone(rng: random.Random, spec: NodeSpec) -> None:
    """The node goes to another zone, or to none."""
    spec.annotations.labels.pop(_ZONE, None)
    zone = rng.choice((*_ZONES, ""))
    if zone:
        spec.annotations.labels[_ZONE] = zone


def leave_zone(spec: NodeSpec) -> None:
    """A node in no zone suits every constraint."""
    spec.annotations.labels.pop(_ZONE, None)


def reserves(spec: ServiceSpec) -> bool:
    reserved = spec.task.resources.reservations
    return reserved.nano_cpus > 0 or len(reserved.generic) > 0


def made_to_fit(spec: ServiceSpec) -> None:
    """There is room for an update that starts its tasks first."""
    placement = spec.task.placement
    if 0 < placement.max_replicas_per_node < _REPLICAS_PER_NODE_AT_REST:
        placement.max_replicas_per_node = _REPLICAS_PER_NODE_AT_REST
