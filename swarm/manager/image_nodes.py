"""The nodes, as far as images are concerned: the one of this manager does what users ask."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc.aio

from swarm.api.v1.image_pb2 import Image, ImagePeerAddress
from swarm.api.v1.image_pb2_grpc import ImageNodeStub
from swarm.manager.core.dispatcher.image_peers import ImagePeers
from swarm.manager.manager import Manager, Unavailable

if TYPE_CHECKING:
    from swarm.api.v1.image_pb2_grpc import ImageNodeAsyncStub


class ImageNodes:
    def __init__(self, manager: Manager, open_channel: Callable[[str], grpc.aio.Channel]) -> None:
        self._manager = manager
        self._open_channel = open_channel
        self._peers = ImagePeers()

    @property
    def own_node_id(self) -> str:
        member = self._manager.store.member(self._manager.core.raft_id)
        return member.node_id if member is not None else ""

    def peers(self, image: Image, node_id: str) -> list[ImagePeerAddress]:
        """From which nodes this one is to take it."""
        return self._peers.asked(image, node_id, self._manager.store, time.monotonic())

    @asynccontextmanager
    async def own(self) -> AsyncGenerator[ImageNodeAsyncStub]:
        """The agent beside this manager. Raises Unavailable where it does not run yet."""
        node = self._manager.store.node(self.own_node_id)
        address = node.description.images.address if node is not None else ""
        if not address:
            raise Unavailable("this node's agent has not said where it serves images yet")
        channel = self._open_channel(address)
        try:
            yield ImageNodeStub(channel)
        finally:
            await channel.close()
