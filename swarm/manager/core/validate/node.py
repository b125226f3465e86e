"""Join, update, remove a node: requests to transactions."""

from collections.abc import Collection

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_DRAIN,
    NODE_ROLE_MANAGER,
    NODE_ROLE_WORKER,
    NODE_STATE_READY,
    NODE_STATE_UNKNOWN,
    Member,
    Node,
    NodeAvailability,
    NodeDescription,
    NodeRole,
    NodeSpec,
    NodeStatus,
)
from swarm.api.v1.store_pb2 import TABLE_NODE, Change, Deletion, Object, Transaction
from swarm.manager.core.store import View, guard
from swarm.manager.core.validate.annotations import check_labels
from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest, changed_since


def join(
    view: View,
    node_id: str,
    role: NodeRole.ValueType,
    description: NodeDescription,
    availability: NodeAvailability.ValueType,
    address: str,
    now_ns: int,
) -> Transaction:
    """A new node with the role of its token. One that is there already is left as it is:
    the same machine asks again."""
    present = view.node(node_id)
    if present is not None:
        return Transaction(who=_who(node_id), guards=[guard(present)])
    node = new_node(node_id, role, description, availability, address, now_ns)
    return Transaction(who=_who(node_id), changes=[Change(create=Object(node=node))])


def new_node(
    node_id: str,
    role: NodeRole.ValueType,
    description: NodeDescription,
    availability: NodeAvailability.ValueType,
    address: str,
    now_ns: int,
) -> Node:
    return Node(
        id=node_id,
        spec=NodeSpec(role=role, availability=availability),
        description=description,
        status=NodeStatus(state=NODE_STATE_UNKNOWN, address=address, changed_at_ns=now_ns),
        role=role,
    )


def update(
    view: View,
    node_id: str,
    version: int,
    spec: NodeSpec,
    reachable_raft_ids: Collection[int],
    now_ns: int,
    who: str,
    check_index: int | None = None,
) -> Transaction:
    """A new spec for the node, read by the caller at `version`: labels, availability, role.
    Refused where the node was changed after `check_index`, a revision of the store.

    A role is what is wanted; the brain changes the Raft group and then `Node.role`.
    Raises InvalidRequest.
    """
    del now_ns  # the log entry's time becomes the object's
    node = check_version(view, node_id, version, check_index)
    check_labels("node labels", spec.annotations.labels)
    if node.spec.role == NODE_ROLE_MANAGER and spec.role == NODE_ROLE_WORKER:
        _check_demotion(view, node, reachable_raft_ids)
    changed = Node()
    changed.CopyFrom(node)
    changed.spec.CopyFrom(spec)
    if spec.availability != NODE_AVAILABILITY_DRAIN:
        changed.spec.ClearField("drain")
    elif spec.HasField("drain") and not spec.drain.max_unavailable:
        raise InvalidRequest("max unavailable: at least one task must be allowed to move at once")
    return Transaction(
        who=who,
        changes=[Change(replace=Object(node=changed), expected_version=node.meta.version)],
    )


def check_version(view: View, node_id: str, version: int, check_index: int | None = None) -> Node:
    """The node, which must be as the caller read it (`version` 0: any). Raises InvalidRequest."""
    node = _existing(view, node_id)
    written = node.meta.version
    if check_index is not None and written > check_index:
        raise InvalidRequest(changed_since("node", _name(node), written, check_index))
    if version and written != version:
        raise InvalidRequest(
            f"update out of sequence: node {_name(node)} was changed meanwhile; "
            "read it again and repeat",
            ErrorCode.CONFLICT,
        )
    return node


def remove(view: View, node_id: str, force: bool, who: str) -> Transaction:
    """Raises InvalidRequest unless the node is down (or `force`) and no member of the group."""
    node = _existing(view, node_id)
    if any(member.node_id == node_id for member in _members(view)):
        raise InvalidRequest(
            f"node {_name(node)} is a cluster manager and is a member of the raft cluster. "
            f"It must be demoted to worker before removal: swarmctl node demote {_name(node)}",
            ErrorCode.FAILED_PRECONDITION,
        )
    if node.status.state == NODE_STATE_READY and not force:
        raise InvalidRequest(
            f"node {_name(node)} is not down and can't be removed: "
            "run swarmctl swarm leave there first, or use --force",
            ErrorCode.FAILED_PRECONDITION,
        )
    deletion = Deletion(table=TABLE_NODE, id=node_id)
    version = 0 if force else node.meta.version
    return Transaction(who=who, changes=[Change(delete=deletion, expected_version=version)])


def _check_demotion(view: View, node: Node, reachable_raft_ids: Collection[int]) -> None:
    """The group must have a member to go on with, and a quorum among those that remain."""
    voters = [member for member in _members(view) if not member.learner]
    rest = [member for member in voters if member.node_id != node.id]
    if not any(_stays_manager(view, member) for member in rest):
        raise InvalidRequest(
            "attempting to demote the last manager of the swarm: promote another node first",
            ErrorCode.FAILED_PRECONDITION,
        )
    if len(rest) == len(voters):
        return  # not a voter yet: no vote is lost
    reachable = sum(member.raft_id in reachable_raft_ids for member in rest)
    if reachable < len(rest) // 2 + 1:
        raise InvalidRequest(
            "can't remove member from the raft: this would result in a loss of quorum; "
            f"of the {len(rest)} other managers {reachable} can be reached: "
            "bring one back, or add one first",
            ErrorCode.FAILED_PRECONDITION,
        )


def _stays_manager(view: View, member: Member) -> bool:
    node = view.node(member.node_id)
    return node is not None and node.spec.role == NODE_ROLE_MANAGER


def _members(view: View) -> list[Member]:
    return [member for member in view.members() if not member.removed]


def _existing(view: View, node_id: str) -> Node:
    node = view.node(node_id)
    if node is None:
        raise InvalidRequest(f"node {node_id} not found", ErrorCode.NOT_FOUND)
    return node


def _name(node: Node) -> str:
    return node.description.hostname or node.id


def _who(node_id: str) -> str:
    return f"node {node_id}"
