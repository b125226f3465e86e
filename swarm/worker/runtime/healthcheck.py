"""Runs a task's health check by Docker's rules, for drivers whose engine does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from swarm.worker.runtime.port import Exit, Health, Healthcheck, HealthStatus, RuntimeFailed

DEFAULT_INTERVAL_NS = 30_000_000_000
DEFAULT_TIMEOUT_NS = 30_000_000_000
DEFAULT_START_INTERVAL_NS = 5_000_000_000
DEFAULT_RETRIES = 3
OUTPUT_BYTES_MAX = 4096

Check = Callable[[tuple[str, ...]], Awaitable[tuple[int, bytes]]]


def merged(spec: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    """The check to run: the spec's values before the image's; None where there is none to run."""
    if spec is None:
        chosen = image
    elif image is None or spec.test[:1] == ("NONE",):
        chosen = spec
    else:
        chosen = Healthcheck(
            spec.test or image.test,
            spec.interval_ns or image.interval_ns,
            spec.timeout_ns or image.timeout_ns,
            spec.retries or image.retries,
            spec.start_period_ns or image.start_period_ns,
            spec.start_interval_ns or image.start_interval_ns,
        )
    if chosen is None or not chosen.test or chosen.test[0] == "NONE":
        return None
    return chosen


def command(check: Healthcheck, shell: tuple[str, ...] = ("/bin/sh", "-c")) -> tuple[str, ...]:
    """The command of a check that has one."""
    kind, rest = check.test[0], check.test[1:]
    return (*shell, *rest) if kind == "CMD-SHELL" else rest


@dataclass
class HealthState:
    """The verdict so far: docs.docker.com, "Dockerfile reference", HEALTHCHECK."""

    check: Healthcheck
    started_at_ns: int
    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0

    def pause_ns(self, now_ns: int) -> int:
        """How long to wait until the next check."""
        if self._starts_up(now_ns):
            return self.check.start_interval_ns or DEFAULT_START_INTERVAL_NS
        return self.check.interval_ns or DEFAULT_INTERVAL_NS

    def note(self, exit_code: int, now_ns: int) -> None:
        """Takes in a check's result."""
        if exit_code == 0:
            self.status, self.failing_streak = HealthStatus.HEALTHY, 0
            return
        if self._starts_up(now_ns):
            return
        self.failing_streak += 1
        if self.failing_streak >= (self.check.retries or DEFAULT_RETRIES):
            self.status = HealthStatus.UNHEALTHY

    def _starts_up(self, now_ns: int) -> bool:
        """In the start period failures do not count; the first success ends it."""
        within = now_ns - self.started_at_ns < self.check.start_period_ns
        return within and self.status is HealthStatus.STARTING


async def watch(
    check: Healthcheck | None,
    started_at_ns: int,
    run: Check,
    ended: Callable[[], Awaitable[Exit]],
    shell: tuple[str, ...] = ("/bin/sh", "-c"),
) -> AsyncIterator[Health]:
    """Yields STARTING and each change, until `ended()` returns."""
    if check is None:
        yield Health(HealthStatus.NONE)
        return
    state = HealthState(check, started_at_ns)
    yield Health(state.status)
    timeout_s = (check.timeout_ns or DEFAULT_TIMEOUT_NS) / 1e9
    argv = command(check, shell)
    end = asyncio.ensure_future(ended())
    try:
        while True:
            done, _ = await asyncio.wait({end}, timeout=state.pause_ns(time.time_ns()) / 1e9)
            if done:
                return
            before = state.status
            exit_code, output = await _run_once(run, argv, timeout_s)
            if end.done():
                return
            state.note(exit_code, time.time_ns())
            if state.status is not before:
                text = output[:OUTPUT_BYTES_MAX].decode(errors="replace").strip()
                yield Health(state.status, state.failing_streak, text)
    finally:
        end.cancel()
        await asyncio.gather(end, return_exceptions=True)


async def _run_once(run: Check, argv: tuple[str, ...], timeout_s: float) -> tuple[int, bytes]:
    try:
        return await asyncio.wait_for(run(argv), timeout_s)
    except TimeoutError:
        return -1, f"health check exceeded its timeout of {timeout_s:g} s".encode()
    except RuntimeFailed as error:
        return -1, str(error).encode()
