"""What was heard of nodes, written into their rows: only where it differs from what is stored."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.managers_pb2 import HeardNode
from swarm.api.v1.node_pb2 import Node, NodeDescription, NodeRole
from swarm.manager.core.dispatcher.liveness import Transition
from swarm.manager.core.store import Draft


class NodeRows:
    """Keeps descriptions and addresses until the store has them."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[NodeDescription | None, str]] = {}

    def heard(self, heard: HeardNode) -> None:
        """Take over a description or address that came with a sign of life."""
        described = heard.HasField("description")
        if not described and not heard.address:
            return
        old_description, old_address = self._heard.get(heard.node_id, (None, ""))
        description = heard.description if described else old_description
        self._heard[heard.node_id] = (description, heard.address or old_address)

    @property
    def has_news(self) -> bool:
        """May a row have to be written?"""
        return bool(self._heard)

    def forget(self, node_id: str) -> None:
        """The node's row is gone."""
        self._heard.pop(node_id, None)

    def write(self, draft: Draft, transitions: Sequence[Transition], now_ns: int) -> list[str]:
        """Replace the rows that differ. Returns their ids."""
        wishes = {transition.node_id: transition for transition in transitions}
        written: list[str] = []
        for node_id in dict.fromkeys([*self._heard, *wishes]):
            node = draft.node(node_id)
            if node is None:
                self._heard.pop(node_id, None)
                continue
            changed = Node()
            changed.CopyFrom(node)
            self._describe(changed)
            if node_id in wishes:
                _set_state(changed, wishes[node_id], now_ns)
            if changed != node:
                draft.replace(changed)
                written.append(node_id)
            else:
                self._heard.pop(node_id, None)
        return written

    def set_role(self, draft: Draft, node_id: str, role: NodeRole.ValueType) -> None:
        """Change what the node's certificate is to say."""
        node = draft.node(node_id)
        if node is not None and node.role != role:
            changed = Node()
            changed.CopyFrom(node)
            changed.role = role
            draft.replace(changed)

    def _describe(self, node: Node) -> None:
        description, address = self._heard.get(node.id, (None, ""))
        if description is not None:
            node.description.CopyFrom(description)
        if address:
            node.status.address = address


def _set_state(node: Node, wish: Transition, now_ns: int) -> None:
    if node.status.state != wish.state:
        node.status.state = wish.state
        node.status.changed_at_ns = now_ns
        node.status.message = wish.message
