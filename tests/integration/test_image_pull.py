"""Pulling by skopeo from a registry of the test's own, on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm.worker.images.layout import Layout
from swarm.worker.images.registry import pull
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.fake import FakeRuntime
from swarm.worker.runtime.port import RuntimeFailed, RuntimeRefused
from tests.registry import Registry, serve_registry

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo")


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[str]:
    async with serve_registry(tmp_path / "served") as address:
        yield address


async def test_three_errors_and_two_images(registry: str, tmp_path: Path) -> None:
    runtime = FakeRuntime()
    archive = tmp_path / "pulled.tar"
    await pull(runtime, f"{registry}/public/app:1", "", archive)
    store = ImageStore(Layout(tmp_path / "images"))
    (image,) = await store.load(archive, ["app:1"])
    config = store.config(image.id)
    assert f"sha256:{hashlib.sha256(config).hexdigest()}" in Registry.blobs

    login = json.dumps({"username": "me", "password": "secret"}).encode()
    auth = base64.urlsafe_b64encode(login).decode().rstrip("=")
    await pull(runtime, f"{registry}/private/app:1", auth, tmp_path / "private.tar")
    assert (tmp_path / "private.tar").stat().st_size > 100_000

    for name, error, words in (
        ("private/app:1", RuntimeRefused, "refused the login"),
        ("public/app:2", RuntimeRefused, "no such image"),
    ):
        with pytest.raises(error, match=words):
            await pull(runtime, f"{registry}/{name}", "", tmp_path / "nothing.tar")
    with pytest.raises(RuntimeFailed, match="cannot be reached"):
        await pull(runtime, "127.0.0.1:9/app:1", "", tmp_path / "nothing.tar")
