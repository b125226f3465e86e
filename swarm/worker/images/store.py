"""The node's images: blobs by digest in an OCI layout, and which of them are the cluster's."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from swarm.api.v1.image_pb2 import Image, ImageBlob
from swarm.worker.images.archive import Loaded, load_archive, save_archives
from swarm.worker.images.layout import MISSHAPEN, NAME, Descriptor, ImageDamaged, Layout
from swarm.worker.images.pieces import PartialBlob, list_digest
from swarm.worker.images.reference import familiar, parse
from swarm.worker.runtime.port import RuntimeFailed, RuntimeRefused


class ImageStore:
    """`changed` is called when the node has another image of the cluster, or one less."""

    def __init__(self, layout: Layout, changed: Callable[[], None] = lambda: None) -> None:
        self.layout = layout
        self.changed = changed
        # Blobs that grow, for those who want the pieces that are here already.
        self.partial: dict[str, PartialBlob] = {}
        self.news = asyncio.Condition()

    def scratch(self) -> tempfile.TemporaryDirectory[str]:
        """For archives on their way; on the same disk."""
        folder = self.layout.directory / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=folder)

    def held(self) -> list[str]:
        """The digests of the cluster's images that are here in full."""
        return sorted(set(self.layout.held()))

    def clean(self) -> None:
        """What an agent that was killed left on its way. Blobs of images that were not whole are
        kept: who wants them again goes on where it was."""
        shutil.rmtree(self.layout.directory / "incoming", ignore_errors=True)

    async def load(self, archive: Path, names: Sequence[str] | None = None) -> list[Image]:
        """Takes in a `docker save` or OCI archive; `names` are those that it gets, if not its own.

        Raises RuntimeRefused when the file is no such archive or is damaged, RuntimeFailed.
        """
        try:
            images = await self.layout.change(lambda: self._load(archive, names))
        except ImageDamaged as error:
            raise RuntimeRefused(f"the image cannot be loaded: {error}") from None
        except OSError as error:
            raise RuntimeFailed(f"the image cannot be loaded: {error.strerror}") from None
        self.changed()
        return images

    def _load(self, archive: Path, names: Sequence[str] | None) -> list[Image]:
        """All that the archive holds, or nothing."""
        try:
            loaded = load_archive(self.layout, archive)
            images = [self._described(one, names) for one in loaded]
        except MISSHAPEN as error:
            self.layout.remove_unreachable()
            raise ImageDamaged(f"its config is none ({type(error).__name__}: {error})") from None
        except (ImageDamaged, OSError):
            self.layout.remove_unreachable()
            raise
        if not images:
            raise ImageDamaged("it holds no image")
        for one in loaded:
            self.layout.hold(one.descriptor)
        return images

    def pulled(self, reference: str) -> str:
        """The digest that an image of a registry's has here; empty where it is not."""
        for descriptor in self.layout.index():
            if descriptor.get("annotations", {}).get(NAME) == _pulled_name(reference):
                return str(descriptor["digest"])
        return ""

    async def keep_pulled(self, archive: Path, reference: str) -> str:
        """For this node alone: the cluster does not know it. Its digest here, which need not be the
        registry's. Raises RuntimeRefused, RuntimeFailed."""

        def keep() -> str:
            (loaded,) = load_archive(self.layout, archive)
            self.layout.name(loaded.descriptor, _pulled_name(reference))
            return loaded.descriptor["digest"]

        try:
            return await self.layout.change(keep)
        except (ImageDamaged, ValueError) as error:
            raise RuntimeRefused(f'image "{reference}" cannot be used: {error}', "image") from None
        except OSError as error:
            raise RuntimeFailed(f'image "{reference}" cannot be kept: {error.strerror}') from None

    def _described(self, loaded: Loaded, names: Sequence[str] | None) -> Image:
        stored = self.layout.image(loaded.descriptor)
        config = stored.config
        image = Image(
            id=loaded.descriptor["digest"],
            names=loaded.names if names is None else names,
            config_digest=stored.config_digest,
            created_at_ns=_unix_ns(config.get("created")),
            architecture=str(config.get("architecture", "")),
            os=str(config.get("os", "")),
            labels=_labels(config),
        )
        for digest in sorted(self.layout.reachable([loaded.descriptor])):
            image.blobs.append(
                ImageBlob(
                    digest=digest,
                    size_bytes=self.layout.blob_path(digest).stat().st_size,
                    pieces_digest=list_digest(self.layout.piece_list(digest)),
                )
            )
        return image

    async def save(self, images: Sequence[tuple[str, list[str]]], archive: Path) -> None:
        """Images by digest, each with the names that it gets in the archive."""

        def write() -> None:
            save_archives(
                self.layout, [(self.descriptor(digest), names) for digest, names in images], archive
            )

        try:
            await asyncio.to_thread(write)
        except (ImageDamaged, OSError) as error:
            raise RuntimeFailed(f"the image cannot be saved: {error}") from None

    def descriptor(self, digest: str) -> Descriptor:
        """Raises ImageDamaged where it is not here."""
        found = self.layout.find(f"image@{digest}")
        if found is None:
            raise ImageDamaged(f"image {digest} is not on this node")
        return found

    def config(self, digest: str) -> bytes:
        """The image's config, as it is. Raises ImageDamaged, or OSError."""
        stored = self.layout.image(self.descriptor(digest))
        return self.layout.blob_path(stored.config_digest).read_bytes()

    async def adopt(self, image: Image) -> None:
        """All blobs of it are here. Raises RuntimeFailed where they do not make an image."""
        descriptor: Descriptor = {"digest": image.id, **self._kind(image.id)}

        def hold() -> None:
            self.layout.image(descriptor)
            self.layout.hold(descriptor)

        try:
            await self.layout.change(hold)
        except (ImageDamaged, *MISSHAPEN) as error:
            raise RuntimeFailed(f"image {image.id} cannot be used: {error}") from None
        self.changed()

    def _kind(self, digest: str) -> dict[str, Any]:
        content = self.layout.read_json(digest)
        is_index = "manifests" in content
        plain = "application/vnd.oci.image.{}.v1+json".format("index" if is_index else "manifest")
        size = self.layout.blob_path(digest).stat().st_size
        return {"mediaType": content.get("mediaType", plain), "size": size}

    async def forget(self, digests: set[str]) -> None:
        """The cluster has these no more."""
        if not digests & set(self.layout.held()):
            return

        def forget() -> None:
            self.layout.let_go(digests)
            self.layout.remove_unreachable()

        await self.layout.change(forget)
        self.changed()

    async def tell(self) -> None:
        """There is a new piece, or a whole blob."""
        async with self.news:
            self.news.notify_all()


def _pulled_name(reference: str) -> str:
    parsed = parse(reference)
    return f"{familiar(parsed)}@{parsed.digest}" if parsed.digest else familiar(parsed)


def _labels(config: dict[str, Any]) -> dict[str, str]:
    inner: dict[str, Any] = config.get("config") or {}
    labels: dict[str, Any] = inner.get("Labels") or {}
    return {str(key): str(value) for key, value in labels.items()}


def _unix_ns(text: object) -> int:
    """An image's own word of when it was made; 0 where it has none."""
    try:
        return int(datetime.fromisoformat(str(text)).timestamp() * 1e9)
    except (ValueError, OverflowError):
        return 0
