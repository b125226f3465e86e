"""Archives into the layout and out of it, and archives that are wrong."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from swarm.worker.images.archive import load_archive, name_loaded, save_archive
from swarm.worker.images.layout import ImageDamaged, Layout
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.image_archive import Entry, write_archive
from swarm.worker.runtime.port import RuntimeRefused

ENTRIES = [Entry("etc"), Entry("etc/x", b"content", mode=0o644)]


def load(layout: Layout, archive: Path) -> list[str]:
    return name_loaded(layout, load_archive(layout, archive))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_archive(tmp_path / "a.tar", "web:1", ENTRIES, {"Cmd": ["serve"]})
    return tmp_path / "a.tar"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "images")


def rewritten(archive: Path, change: Any) -> Path:
    """The archive with each member's content put through `change(name, data)`; None drops it."""
    target = archive.with_name("changed.tar")
    with tarfile.open(archive) as source, tarfile.open(target, "w") as tar:
        for member in source.getmembers():
            content = source.extractfile(member)
            if content is None:
                tar.addfile(member)
                continue
            data = change(member.name, content.read())
            if data is not None:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return target


def test_the_same_content_makes_the_same_archive(archive: Path, tmp_path: Path):
    write_archive(tmp_path / "b.tar", "web:1", ENTRIES, {"Cmd": ["serve"]})
    assert (tmp_path / "b.tar").read_bytes() == archive.read_bytes()


def test_loaded_images_are_found_by_name_and_digest(archive: Path, layout: Layout):
    assert load(layout, archive) == ["web:1"]
    found = layout.find("docker.io/library/web:1")
    assert found is not None
    image = layout.image(found)
    assert image.config["config"] == {"Cmd": ["serve"]}
    assert len(image.layers) == 1
    assert layout.find(f"other@{image.digest}") == found
    assert layout.find("web:2") is None
    assert layout.find("No Name") is None


def test_a_saved_archive_keeps_the_digest_and_is_both_kinds(
    archive: Path, layout: Layout, tmp_path: Path
):
    load(layout, archive)
    found = layout.find("web:1")
    assert found is not None
    save_archive(layout, found, "web:1", tmp_path / "saved.tar")
    other = Layout(tmp_path / "other")
    assert load(other, tmp_path / "saved.tar") == ["web:1"]
    again = other.find("web:1")
    assert again is not None
    assert again["digest"] == found["digest"]
    only_docker = rewritten(
        tmp_path / "saved.tar", lambda name, data: None if name == "index.json" else data
    )
    third = Layout(tmp_path / "third")
    assert load(third, only_docker) == ["web:1"]


def test_a_name_moves_to_the_newer_image(archive: Path, layout: Layout, tmp_path: Path):
    load(layout, archive)
    write_archive(tmp_path / "b.tar", "web:1", [Entry("other")], {})
    load(layout, tmp_path / "b.tar")
    assert len(layout.index()) == 1
    found = layout.find("web:1")
    assert found is not None
    assert layout.image(found).config["config"] == {}
    layout.remove_unreachable()
    layout.image(found)


def test_what_no_image_needs_is_removed(archive: Path, layout: Layout, tmp_path: Path):
    load(layout, archive)
    layout.write_index([])
    layout.remove_unreachable()
    assert list((tmp_path / "images" / "blobs" / "sha256").iterdir()) == []


def test_not_an_archive(layout: Layout, tmp_path: Path):
    (tmp_path / "x").write_bytes(b"nothing" * 500)
    with pytest.raises(ImageDamaged):
        load(layout, tmp_path / "x")
    with tarfile.open(tmp_path / "y.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("readme"))
    with pytest.raises(ImageDamaged, match="neither"):
        load(layout, tmp_path / "y.tar")
    assert layout.index() == []


def test_a_missing_layer(archive: Path, layout: Layout):
    changed = rewritten(archive, lambda name, data: None if "layer.tar" in name else data)
    with pytest.raises(ImageDamaged, match="missing"):
        load(layout, changed)
    assert layout.index() == []


def test_a_changed_blob_is_noticed(archive: Path, layout: Layout, tmp_path: Path):
    load(layout, archive)
    found = layout.find("web:1")
    assert found is not None
    save_archive(layout, found, "web:1", tmp_path / "saved.tar")
    layer = layout.image(found).layers[0].partition(":")[2]
    changed = rewritten(
        tmp_path / "saved.tar", lambda name, data: data + b"x" if layer in name else data
    )
    with pytest.raises(ImageDamaged, match="damaged"):
        load(Layout(tmp_path / "other"), changed)


def test_a_digest_that_is_a_path_is_refused(layout: Layout, tmp_path: Path):
    evil = {"mediaType": "x", "digest": "sha256:../../../../etc/passwd", "size": 1}
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        for name, data in {
            "oci-layout": b"{}",
            "index.json": json.dumps({"manifests": [evil]}).encode(),
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(ImageDamaged, match="digest"):
        load(layout, tmp_path / "evil.tar")


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _docker(config: object, **more: object) -> dict[str, bytes]:
    image = {"Config": "c", "Layers": [], **more}
    return {"manifest.json": _json([image]), "c": _json(config)}


_DEEP = b"[" * 100_000 + b"]" * 100_000
_NONE = {"rootfs": {"diff_ids": []}}
HOSTILE = {
    "an index that is a list": {"oci-layout": b"{}", "index.json": b"[]"},
    "a digest that is a number": {
        "oci-layout": b"{}",
        "index.json": _json({"manifests": [{"digest": 5}]}),
    },
    "an index without an end": {"oci-layout": b"{}", "index.json": _DEEP},
    "a config without an end": {**_docker(_NONE), "c": _DEEP},
    "a config that is a list": _docker([]),
    "a rootfs that is nothing": _docker({"rootfs": None}),
    "settings that are a list": _docker({**_NONE, "config": [1]}),
    "a name that is a number": _docker(_NONE, RepoTags=[5]),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_an_archive_of_another_shape_is_refused_and_leaves_nothing(
    what: str, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in HOSTILE[what].items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    layout = Layout(tmp_path / "layout")
    with pytest.raises(RuntimeRefused, match="the image cannot be loaded: "):
        await ImageStore(layout).load(path)
    assert layout.index() == []
    assert [p for p in (tmp_path / "layout").rglob("*") if p.is_file()] == []


async def test_a_link_to_itself_in_an_archive_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("manifest.json")
        info.type, info.linkname = tarfile.SYMTYPE, "manifest.json"
        tar.addfile(info)
    with pytest.raises(RuntimeRefused, match="the image cannot be loaded: "):
        await ImageStore(Layout(tmp_path / "layout")).load(tmp_path / "a.tar")


async def test_a_change_that_is_broken_off_lets_nobody_between(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    begun, gate, order = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        gate.wait(10)
        order.append("first")

    broken_off = asyncio.create_task(layout.change(first))
    await asyncio.to_thread(begun.wait, 10)
    broken_off.cancel()
    second = asyncio.create_task(layout.change(lambda: order.append("second")))
    await asyncio.sleep(0)
    gate.set()
    await second
    assert order == ["first", "second"]
    assert broken_off.cancelled()
