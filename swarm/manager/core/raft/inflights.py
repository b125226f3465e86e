"""The window of appends that are on their way to one follower."""

from __future__ import annotations

from collections import deque


class Inflights:
    """Limits what is sent before it is acknowledged, by messages and by bytes of entries.

    Messages are added in order of their last index, and an acknowledgement of an index frees all
    up to it. `max_bytes` 0 means no limit; the message that crosses it still goes, so that one
    large entry is never stuck.
    """

    __slots__ = ("_bytes", "_window", "max_bytes", "size")

    def __init__(self, size: int, max_bytes: int = 0) -> None:
        self.size = size
        self.max_bytes = max_bytes
        self._bytes = 0
        self._window: deque[tuple[int, int]] = deque()

    def add(self, last_index: int, size_bytes: int) -> None:
        """Count a message whose last entry is `last_index`. The window must not be full."""
        assert not self.full(), "an append was sent into a full window"
        self._window.append((last_index, size_bytes))
        self._bytes += size_bytes

    def free_le(self, index: int) -> None:
        """Forget the messages whose last entry is at or below `index`."""
        window = self._window
        while window and window[0][0] <= index:
            self._bytes -= window.popleft()[1]

    def full(self) -> bool:
        """Whether nothing more may be sent now."""
        return len(self._window) >= self.size or 0 < self.max_bytes <= self._bytes

    def count(self) -> int:
        """How many messages are on their way."""
        return len(self._window)

    def clone(self) -> Inflights:
        """A copy that changes by itself."""
        copied = Inflights(self.size, self.max_bytes)
        copied._window.extend(self._window)
        copied._bytes = self._bytes
        return copied

    def reset(self) -> None:
        """Forget everything."""
        self._window.clear()
        self._bytes = 0


def default_inflights() -> Inflights:
    """An empty window of etcd's default size."""
    return Inflights(256)
