"""What a node wants done: one value, to be worked off in a fixed order."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from swarm.api.v1.raft_pb2 import Entry, HardState, Message, Snapshot


class Role(enum.Enum):
    """What a node is at the moment."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class SoftState:
    """Who leads and what this node is. Never stored."""

    lead: int
    role: Role


@dataclass(frozen=True, slots=True)
class ReadState:
    """The answer to `read_index(request_ctx)`: serve the read once `index` is applied."""

    index: int
    request_ctx: bytes


def _no_entries() -> list[Entry]:
    return []


def _no_messages() -> list[Message]:
    return []


def _no_reads() -> list[ReadState]:
    return []


@dataclass(slots=True)
class Ready:
    """The work of one round. The package's documentation tells the order.

    Entries and messages are shared with the node: read them, send them, never change them.
    """

    number: int
    """1, 2, 3 ... for each node object."""
    soft_state: SoftState | None = None
    """Set when it changed."""
    read_states: list[ReadState] = field(default_factory=_no_reads)
    hard_state: HardState | None = None
    """Set when it changed. To be written after the entries of the same Ready."""
    entries: list[Entry] = field(default_factory=_no_entries)
    """To be appended to the log; they replace what is there from their first index on."""
    snapshot: Snapshot | None = None
    """To be saved and restored; it replaces log and state. It must be durable, must_sync or not."""
    committed_entries: list[Entry] = field(default_factory=_no_entries)
    """To be applied, in order."""
    messages: list[Message] = field(default_factory=_no_messages)
    """To be sent: with async_storage_writes at any time, before or beside the write; without it
    everything is here, and goes after the write."""
    messages_after_append: list[Message] = field(default_factory=_no_messages)
    """To be sent once this Ready and all before it are durable: they promise what was written.
    Empty without async_storage_writes."""
    must_sync: bool = False
    """Entries, term or vote are new: the write must reach the disk. A new commit alone need not."""

    def last_applied_index(self) -> int:
        """What to tell `applied` once this Ready is applied, 0 if it holds nothing to apply."""
        if self.committed_entries:
            return self.committed_entries[-1].index
        return self.snapshot.index if self.snapshot is not None else 0
