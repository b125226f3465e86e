"""What a node makes of an image that turns out to be none."""

from __future__ import annotations

import asyncio
import hashlib
import io
from pathlib import Path

import grpc.aio
import pytest

from swarm.api.v1.image_pb2 import FindImageResponse, Image, ImageBlob
from swarm.worker.images.fetcher import ImageFetcher
from swarm.worker.images.layout import Layout
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.port import RuntimeFailed

NO_MANIFEST = b"no JSON"


def test_blobs_that_make_no_image_are_an_error_like_any_other(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    digest, size = layout.write_blob(io.BytesIO(NO_MANIFEST))
    assert digest == f"sha256:{hashlib.sha256(NO_MANIFEST).hexdigest()}"

    async def find(digest: str) -> FindImageResponse:
        blobs = [ImageBlob(digest=digest, size_bytes=size)]
        return FindImageResponse(image=Image(id=digest, blobs=blobs))

    def nobody(address: str, node_id: str) -> grpc.aio.Channel:
        raise AssertionError(f"{node_id} at {address} is asked for what is here")

    fetcher = ImageFetcher(ImageStore(layout), "n1", find, nobody)
    with pytest.raises(RuntimeFailed, match="cannot be used"):
        asyncio.run(fetcher.ensure(digest))
