"""Pulling by skopeo from a registry of the test's own, on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from swarm.worker.images.layout import Layout
from swarm.worker.images.registry import pull
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.demo import write_demo_image
from swarm.worker.runtime.fake import FakeRuntime
from swarm.worker.runtime.port import RuntimeFailed, RuntimeRefused

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo")

LOGIN = "Basic " + base64.b64encode(b"me:secret").decode()


class Registry(BaseHTTPRequestHandler):
    """What pulling needs of the distribution API. `private/` asks for a login."""

    blobs: ClassVar[dict[str, tuple[str, bytes]]] = {}
    tags: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v2/")
        # At its root a registry says how it wants to be logged in to.
        asks = not path or "private/" in path
        if asks and self.headers.get("Authorization") != LOGIN:
            self._refuse(401, "UNAUTHORIZED")
            return
        if not path:
            self._answer(200, "application/json", b"{}")
            return
        name, _, reference = path.replace("/blobs/", "/manifests/").rpartition("/manifests/")
        found = self.blobs.get(self.tags.get(f"{name}:{reference}", reference))
        if found is None:
            self._refuse(404, "MANIFEST_UNKNOWN")
        else:
            self._answer(200, *found)

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self, code: int, word: str) -> None:
        body = json.dumps({"errors": [{"code": word, "message": word.lower().replace("_", " ")}]})
        self._answer(code, "application/json", body.encode())

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        if code == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[str]:
    """HOST:PORT; it has public/app:1 and private/app:1."""
    archive = tmp_path / "app.tar"
    await write_demo_image(archive, "app:1")
    store = ImageStore(Layout(tmp_path / "served"))
    (image,) = await store.load(archive)
    for blob in image.blobs:
        kind = "application/octet-stream"
        if blob.digest == image.id:
            kind = "application/vnd.oci.image.manifest.v1+json"
        Registry.blobs[blob.digest] = (kind, store.layout.blob_path(blob.digest).read_bytes())
    Registry.tags.update({"public/app:1": image.id, "private/app:1": image.id})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


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
    assert not (tmp_path / "auth.json").exists()

    for name, error, words in (
        ("private/app:1", RuntimeRefused, "refused the login"),
        ("public/app:2", RuntimeRefused, "no such image"),
    ):
        with pytest.raises(error, match=words):
            await pull(runtime, f"{registry}/{name}", "", tmp_path / "nothing.tar")
    with pytest.raises(RuntimeFailed, match="cannot be reached"):
        await pull(runtime, "127.0.0.1:9/app:1", "", tmp_path / "nothing.tar")
