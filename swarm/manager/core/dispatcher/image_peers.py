"""From which nodes a node takes an image: those that have it, and those that take it just now.

Who takes it is what was asked of this manager a moment ago; it is not stored. So those that begin
together hear of each other, and need the node that had it first only once.
"""

from __future__ import annotations

import hashlib

from swarm.api.v1.image_pb2 import Image, ImagePeerAddress
from swarm.api.v1.node_pb2 import NODE_STATE_READY
from swarm.manager.core.store import View

TAKING_S = 30.0
PEERS_MAX = 24


class ImagePeers:
    """Deterministic with `now`, monotonic seconds."""

    def __init__(self) -> None:
        self._taking: dict[str, dict[str, float]] = {}

    def asked(self, image: Image, node_id: str, view: View, now: float) -> list[ImagePeerAddress]:
        """A node takes it: whom to ask. Each gets others in another order."""
        taking = self._taking.setdefault(image.id, {})
        taking[node_id] = now
        for other, at in list(taking.items()):
            if now - at > TAKING_S:
                del taking[other]
        for digest in [key for key, nodes in self._taking.items() if _is_over(nodes, now)]:
            del self._taking[digest]
        peers = [
            ImagePeerAddress(node_id=node.id, address=node.description.images.address)
            for node in view.nodes()
            if node.id != node_id
            and node.status.state == NODE_STATE_READY
            and node.description.images.address
            and (node.id in taking or image.id in node.description.images.digests)
        ]
        peers.sort(key=lambda peer: _weight(node_id, peer.node_id))
        return peers[:PEERS_MAX]


def _is_over(nodes: dict[str, float], now: float) -> bool:
    return all(now - at > TAKING_S for at in nodes.values())


def _weight(asker: str, peer: str) -> bytes:
    return hashlib.sha256(f"{asker} {peer}".encode()).digest()
