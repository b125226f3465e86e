"""Pulling by skopeo from a registry of the test's own, on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from registry import Registry, serve_registry

from swarm.api.v1.image_pb2 import FindImageRequest, FindImageResponse
from swarm.cli.registry_logins import Login
from swarm.security.certificates import (
    create_request,
    create_root,
    issue_node_certificate,
    node_id_of,
)
from swarm.security.node_keys import NodeBundle
from swarm.security.roles import Role
from swarm.worker.images.fetcher import UnknownImage
from swarm.worker.images.layout import Layout
from swarm.worker.images.node import NodeImages
from swarm.worker.images.registry import pull
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.demo import write_demo_image
from swarm.worker.runtime.fake import FakeRuntime
from swarm.worker.runtime.oci.runtime import OciRuntime
from swarm.worker.runtime.port import Identity, RuntimeFailed, RuntimeRefused, TaskRun

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with serve_registry(tmp_path / "served") as address:
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


async def test_a_task_is_given_what_the_swarm_has_first_then_what_its_registry_has(
    registry: str, tmp_path: Path
) -> None:
    layout, bundle = Layout(tmp_path / "images"), a_bundle()
    runtime = OciRuntime(Identity("cluster", "node"), tmp_path / "oci", layout=layout)
    images = NodeImages(layout, "cluster", "node", runtime, lambda: bundle, lambda: None)
    asked: list[str] = []

    async def find(wanted: FindImageRequest) -> FindImageResponse:
        asked.append(wanted.reference or wanted.digest)
        if wanted.reference == "built/here:1":
            return FindImageResponse(image=built)
        raise UnknownImage("unknown", "image")

    images._find = find  # pyright: ignore[reportAttributeAccessIssue] - managers, in the test
    await write_demo_image(tmp_path / "built.tar", "built/here:1")
    (built,) = await images.store.load(tmp_path / "built.tar")

    async def provided(image: str, registry_auth: str = "") -> str:
        run = TaskRun("t", "t", image, registry_auth=registry_auth)
        return (await images.provide(run)).image

    assert await provided("built/here:1") == f"built/here:1@{built.id}"
    seen = len(Registry.asked)
    name = f"{registry}/private/app:1"
    auth = Login("me", "secret").header(registry)
    for wrong in ("", Login("me", "wrong").header(registry), Login("me", "secret").header("other")):
        with pytest.raises(RuntimeRefused, match="refused the login"):
            await provided(name, wrong)
    with pytest.raises(RuntimeFailed, match=r"cannot be reached .*none of this name either"):
        await provided("127.0.0.1:9/app:1")
    kept = await provided(name, auth)
    assert kept.startswith(f"{name}@sha256:")
    await runtime.images.image(kept)
    by_digest = f"{registry}/public/app@{Registry.tags['public/app:1']}"
    pinned = await provided(by_digest)
    assert pinned.startswith(f"{registry}/public/app@sha256:")
    assert len(Registry.asked) > seen

    # Now they are here: nobody is asked any more.
    seen = len(Registry.asked)
    assert await provided(name) == name
    assert await provided(by_digest) == pinned
    assert len(Registry.asked) == seen
    assert asked[:2] == ["built/here:1", name]
    assert images.reported.digests == [built.id]


def a_bundle() -> NodeBundle:
    root, request = create_root("cluster", now=datetime.now(UTC)), create_request()
    certificate = issue_node_certificate(
        root, request.csr_pem, node_id=node_id_of(request.csr_pem), cluster_id="cluster",
        role=Role.WORKER, now=datetime.now(UTC),
    )  # fmt: skip
    return NodeBundle(request.key_pem, certificate, root.certificate_pem)
