"""Builds images by what the node has: the engine, or buildah. Neither is of our own making."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tarfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from swarm.api.v1.image_pb2 import BuildSettings
from swarm.worker.images.reference import parse
from swarm.worker.runtime.port import RuntimeFailed, RuntimeRefused

LINE_BYTES_MAX = 1 << 20


class Builder(Protocol):
    async def take_base(self, name: str, archive: Path) -> None:
        """An image that the Dockerfile may name; the archive gives it this name."""
        ...

    def build(self, settings: BuildSettings, context: Path, result: Path) -> AsyncIterator[str]:
        """What is going on, line by line; at the end `result` is an archive with the image.

        `context` is a tar archive. Raises RuntimeRefused for what is wrong with it, RuntimeFailed.
        """
        ...


class EngineBuilder:
    """Docker Engine's `POST /build`."""

    def __init__(self, images: Any, client: Any) -> None:
        self._images = images
        self._client = client

    async def take_base(self, name: str, archive: Path) -> None:
        del name
        await self._images.load(archive)

    async def build(
        self, settings: BuildSettings, context: Path, result: Path
    ) -> AsyncIterator[str]:
        image = ""
        async for piece in self._pieces(settings, context):
            if "stream" in piece:
                yield str(piece["stream"])
            elif "aux" in piece:
                image = str(cast("dict[str, Any]", piece["aux"]).get("ID", image))
            elif "error" in piece:
                raise RuntimeRefused(" ".join(str(piece["error"]).split()))
            elif "status" in piece:
                yield f"{piece['status']} {piece.get('progress', '')}".strip() + "\n"
        if not image:
            raise RuntimeFailed("the engine ended the build without a result")
        await self._images.save(image, result)

    async def _pieces(
        self, settings: BuildSettings, context: Path
    ) -> AsyncIterator[dict[str, Any]]:
        import aiohttp

        params = {
            "dockerfile": settings.dockerfile or "Dockerfile",
            "buildargs": json.dumps(dict(settings.build_args)),
            "labels": json.dumps(dict(settings.labels)),
            "target": settings.target,
            "nocache": str(settings.no_cache).lower(),
            "rm": "true",
            "forcerm": "true",
        }
        url = f"{self._client.docker_host}/build"
        try:
            with context.open("rb") as body:
                async with self._client.session.post(
                    url,
                    params=params,
                    data=body,
                    headers={"Content-Type": "application/x-tar"},
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as answer:
                    if answer.status >= 400:
                        said: dict[str, Any] = await answer.json()
                        raise RuntimeRefused(" ".join(str(said.get("message", said)).split()))
                    async for line in answer.content:
                        if line.strip():
                            yield json.loads(line)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RuntimeFailed(f"the engine broke the build off: {error}") from None


class BuildahBuilder:
    """`buildah build`, with storage and cache under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._driver = ""

    async def take_base(self, name: str, archive: Path) -> None:
        reference = parse(name)
        pulled = await self._said("pull", f"docker-archive:{archive}")
        names = [name, f"{reference.name}:{reference.tag}"]
        await self._said("tag", pulled.strip().splitlines()[-1], *dict.fromkeys(names))

    async def build(
        self, settings: BuildSettings, context: Path, result: Path
    ) -> AsyncIterator[str]:
        folder = context.with_name("context")
        await asyncio.to_thread(unpack_context, context, folder)
        dockerfile = _dockerfile(folder, settings.dockerfile)
        identity = context.with_name("id")
        flags = [
            "--format=docker", "--isolation=chroot", "--network=host", "--layers", "--force-rm",
            "--identity-label=false", "--pull=false", f"--iidfile={identity}",
            f"--file={dockerfile}",
        ]  # fmt: skip
        flags += [f"--build-arg={key}={value}" for key, value in settings.build_args.items()]
        flags += [f"--label={key}={value}" for key, value in settings.labels.items()]
        flags += [f"--target={settings.target}"] if settings.target else []
        flags += ["--no-cache"] if settings.no_cache else []
        process = await asyncio.create_subprocess_exec(
            *await self._command(), "build", *flags, str(folder),
            stdout=PIPE, stderr=STDOUT, env=_environment(), limit=LINE_BYTES_MAX,
        )  # fmt: skip
        last = ""
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                text = line.decode(errors="replace")
                last = text.strip() or last
                yield text
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code != 0:
            raise RuntimeRefused(last.removeprefix("Error: ").removeprefix("error "))
        image = await asyncio.to_thread(identity.read_text)
        await self._said("push", image.strip(), f"docker-archive:{result}")

    async def _said(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *await self._command(), *words, stdout=PIPE, stderr=PIPE, env=_environment()
        )
        out, err = await process.communicate()
        if process.returncode != 0:
            why = err.decode(errors="replace").strip().splitlines() or ["it does not say why"]
            raise RuntimeFailed(f"buildah {words[0]}: {why[-1]}")
        return out.decode()

    async def _command(self) -> list[str]:
        """Overlay mounts where the folder's file system has them."""
        for driver in ("overlay", "vfs"):
            if not self._driver:
                process = await asyncio.create_subprocess_exec(
                    *self._with(driver), "images", stdout=PIPE, stderr=PIPE, env=_environment()
                )
                await process.communicate()
                self._driver = driver if process.returncode == 0 else ""
        return self._with(self._driver or "vfs")

    def _with(self, driver: str) -> list[str]:
        root, run = self._folder / driver, self._folder / "run"
        options = ["--root", str(root), "--runroot", str(run), "--storage-driver", driver]
        if driver == "overlay":
            # Else its folder stays a mount of its own, and nobody could remove it.
            options += ["--storage-opt", "overlay.skip_mount_home=true"]
        return ["buildah", *options]


def builder_of(runtime: Any, folder: Path) -> Builder:
    """Raises RuntimeFailed where the node has nothing to build with."""
    if runtime.name == "docker":
        return EngineBuilder(runtime.images, runtime.client)
    if shutil.which("buildah") is not None and os.geteuid() == 0:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return BuildahBuilder(folder)
    raise RuntimeFailed(
        "this node can't build images: install buildah on it (or docker.io, and start swarmd with "
        "--runtime docker), or send the build to another manager with -H"
    )


def unpack_context(archive: Path, folder: Path) -> None:
    """Files as they are in it; nothing outside of the folder. Raises RuntimeRefused."""

    def inside(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        names = [member.name, *([member.linkname] if member.islnk() else [])]
        if any(_leads_out(path, name) for name in names):
            raise RuntimeRefused(f"the build context can't be used: {member.name} leads out of it")
        if member.ischr() or member.isblk():
            raise RuntimeRefused(f"the build context can't be used: {member.name} is a device")
        # What is written to, or has its mode set, is never what an earlier link points to.
        if not member.issym() and any(Path(path, name).is_symlink() for name in names):
            raise RuntimeRefused(f"the build context can't be used: {member.name} is there twice")
        return member

    folder.mkdir()
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter=inside)  # noqa: S202 - each member is looked at
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise RuntimeRefused(f"the build context can't be used: {error}") from None


def _leads_out(folder: str, name: str) -> bool:
    """Also by way of a link: `tarfile`'s own look at it gives up on names that are long enough."""
    parts = name.split("/")
    above = ("/".join(parts[:count]) for count in range(1, len(parts)))
    return (
        name.startswith("/")
        or ".." in parts
        or any(Path(folder, part).is_symlink() for part in above)
    )


def _dockerfile(folder: Path, name: str) -> Path:
    """Raises RuntimeRefused: a file of the node is none of a context's."""
    path = (folder / (name or "Dockerfile")).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise RuntimeRefused(f"there is no Dockerfile {name or 'Dockerfile'} in the build context")
    return path


def _environment() -> Mapping[str, str]:
    kept = ("PATH", "HOME", "http_proxy", "https_proxy", "no_proxy", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}
