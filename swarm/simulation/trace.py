"""What happened, in lines that a person can read; kept short unless a run is replayed.

Events are noted as they are and put into words only when somebody reads them: a run that
finds nothing pays next to nothing.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any

from swarm.simulation.words import describe

_KEPT = 400


class Trace:
    """With `sink`, every line is handed out at once, and its digest kept."""

    def __init__(self, sink: Callable[[str], None] | None = None) -> None:
        self._kept: deque[tuple[float, str, str, tuple[Any, ...]]] = deque(maxlen=_KEPT)
        self._sink = sink
        self._digest = hashlib.sha256()

    def note(self, time: float, who: str, what: str, *details: Any) -> None:
        if self._sink is None:
            self._kept.append((time, who, what, details))
            return
        line = _line(time, who, what, details)
        self._digest.update(line.encode() + b"\n")
        self._sink(line)

    def last(self, count: int) -> list[str]:
        """The last lines, where they were not handed out."""
        return [_line(*entry) for entry in list(self._kept)[-count:]]

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _line(time: float, who: str, what: str, details: tuple[Any, ...]) -> str:
    words = " ".join(text for text in map(describe, details) if text)
    return f"{time:10.4f} {who:<5} {what} {words}".rstrip()
