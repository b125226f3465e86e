"""`docker save` and OCI archives, into a layout and out of it."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from swarm.worker.images import reference as references
from swarm.worker.images.layout import (
    CONFIG_TYPE,
    INDEX_TYPES,
    JSON_BYTES_MAX,
    LAYER_TYPE,
    MANIFEST_TYPE,
    MISSHAPEN,
    NAME,
    Descriptor,
    ImageDamaged,
    Layout,
)

CONTAINERD_NAME = "io.containerd.image.name"


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that was taken in; its blobs go again unless the layout's index names it."""

    descriptor: Descriptor
    names: list[str]


def load_archive(layout: Layout, archive: Path) -> list[Loaded]:
    """The images that it held. Raises ImageDamaged, or OSError."""
    try:
        with tarfile.open(archive) as tar:
            names = {member.name.removeprefix("./"): member for member in tar.getmembers()}
            source = _Archive(tar, names)
            # A newer `docker save` is both; as an OCI layout its digests are those of the registry.
            if "index.json" in names and "oci-layout" in names:
                return _load_oci(layout, source)
            if "manifest.json" in names:
                return _load_docker(layout, source)
    except tarfile.ReadError:
        raise ImageDamaged("it is no tar archive, or it is cut off") from None
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, *MISSHAPEN) as error:
        raise ImageDamaged(f"it is damaged ({type(error).__name__}: {error})") from None
    raise ImageDamaged("it is neither a `docker save` archive nor an OCI archive")


class _Archive:
    def __init__(self, tar: tarfile.TarFile, names: dict[str, tarfile.TarInfo]) -> None:
        self._tar = tar
        self._names = names

    def has(self, name: str) -> bool:
        return name in self._names

    def open(self, name: str) -> BinaryIO:
        if name not in self._names:
            raise ImageDamaged(f"{name} is missing in it")
        content = self._tar.extractfile(self._names[name])
        if content is None:
            raise ImageDamaged(f"{name} in it is no file")
        return cast("BinaryIO", content)

    def json(self, name: str) -> Any:
        return json.loads(self.open(name).read(JSON_BYTES_MAX))


def _load_docker(layout: Layout, source: _Archive) -> list[Loaded]:
    loaded: list[Loaded] = []
    for image in source.json("manifest.json"):
        config, config_size = layout.write_blob(source.open(image["Config"]))
        layers: list[Descriptor] = []
        for name in image["Layers"]:
            digest, size = layout.write_blob(source.open(name))
            layers.append({"mediaType": LAYER_TYPE, "digest": digest, "size": size})
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config, "size": config_size},
            "layers": layers,
        }
        content = json.dumps(manifest, sort_keys=True).encode()
        digest, size = layout.write_blob(io.BytesIO(content))
        descriptor: Descriptor = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": size}
        layout.image(descriptor)
        loaded.append(Loaded(descriptor, _familiar(image.get("RepoTags") or [])))
    return loaded


def _load_oci(layout: Layout, source: _Archive) -> list[Loaded]:
    loaded: list[Loaded] = []
    for descriptor in source.json("index.json")["manifests"]:
        _copy(layout, source, descriptor, needed=True)
        layout.image(descriptor)
        annotations: dict[str, str] = descriptor.get("annotations") or {}
        name = annotations.get(CONTAINERD_NAME) or annotations.get(NAME, "")
        kept = {key: value for key, value in descriptor.items() if key != "annotations"}
        names = _familiar([name] if ":" in name or "/" in name else [])
        loaded.append(Loaded(kept, names))
    return loaded


def _copy(layout: Layout, source: _Archive, descriptor: Descriptor, needed: bool) -> None:
    """A manifest or index with all below it; an index may name platforms that are left out."""
    path = f"blobs/{descriptor['digest'].replace(':', '/')}"
    layout.blob_path(descriptor["digest"])
    if not needed and not source.has(path):
        return
    layout.write_blob(source.open(path), descriptor["digest"])
    inner = layout.referenced(descriptor["digest"])
    if descriptor.get("mediaType") in INDEX_TYPES:
        for manifest in inner:
            _copy(layout, source, manifest, needed=False)
        return
    for blob in inner:
        if not layout.has_blob(blob["digest"]):
            name = f"blobs/{blob['digest'].replace(':', '/')}"
            layout.write_blob(source.open(name), blob["digest"])


def _familiar(names: list[str]) -> list[str]:
    return [references.familiar(references.parse(name)) for name in names]


def name_loaded(layout: Layout, loaded: list[Loaded]) -> list[str]:
    """Gives the images their names in this layout; the names, or the digest of one without."""
    said: list[str] = []
    for image in loaded:
        for name in image.names or [""]:
            layout.name(image.descriptor, name)
        said += image.names or [image.descriptor["digest"]]
    return said


def save_archive(layout: Layout, descriptor: Descriptor, name: str, archive: Path) -> None:
    """As `save_archives`, of one image."""
    save_archives(layout, [(descriptor, [name] if name else [])], archive)


def save_archives(
    layout: Layout, images: Sequence[tuple[Descriptor, list[str]]], archive: Path
) -> None:
    """An OCI archive that is a `docker save` archive too, so Docker loads it. Raises OSError."""
    entries: list[Descriptor] = []
    docker: list[dict[str, Any]] = []
    for descriptor, names in images:
        image = layout.image(descriptor)
        plain = {key: value for key, value in descriptor.items() if key != "annotations"}
        entries += [
            {**plain, "annotations": {NAME: name, CONTAINERD_NAME: name}} if name else plain
            for name in names or [""]
        ]
        manifest = layout.read_json(image.digest)
        docker.append(
            {
                "Config": _blob_name(manifest["config"]["digest"]),
                "RepoTags": names,
                "Layers": [_blob_name(digest) for digest in image.layers],
            }
        )
    index = {"schemaVersion": 2, "manifests": entries}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", json.dumps(index).encode())
        _add(tar, "manifest.json", json.dumps(docker).encode())
        for digest in sorted(layout.reachable(entries)):
            info = tarfile.TarInfo(_blob_name(digest))
            path = layout.blob_path(digest)
            info.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(info, file)


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
