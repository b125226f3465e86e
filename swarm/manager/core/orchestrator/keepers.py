"""Which nodes keep a copy of an image, so that the death of one loses none.

A keeper stays one while it is ready. A new one is rather a node that has the image already, else
whichever a hash of both gives, so that many images are spread over the nodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.node_pb2 import NODE_STATE_READY, Node
from swarm.manager.core.store import Draft, StoreChange, View

COPIES = 2


class Keepers:
    """Works on the images alone whose keepers may have to change."""

    def __init__(self) -> None:
        self._to_see: dict[str, None] = {}
        # Those that have fewer keepers than they should: there are too few nodes.
        self._short: dict[str, None] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._to_see)

    def start(self, view: View) -> None:
        self._to_see = {image.id: None for image in view.images()}

    def changed(self, change: StoreChange, view: View) -> None:
        row = change.new if change.new is not None else change.old
        if isinstance(row, Image):
            self._short.pop(row.id, None)
            self._to_see[row.id] = None
        elif isinstance(row, Node) and _was_ready(change.old) != _was_ready(change.new):
            self._to_see.update(dict.fromkeys(view.images_kept_by(row.id)))
            self._to_see.update(self._short)

    def look_again(self, image_id: str) -> None:
        """What was written of it was refused."""
        self._to_see[image_id] = None

    def write(self, draft: Draft) -> None:
        if not self._to_see:
            return
        nodes = {node.id: node for node in draft.nodes() if _was_ready(node)}
        for image_id in self._to_see:
            image = draft.image(image_id)
            if image is None:
                self._short.pop(image_id, None)
                continue
            keepers = chosen(image, nodes)
            if len(keepers) < COPIES:
                self._short[image_id] = None
            if keepers and keepers != list(image.keeper_node_ids):
                changed = Image()
                changed.CopyFrom(image)
                changed.keeper_node_ids[:] = keepers
                draft.replace(changed)
        self._to_see.clear()


def chosen(image: Image, nodes: Mapping[str, Node]) -> list[str]:
    """Of the nodes that are ready, in order of preference."""
    kept = [node_id for node_id in image.keeper_node_ids if node_id in nodes][:COPIES]
    if len(kept) == COPIES:
        return kept

    def preference(node: Node) -> tuple[bool, bytes]:
        has_it = image.id in node.description.images.digests
        return not has_it, hashlib.sha256(f"{image.id} {node.id}".encode()).digest()

    others = sorted((node for node in nodes.values() if node.id not in kept), key=preference)
    return [*kept, *(node.id for node in others)][:COPIES]


def _was_ready(row: object) -> bool:
    return (
        isinstance(row, Node)
        and row.status.state == NODE_STATE_READY
        and bool(row.description.images.address)
    )
