"""The engine's words, made into the port's two verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
from aiodocker import DockerError

from swarm.worker.runtime.port import RuntimeFailed, RuntimeRefused

CONNECTION_STATUS = 900  # aiodocker's own, for an engine that does not answer

LOGIN_WORDS = ("unauthorized", "authentication required", "incorrect username", "no basic auth")
MISSING_WORDS = (
    "manifest unknown",
    "not found",
    "no such image",
    "pull access denied",
    "repository does not exist",
    "no matching manifest",
)
INVALID_WORDS = ("invalid reference format",)


@asynccontextmanager
async def engine_errors(what: str) -> AsyncGenerator[None, None]:
    """Raises RuntimeFailed for what goes wrong inside, as "cannot <what>: <why>"."""
    try:
        yield
    except (DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise RuntimeFailed(f"cannot {what}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """One line."""
    if isinstance(error, asyncio.TimeoutError):
        return "the engine did not answer in time"
    text = error.message if isinstance(error, DockerError) else str(error)
    return " ".join(str(text).split()) or type(error).__name__


def pull_verdict(image: str, error: Exception) -> RuntimeRefused | RuntimeFailed:
    """A refused login, a missing image and an unreachable registry are three different things."""
    text = reason(error)
    lower = text.lower()
    if any(word in lower for word in LOGIN_WORDS):
        return RuntimeRefused(
            f'image "{image}": the registry refused the login; log in and pass the credentials'
            f" with --with-registry-auth ({text})",
            "image",
        )
    if any(word in lower for word in INVALID_WORDS):
        return RuntimeRefused(f'image "{image}" is not a valid image name', "image")
    if any(word in lower for word in MISSING_WORDS):
        return RuntimeRefused(
            f'image "{image}": there is no such image, or it needs a login ({text})', "image"
        )
    return RuntimeFailed(
        f'image "{image}" is not on this node, and its registry cannot be reached ({text})'
    )
