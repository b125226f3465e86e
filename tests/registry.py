"""A small registry on loopback, with the demonstration image in it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from swarm.worker.images.layout import Layout
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.demo import write_demo_image

LOGIN = "Basic " + base64.b64encode(b"me:secret").decode()
TOKEN = "a-token"


class Registry(BaseHTTPRequestHandler):
    """What pulling needs of the distribution API. `private/` asks for a login: `LOGIN`, or
    (`tokens`) a token that /token gives for it."""

    tokens = False

    blobs: ClassVar[dict[str, tuple[str, bytes]]] = {}
    tags: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v2/")
        self.asked.append(path)
        # At its root a registry says how it wants to be logged in to.
        asks = not path or "private/" in path
        if path.startswith("/token?"):
            if self.headers.get("Authorization") == LOGIN:
                self._answer(200, "application/json", json.dumps({"token": TOKEN}).encode())
            else:
                self._refuse(401, "UNAUTHORIZED")
            return
        wanted = f"Bearer {TOKEN}" if self.tokens else LOGIN
        if asks and self.headers.get("Authorization") != wanted:
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
            realm = f"http://{self.headers['Host']}/token"
            challenge = f'Bearer realm="{realm}",service="test"' if self.tokens else "Basic realm=t"
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serve_registry(folder: Path) -> Generator[str]:
    """HOST:PORT; it has public/app:1 and private/app:1."""
    archive = folder.with_name("app.tar")
    asyncio.run(write_demo_image(archive, "app:1"))
    store = ImageStore(Layout(folder))
    (image,) = asyncio.run(store.load(archive))
    for blob in image.blobs:
        kind = "application/octet-stream"
        if blob.digest == image.id:
            kind = "application/vnd.oci.image.manifest.v1+json"
        Registry.blobs[blob.digest] = (kind, store.layout.blob_path(blob.digest).read_bytes())
    Registry.tags.update({"public/app:1": image.id, "private/app:1": image.id})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
