"""Writes a small image as a `docker save` archive, the same bytes for the same content."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or with `link` a symbolic link, or with neither data nor link a directory."""

    path: str
    data: bytes | None = None
    link: str = ""
    mode: int = 0o755


def write_archive(
    archive: Path, reference: str, entries: Sequence[Entry], config: dict[str, Any]
) -> None:
    """One image of one layer, named `reference`."""
    layer = _layer(entries)
    layer_digest = hashlib.sha256(layer).hexdigest()
    content = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "swarm"}],
        },
        sort_keys=True,
    ).encode()
    name = f"{hashlib.sha256(content).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": [f"{layer_digest}/layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        _add(tar, Entry(name, content, mode=0o644))
        _add(tar, Entry(layer_digest, mode=0o755))
        _add(tar, Entry(f"{layer_digest}/layer.tar", layer, mode=0o644))
        _add(tar, Entry("manifest.json", json.dumps(manifest).encode(), mode=0o644))


def _layer(entries: Sequence[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            _add(tar, entry)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode = entry.mode
    if entry.link:
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
        tar.addfile(info)
    elif entry.data is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        info.size = len(entry.data)
        tar.addfile(info, io.BytesIO(entry.data))
