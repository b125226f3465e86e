"""Images in an OCI image layout on disk: blobs by digest, `index.json` with the names."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from swarm.worker.images import reference as references
from swarm.worker.images.pieces import piece_list
from swarm.worker.runtime.image_archive import ARCHITECTURES

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
NAME = "org.opencontainers.image.ref.name"
# On images that managers know of; others are this node's own affair.
OF_CLUSTER = "swarm.cluster"
COPY_BYTES = 1024 * 1024
JSON_BYTES_MAX = 16 * 1024 * 1024
# What a look into JSON ends with that has another shape than it should.
MISSHAPEN = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)

Descriptor = dict[str, Any]
T = TypeVar("T")


class ImageDamaged(Exception):  # noqa: N818 - says what is the case
    """A blob is missing, or is not what its digest says."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of this platform: its manifest's digest, its config, its layers' blobs."""

    digest: str
    config_digest: str
    config: dict[str, Any]
    layers: tuple[str, ...]
    size_bytes: int

    @property
    def diff_ids(self) -> list[str]:
        return self.config["rootfs"]["diff_ids"]


class Layout:
    """Blobs are written whole or not at all, so a crash leaves nothing half."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._blobs = directory / "blobs" / "sha256"
        # Held by whoever writes blobs that the index does not name yet, or removes such.
        self._changing = asyncio.Lock()
        # Of images that are taken from peers.
        self.arriving: set[str] = set()

    async def change(self, work: Callable[[], T]) -> T:
        """Does it in a thread, alone. Who is cancelled meanwhile waits for its end: a thread goes
        on, and nobody else may come between."""
        async with self._changing:
            running = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait({running})
                raise

    @property
    def directory(self) -> Path:
        return self._directory

    def blob_path(self, digest: str) -> Path:
        """Raises ImageDamaged for what is no sha256 digest."""
        kind, _, value = digest.partition(":")
        if kind != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise ImageDamaged(f'"{digest}" is no sha256 digest')
        return self._blobs / value

    def has_blob(self, digest: str) -> bool:
        return self.blob_path(digest).exists()

    def partial_path(self, digest: str) -> Path:
        """Where a blob grows that is taken from peers."""
        return self._directory / "partial" / self.blob_path(digest).name

    def piece_list(self, digest: str) -> bytes:
        """The digests of the blob's pieces, worked out once. Raises OSError."""
        path = self._directory / "pieces" / self.blob_path(digest).name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            pieces = piece_list(self.blob_path(digest))
            self.write_piece_list(digest, pieces)
            return pieces

    def has_piece_list(self, digest: str) -> bool:
        return (self._directory / "pieces" / self.blob_path(digest).name).exists()

    def write_piece_list(self, digest: str, pieces: bytes) -> None:
        path = self._directory / "pieces" / self.blob_path(digest).name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        fresh.write_bytes(pieces)
        fresh.rename(path)

    def adopt_partial(self, digest: str) -> None:
        """The blob is there in full: checked, written through, and in its place.

        Raises ImageDamaged, or OSError.
        """
        partial = self.partial_path(digest)
        with partial.open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            if found != digest:
                partial.unlink()
                raise ImageDamaged(f"blob {digest} is damaged: its content is {found}")
            os.fsync(file.fileno())
        self._blobs.mkdir(parents=True, exist_ok=True)
        partial.rename(self.blob_path(digest))

    def write_blob(self, source: BinaryIO, expected: str = "") -> tuple[str, int]:
        """Copies a blob in; its digest and size. Raises ImageDamaged unless it is `expected`."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        size = 0
        descriptor, name = tempfile.mkstemp(dir=self._blobs, prefix=".new")
        fresh = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                while data := source.read(COPY_BYTES):
                    digest.update(data)
                    size += file.write(data)
                file.flush()
                os.fsync(file.fileno())
            found = f"sha256:{digest.hexdigest()}"
            if expected and found != expected:
                raise ImageDamaged(f"blob {expected} is damaged: its content is {found}")
            fresh.rename(self.blob_path(found))
        except BaseException:
            with suppress(FileNotFoundError):
                fresh.unlink()
            raise
        return found, size

    def read_json(self, digest: str) -> dict[str, Any]:
        path = self.blob_path(digest)
        try:
            if path.stat().st_size > JSON_BYTES_MAX:
                raise ImageDamaged(f"blob {digest} is too large for what it is said to be")
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise ImageDamaged(f"blob {digest} is missing") from None
        except (ValueError, RecursionError):
            raise ImageDamaged(f"blob {digest} is no JSON") from None
        if not isinstance(content, dict):
            raise ImageDamaged(f"blob {digest} is not what it is said to be")
        return content  # pyright: ignore[reportUnknownVariableType]

    def index(self) -> list[Descriptor]:
        try:
            return json.loads((self._directory / "index.json").read_bytes())["manifests"]
        except FileNotFoundError:
            return []

    def name(self, descriptor: Descriptor, name: str) -> None:
        """Gives an image a name, "" for none; the name is taken from whichever had it."""
        kept = [
            other
            for other in self.index()
            if (name and other.get("annotations", {}).get(NAME) != name)
            or (not name and (other["digest"] != descriptor["digest"] or _is_held(other)))
        ]
        named = {key: value for key, value in descriptor.items() if key != "annotations"}
        if name:
            named["annotations"] = {NAME: name}
        self.write_index([*kept, named])

    def write_index(self, manifests: list[Descriptor]) -> None:
        """On the disk when it returns, and so are the blobs that it names."""
        self._directory.mkdir(parents=True, exist_ok=True)
        layout = self._directory / "oci-layout"
        if not layout.exists():
            layout.write_text('{"imageLayoutVersion": "1.0.0"}')
        fresh = self._directory / "index.json.new"
        with fresh.open("w") as file:
            file.write(json.dumps({"schemaVersion": 2, "manifests": manifests}, indent=1))
            file.flush()
            os.fsync(file.fileno())
        if self._blobs.is_dir():
            _sync_folder(self._blobs)
        fresh.rename(self._directory / "index.json")
        _sync_folder(self._directory)

    def hold(self, descriptor: Descriptor) -> None:
        """The image is the cluster's: it stays until `let_go`, whatever names it has here."""
        if descriptor["digest"] in self.held():
            return
        named = {key: value for key, value in descriptor.items() if key != "annotations"}
        self.write_index([*self.index(), {**named, "annotations": {OF_CLUSTER: "true"}}])

    def let_go(self, digests: set[str]) -> None:
        self.write_index([d for d in self.index() if not (_is_held(d) and d["digest"] in digests)])

    def held(self) -> list[str]:
        """The digests of the cluster's images."""
        return [descriptor["digest"] for descriptor in self.index() if _is_held(descriptor)]

    def find(self, text: str) -> Descriptor | None:
        """By name, or by the digest in it, which then decides alone."""
        try:
            wanted = references.parse(text)
        except ValueError:
            return None
        for descriptor in self.index():
            if wanted.digest:
                if descriptor["digest"] == wanted.digest:
                    return descriptor
            elif descriptor.get("annotations", {}).get(NAME) == references.familiar(wanted):
                return descriptor
        return None

    def image(self, descriptor: Descriptor) -> StoredImage:
        """Raises ImageDamaged where something is missing, or nothing is for this platform."""
        manifest, digest = self._manifest(descriptor)
        config = self.read_json(manifest["config"]["digest"])
        layers = tuple(layer["digest"] for layer in manifest["layers"])
        if len(layers) != len(config["rootfs"]["diff_ids"]):
            raise ImageDamaged(f"image {digest}: its layers are not those of its config")
        size = sum(int(layer["size"]) for layer in manifest["layers"])
        return StoredImage(digest, manifest["config"]["digest"], config, layers, size)

    def _manifest(self, descriptor: Descriptor) -> tuple[dict[str, Any], str]:
        content = self.read_json(descriptor["digest"])
        if "manifests" not in content:
            return content, descriptor["digest"]
        machine = ARCHITECTURES.get(platform.machine(), platform.machine())
        for inner in content["manifests"]:
            wanted = inner.get("platform", {})
            if (wanted.get("os"), wanted.get("architecture")) == ("linux", machine):
                return self.read_json(inner["digest"]), inner["digest"]
        raise ImageDamaged(f"image {descriptor['digest']} has nothing for linux/{machine}")

    def referenced(self, digest: str) -> list[Descriptor]:
        """The descriptors that a manifest or an index names; platforms that are not here fail."""
        content = self.read_json(digest)
        if "manifests" in content:
            return content["manifests"]
        return [content["config"], *content["layers"]]

    def reachable(self, descriptors: list[Descriptor]) -> set[str]:
        """The digests of all blobs that these images need and that are here."""
        found: set[str] = set()
        waiting = [descriptor["digest"] for descriptor in descriptors]
        while waiting:
            digest = waiting.pop()
            if digest in found or not self.has_blob(digest):
                continue
            found.add(digest)
            with suppress(ImageDamaged, *MISSHAPEN):
                if self.blob_path(digest).stat().st_size < COPY_BYTES:
                    waiting += [inner["digest"] for inner in self.referenced(digest)]
        return found

    def remove_unreachable(self) -> None:
        """What no image needs, but for blobs that are on their way into one."""
        needed = {digest.partition(":")[2] for digest in self.reachable(self.index())}
        needed |= {digest.partition(":")[2] for digest in self.arriving}
        if not self._blobs.is_dir():
            return
        for path in self._blobs.iterdir():
            if path.name not in needed:
                path.unlink()
                (self._directory / "pieces" / path.name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_held(descriptor: Descriptor) -> bool:
    return OF_CLUSTER in (descriptor.get("annotations") or {})
