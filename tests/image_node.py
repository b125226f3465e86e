"""A node's store and port for images, and nothing else of it: what the test of image peers runs in
network namespaces. Talks in lines of JSON: its settings, then what to take, on stdin.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from swarm.api.v1.image_pb2 import FindImageResponse, Image, ImagePeerAddress
from swarm.security.node_keys import NodeBundle
from swarm.security.tls import node_channel
from swarm.worker.images import serving
from swarm.worker.images.fetcher import ImageFetcher
from swarm.worker.images.layout import Layout
from swarm.worker.images.serving import ImageServer
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.fake import FakeRuntime


def say(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def lie() -> None:
    """Whatever is read is sent with one bit that is another."""
    read = serving.read_piece

    def wrong(path: Path, number: int) -> bytes:
        data = bytearray(read(path, number))
        data[len(data) // 2] ^= 1
        return bytes(data)

    serving.read_piece = wrong


async def main() -> None:
    lines = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    settings: dict[str, Any] = json.loads(await lines.readline())
    bundle = NodeBundle(*(settings[part].encode() for part in ("key", "certificate", "root")))
    if settings["lies"]:
        lie()
    store = ImageStore(Layout(Path(settings["folder"])))
    found = FindImageResponse()

    async def find(digest: str) -> FindImageResponse:
        assert digest == found.image.id
        return found

    fetcher = ImageFetcher(
        store, settings["node_id"], find, lambda address, node: node_channel(address, node, bundle)
    )
    server = ImageServer(store, fetcher, FakeRuntime(), settings["cluster_id"], lambda: bundle)
    port = await server.start(settings["host"])
    images = await store.load(Path(settings["archive"])) if settings["archive"] else []
    say(port=port, image=images[0].SerializeToString().hex() if images else "")
    async for line in lines:
        take = json.loads(line)
        found.image.CopyFrom(Image.FromString(bytes.fromhex(take["image"])))
        found.peers.extend(ImagePeerAddress(node_id=i, address=a) for i, a in take["peers"])
        watching = asyncio.create_task(tell_of_half(store))
        await fetcher.ensure(found.image.id)
        watching.cancel()
        say(
            event="done",
            digests={blob.digest: digest(store, blob.digest) for blob in found.image.blobs},
        )
    await server.stop()


async def tell_of_half(store: ImageStore) -> None:
    async with store.news:
        await store.news.wait_for(
            lambda: sum(len(partial.here) for partial in store.partial.values()) >= 50
        )
    say(event="half")


def digest(store: ImageStore, blob: str) -> str:
    return f"sha256:{hashlib.sha256(store.layout.blob_path(blob).read_bytes()).hexdigest()}"


if __name__ == "__main__":
    asyncio.run(main())
