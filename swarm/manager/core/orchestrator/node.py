"""What a node's state, availability and labels mean for the tasks on it."""

from __future__ import annotations

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_AVAILABILITY_DRAIN,
    NODE_STATE_DOWN,
    NODE_STATE_READY,
    Node,
)
from swarm.manager.core.scheduler.demand import Demand

# A node that stays down for so long won't tell how its tasks ended (swarmkit dispatcher.go).
ORPHAN_AFTER_NS = 24 * 3600 * 1_000_000_000


def is_down(node: Node | None) -> bool:
    """Can't its tasks be trusted to run?"""
    return node is None or node.status.state == NODE_STATE_DOWN


def is_lost(node: Node | None, now_ns: int) -> bool:
    """Will nothing ever be heard of what ran there?"""
    return node is None or (is_down(node) and now_ns >= orphaned_at_ns(node))


def orphaned_at_ns(node: Node) -> int:
    """When a node that is down counts as lost."""
    return node.status.changed_at_ns + ORPHAN_AFTER_NS


def takes_tasks(node: Node) -> bool:
    """May a task start there?"""
    return (
        node.status.state == NODE_STATE_READY and node.spec.availability == NODE_AVAILABILITY_ACTIVE
    )


def drains_in_turn(node: Node | None) -> bool:
    """Do its tasks run on until their replacements do?"""
    return (
        node is not None
        and node.spec.availability == NODE_AVAILABILITY_DRAIN
        and node.spec.HasField("drain")
    )


def drains_at_once(node: Node | None) -> bool:
    """Are its tasks to stop whether others run in their stead or not?"""
    drains = node is not None and node.spec.availability == NODE_AVAILABILITY_DRAIN
    return drains and not drains_in_turn(node)


def keeps_tasks(node: Node | None, demand: Demand) -> bool:
    """May a task stay there? Pause keeps, drain evicts, and so does a constraint that fails.

    As in Swarm a changed label evicts at once (constraint_enforcer.go).
    """
    return (
        node is not None
        and node.spec.availability != NODE_AVAILABILITY_DRAIN
        and demand.suits(node)
    )
