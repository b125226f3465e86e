"""Images from registries, by what the node has for it: the engine, or skopeo."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import os
import shutil
from asyncio.subprocess import PIPE
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swarm.worker.images.reference import parse
from swarm.worker.images.registry_auth import credentials
from swarm.worker.runtime.port import RuntimeFailed, RuntimeRefused

_LOGIN_WORDS = ("unauthorized", "authentication required", "invalid username/password")
_MISSING_WORDS = ("manifest unknown", "name unknown", "not found", "reading manifest")


def can_pull() -> bool:
    """Without an engine."""
    return shutil.which("skopeo") is not None


async def pull(runtime: Any, reference: str, registry_auth: str, archive: Path) -> None:
    """The image as an archive. A missing image, a refused login (both RuntimeRefused) and an
    unreachable registry (RuntimeFailed) are three different errors."""
    if runtime.name == "docker":
        await runtime.images.pull(reference, registry_auth)
        await runtime.images.save(reference, archive)
    elif can_pull():
        await _copy(reference, registry_auth, archive)
    else:
        raise RuntimeFailed(
            "this node can't pull images: install skopeo on it, or `swarmctl image load` the image"
        )


async def _copy(reference: str, registry_auth: str, archive: Path) -> None:
    image = parse(reference)
    source = f"{image.name}@{image.digest}" if image.digest else f"{image.name}:{image.tag}"
    registry = image.name.partition("/")[0]
    with _in_memory(json.dumps({"auths": _logins(reference, registry_auth)})) as logins:
        process = await asyncio.create_subprocess_exec(
            "skopeo", "copy", "--quiet", "--retry-times=0", f"--authfile=/proc/self/fd/{logins}",
            f"--src-tls-verify={str(not _is_loopback(registry)).lower()}",
            f"docker://{source}", f"docker-archive:{archive}",
            stdout=PIPE, stderr=PIPE, pass_fds=(logins,),
        )  # fmt: skip
        try:
            _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode != 0:
        raise verdict(reference, " ".join(said.decode(errors="replace").split()))


@contextmanager
def _in_memory(text: str) -> Generator[int]:
    """A file on no disk, and nobody else's."""
    descriptor = os.memfd_create("registry-logins")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, text.encode())
        yield descriptor
    finally:
        os.close(descriptor)


def verdict(reference: str, said: str) -> RuntimeRefused | RuntimeFailed:
    """Of skopeo's words."""
    lower = said.lower()
    if any(word in lower for word in _LOGIN_WORDS):
        return RuntimeRefused(
            f'image "{reference}": the registry refused the login: `swarmctl login`, and send it '
            "along (a service's with --with-registry-auth)",
            "image",
        )
    if any(word in lower for word in _MISSING_WORDS) and "connection refused" not in lower:
        return RuntimeRefused(f'image "{reference}": the registry has no such image', "image")
    why = said.rpartition(": ")[2].rstrip('"') or "skopeo does not say why"
    return RuntimeFailed(f'image "{reference}": its registry cannot be reached ({why})')


def _logins(reference: str, registry_auth: str) -> dict[str, dict[str, str]]:
    """As skopeo's file has them."""
    login = credentials(reference, registry_auth)
    if not login:
        return {}
    registry = parse(reference).name.partition("/")[0]
    if token := login.get("identitytoken"):
        return {registry: {"identitytoken": token}}
    pair = f"{login.get('username', '')}:{login.get('password', '')}"
    return {registry: {"auth": base64.b64encode(pair.encode()).decode()}}


def _is_loopback(registry: str) -> bool:
    """Docker, too, speaks to these without TLS."""
    host = registry.rpartition(":")[0] or registry
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
