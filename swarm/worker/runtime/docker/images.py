"""The engine's images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

import aiohttp
from aiodocker import Docker, DockerError

from swarm.worker.images.registry_auth import credentials
from swarm.worker.runtime.docker.errors import engine_errors, pull_verdict, reason
from swarm.worker.runtime.port import Image, RuntimeFailed, RuntimeRefused

CHUNK_BYTES = 1024 * 1024


class DockerImages:
    """An Images (port.py) over the engine's own store."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker

    async def has(self, reference: str) -> bool:
        return await self._inspect(reference) is not None

    async def _inspect(self, reference: str) -> dict[str, Any] | None:
        async with engine_errors(f'look for image "{reference}"'):
            try:
                return await self._docker.images.inspect(reference)
            except DockerError as error:
                if error.status in (400, 404):
                    return None
                raise

    async def list(self) -> list[Image]:
        async with engine_errors("list images"):
            found = await self._docker.images.list()
        images: list[Image] = []
        for image in found:
            tags: list[str] = image.get("RepoTags") or []
            names = [name for name in tags if name != "<none>:<none>"]
            digests: list[str] = image.get("RepoDigests") or []
            digest = digests[0].partition("@")[2] if digests else image["Id"]
            images += [Image(name, digest, image["Size"]) for name in names or [""]]
        return images

    async def load(self, archive: Path) -> list[str]:
        references: list[str] = []
        try:
            # aiodocker does not type this call.
            pieces = cast(
                "AsyncIterator[dict[str, Any]]",
                self._docker.images.import_image(_chunks(archive), stream=True),
            )
            async for piece in pieces:
                said = str(piece.get("stream", ""))
                _, loaded, name = said.partition("Loaded image")
                if loaded:
                    references.append(name.removeprefix(" ID").removeprefix(": ").strip())
        except DockerError as error:
            raise RuntimeRefused(f"{archive.name} is no image archive: {reason(error)}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeFailed(f"cannot load {archive.name}: {reason(error)}") from None
        if not references:
            raise RuntimeRefused(f"{archive.name} is no image archive: it holds no image")
        return references

    async def save(self, reference: str, archive: Path) -> None:
        if not await self.has(reference):
            raise RuntimeRefused(f'there is no image "{reference}" on this node', "image")
        exported = cast(
            "AbstractAsyncContextManager[aiohttp.StreamReader]",
            self._docker.images.export_image(reference),
        )
        async with engine_errors(f'save image "{reference}"'), exported as content:
            file = await asyncio.to_thread(archive.open, "wb")
            try:
                async for piece in content.iter_chunked(CHUNK_BYTES):
                    await asyncio.to_thread(file.write, piece)
            finally:
                await asyncio.to_thread(file.close)

    async def remove(self, reference: str) -> None:
        async with engine_errors(f'remove image "{reference}"'):
            try:
                await self._docker.images.delete(reference)
            except DockerError as error:
                if error.status != 404:
                    raise

    async def pull(self, reference: str, registry_auth: str) -> None:
        """Raises RuntimeRefused or RuntimeFailed (`pull_verdict`)."""
        name, auth = reference, credentials(reference, registry_auth)
        if auth and "/" not in reference:
            # aiodocker wants a name with a slash where it is given credentials.
            name = f"docker.io/library/{reference}"
        try:
            async for _ in self._docker.images.pull(name, auth=auth or None, stream=True):
                pass
        except (DockerError, aiohttp.ClientError, OSError) as error:
            raise pull_verdict(reference, error) from None


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield piece
    finally:
        await asyncio.to_thread(file.close)
