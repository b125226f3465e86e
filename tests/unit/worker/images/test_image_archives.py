"""Archives into the layout and out of it, and archives that are wrong."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from swarm.worker.images.archive import load_archive, name_loaded, save_archive
from swarm.worker.images.layout import ImageDamaged, Layout
from swarm.worker.runtime.image_archive import Entry, write_archive

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
