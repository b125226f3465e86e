"""Operations that failed and are tried again after a pause, doubled from failure to failure."""

from __future__ import annotations


class Retries:
    def __init__(self, pause_min_s: float, pause_max_s: float) -> None:
        self._pause_min_s = pause_min_s
        self._pause_max_s = pause_max_s
        self._times: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    def failed(self, operation: str, now: float) -> int:
        """How often it has failed in a row by now."""
        failures = self._failures.get(operation, 0)
        self._failures[operation] = failures + 1
        pause = min(self._pause_min_s * 2 ** min(failures, 10), self._pause_max_s)
        self._times[operation] = now + pause
        return failures + 1

    def succeeded(self, operation: str) -> None:
        self._failures.pop(operation, None)
        self._times.pop(operation, None)

    def pauses(self, operation: str) -> bool:
        return operation in self._times

    def end_pauses(self, now: float) -> None:
        """Of those whose time has come."""
        self._times = {operation: at for operation, at in self._times.items() if at > now}

    def next_wakeup(self) -> float | None:
        return min(self._times.values(), default=None)
