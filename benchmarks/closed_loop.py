"""Clients that ask again as soon as they are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

# Does it once; the client's number, and a number of its own.
Act = Callable[[int, int], Awaitable[None]]


async def closed_loop(clients: int, seconds: float, act: Act) -> tuple[list[float], float]:
    """Latencies in seconds, and how long it took."""
    latencies: list[float] = []
    started = time.perf_counter()
    end = started + seconds

    async def client(number: int) -> None:
        count = 0
        while (begun := time.perf_counter()) < end:
            await act(number, count)
            latencies.append(time.perf_counter() - begun)
            count += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return latencies, time.perf_counter() - started
