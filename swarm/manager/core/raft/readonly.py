"""Reads that wait for a quorum to confirm who leads."""

from __future__ import annotations

from swarm.api.v1.raft_pb2 import Message
from swarm.manager.core.raft.config import ReadOnlyOption
from swarm.manager.core.raft.quorum import JointConfig

_ROUND_BYTES = 8


class ReadOnly:
    """The queue of read requests of one leadership (Raft dissertation, section 6.4).

    Requests are numbered. A heartbeat carries the number of the newest one; its echo says that
    the sender took us for the leader after all requests up to that number had come. So one round
    confirms any number of requests, and a lost echo is made good by any later one.
    """

    def __init__(self, option: ReadOnlyOption) -> None:
        self.option = option
        # Requests that came before the first commit of the leader's own term.
        self.held: list[Message] = []
        self._unconfirmed: list[tuple[Message, int]] = []
        self._confirmed = 0
        self._acked: dict[int, int] = {}

    def add(self, request: Message, index: int, own_id: int) -> None:
        """Queue a request that is to see everything up to `index`."""
        self._unconfirmed.append((request, index))
        self._acked[own_id] = self._newest()

    def context(self) -> bytes:
        """What a heartbeat must carry to confirm all that waits, empty when nothing does."""
        return self._newest().to_bytes(_ROUND_BYTES, "big") if self._unconfirmed else b""

    def acknowledge(self, node: int, context: bytes) -> None:
        """Take an echoed context."""
        if len(context) == _ROUND_BYTES:
            number = min(int.from_bytes(context, "big"), self._newest())
            self._acked[node] = max(self._acked.get(node, 0), number)

    def confirmed(self, voters: JointConfig) -> list[tuple[Message, int]]:
        """Take out the requests that a quorum has confirmed, with their indexes."""
        count = min(voters.committed_index(self._acked), self._newest()) - self._confirmed
        if count <= 0:
            return []
        done = self._unconfirmed[:count]
        del self._unconfirmed[:count]
        self._confirmed += count
        return done

    def _newest(self) -> int:
        return self._confirmed + len(self._unconfirmed)
