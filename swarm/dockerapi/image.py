"""Images as Docker Engine's `GET /images/{name}/json` gives them."""

from __future__ import annotations

import json
from typing import Any

from swarm.api.v1.image_pb2 import Image


def size_of(image: Image) -> int:
    """Bytes on a node's disk."""
    return sum(blob.size_bytes for blob in image.blobs)


def image_to_json(image: Image, config: bytes) -> dict[str, Any]:
    """`config` is the image's own, "" where no node could be asked for it."""
    own: dict[str, Any] = json.loads(config) if config else {}
    root: dict[str, Any] = own.get("rootfs") or {}
    layers: list[str] = root.get("diff_ids") or []
    repositories = dict.fromkeys(name.rpartition(":")[0] for name in image.names)
    return {
        "Id": image.config_digest,
        "RepoTags": list(image.names),
        "RepoDigests": [f"{repository}@{image.id}" for repository in repositories],
        "Created": own.get("created", ""),
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": size_of(image),
        "Config": own.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": layers},
        "Descriptor": {"digest": image.id},
        "Nodes": list(image.keeper_node_ids),
    }
