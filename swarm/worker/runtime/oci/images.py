"""The images of an `oci` node: the layout, and the layers unpacked for overlay mounts."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

from swarm.worker.images.archive import load_archive, name_loaded, save_archive
from swarm.worker.images.layout import NAME, ImageDamaged, Layout, StoredImage
from swarm.worker.runtime.oci import unpack
from swarm.worker.runtime.port import Image, RuntimeFailed, RuntimeRefused

LAYER_NAME_CHARACTERS = 20  # short, as all layers' paths must fit into one page for mount(2)


def layer_name(diff_id: str) -> str:
    """The directory of an unpacked layer."""
    return diff_id.partition(":")[2][:LAYER_NAME_CHARACTERS]


class OciImages:
    """An Images (port.py) with its layers under `directory`. `layers_in_use` are those of tasks, by
    name. `layout` is the node's store of images, where it has one."""

    def __init__(
        self,
        directory: Path,
        layers_in_use: Callable[[], set[str]],
        layout: Layout | None = None,
    ) -> None:
        self._layers_in_use = layers_in_use
        self._layout = layout or Layout(directory / "images")
        self._layers = directory / "layers"
        self._unpacking: dict[str, asyncio.Lock] = {}

    async def has(self, reference: str) -> bool:
        return await asyncio.to_thread(self._layout.find, reference) is not None

    async def list(self) -> list[Image]:
        return await asyncio.to_thread(self._list)

    def _list(self) -> list[Image]:
        images: list[Image] = []
        for descriptor in self._layout.index():
            name = descriptor.get("annotations", {}).get(NAME, "")
            with contextlib.suppress(ImageDamaged):
                size = self._layout.image(descriptor).size_bytes
                images.append(Image(name, descriptor["digest"], size))
        return images

    async def load(self, archive: Path) -> list[str]:
        try:
            return await self._layout.change(lambda: self._load(archive))
        except ImageDamaged as error:
            raise RuntimeRefused(f"{archive.name} cannot be loaded: {error}") from None
        except OSError as error:
            raise RuntimeFailed(f"cannot load {archive.name}: {error.strerror}") from None

    def _load(self, archive: Path) -> list[str]:
        try:
            return name_loaded(self._layout, load_archive(self._layout, archive))
        except (ImageDamaged, OSError):
            self._layout.remove_unreachable()
            raise

    async def save(self, reference: str, archive: Path) -> None:
        descriptor = await asyncio.to_thread(self._layout.find, reference)
        if descriptor is None:
            raise RuntimeRefused(f'there is no image "{reference}" on this node', "image")
        name = descriptor.get("annotations", {}).get(NAME, "")
        try:
            await asyncio.to_thread(save_archive, self._layout, descriptor, name, archive)
        except (ImageDamaged, OSError) as error:
            raise RuntimeFailed(f"cannot save {reference}: {error}") from None

    async def remove(self, reference: str) -> None:
        """The name goes, and what no other image needs; running tasks keep their layers."""
        await self._layout.change(lambda: self._remove(reference))

    def _remove(self, reference: str) -> None:
        descriptor = self._layout.find(reference)
        if descriptor is not None:
            kept = [other for other in self._layout.index() if other != descriptor]
            self._layout.write_index(kept)
            self._layout.remove_unreachable()
            self._remove_layers()

    def _remove_layers(self) -> None:
        needed = self._layers_in_use()
        for descriptor in self._layout.index():
            with contextlib.suppress(ImageDamaged):
                needed |= {layer_name(digest) for digest in self._layout.image(descriptor).diff_ids}
        for path in self._layers.iterdir() if self._layers.is_dir() else ():
            if path.name not in needed:
                shutil.rmtree(path, ignore_errors=True)

    async def image(self, reference: str) -> StoredImage:
        """Raises RuntimeRefused where it is not on this node, or damaged."""
        descriptor = await asyncio.to_thread(self._layout.find, reference)
        if descriptor is None:
            raise RuntimeRefused(
                f"No such image: {reference}: the swarm has none of this name: `swarmctl pull`, "
                "`swarmctl image load` or `swarmctl build` it",
                "image",
            )
        try:
            return await asyncio.to_thread(self._layout.image, descriptor)
        except (ImageDamaged, KeyError, TypeError) as error:
            raise RuntimeRefused(f'image "{reference}" is damaged: {error}', "image") from None

    async def layers(self, image: StoredImage) -> list[Path]:
        """The unpacked layers, lowest first. Raises RuntimeRefused where one is damaged."""
        paths: list[Path] = []
        for blob, diff_id in zip(image.layers, image.diff_ids, strict=True):
            path = self._layers / layer_name(diff_id)
            async with self._unpacking.setdefault(diff_id, asyncio.Lock()):
                if not path.is_dir():
                    await self._unpack(blob, diff_id, path)
            paths.append(path)
        return paths

    async def _unpack(self, blob: str, diff_id: str, path: Path) -> None:
        fresh = path.with_name(f"{path.name}.new")
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
        fresh.mkdir(parents=True, mode=0o755)
        source = await asyncio.to_thread(self._layout.blob_path(blob).open, "rb")
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", unpack.__file__, str(fresh),
                stdin=source, stdout=PIPE, stderr=PIPE,
            )  # fmt: skip
            out, err = await process.communicate()
        finally:
            source.close()
        found = f"sha256:{out.decode().strip()}"
        if process.returncode != 0 or found != diff_id:
            await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
            said = err.decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"its content is {found}"
            raise RuntimeRefused(f"image layer {diff_id} cannot be unpacked: {why}", "image")
        fresh.rename(path)
