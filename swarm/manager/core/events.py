"""What happens to a manager. Each is handed to `ManagerCore.handle` with the time.

Events carry what the shell heard from disk, wire and users; everything random or unique in
them (ids, raft ids) was made by the shell, so that the core stays a function of its input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.api.v1.dispatcher_pb2 import AgentMessage
from swarm.api.v1.managers_pb2 import RelayBatch
from swarm.api.v1.raft_pb2 import Message
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.core.store import Store


@dataclass(frozen=True, slots=True)
class Tick:
    """A tenth of a second went by, or more: missed ones count as one."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with what an earlier call left over (effect `Again`)."""


@dataclass(frozen=True, slots=True)
class Received:
    """Messages of a peer, in the order in which they came."""

    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Persisted:
    """Every `Persist` up to this number is durable."""

    number: int


@dataclass(frozen=True, slots=True)
class SnapshotSaved:
    """The snapshot asked for by `SaveSnapshot` is durable."""

    index: int


@dataclass(frozen=True, slots=True)
class SnapshotFailed:
    """There was no space for it. The log goes on; the next one is tried in its time."""

    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotReceived:
    """A peer's snapshot is durable here, and read into fresh tables."""

    message: Message
    store: Store


@dataclass(frozen=True, slots=True)
class SnapshotSent:
    """A snapshot went to a peer, or did not get there."""

    raft_id: int
    ok: bool


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """A stream to a peer broke, or its outbox was full and a message was dropped."""

    raft_id: int


@dataclass(frozen=True, slots=True)
class Propose:
    """A user's change, validated against this store. Answered by `Answer` with the token."""

    token: int
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Read:
    """Answered by `ReadReady` once this store holds all that was committed before now."""

    token: int


@dataclass(frozen=True, slots=True)
class JoinRaft:
    """A node with a manager's certificate asks to become a member. Answered by `JoinAnswer`."""

    token: int
    node_id: str
    address: str
    join_address: str
    # Fresh and random: a raft id is never used twice.
    raft_id: int


@dataclass(frozen=True, slots=True)
class Resign:
    """Hand leadership over, because this manager stops."""


@dataclass(frozen=True, slots=True)
class RoomOnDisk:
    """Whether the log has room for more."""

    enough: bool


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """An agent's stream. The node id is the one in its certificate."""

    session_id: str
    node_id: str


@dataclass(frozen=True, slots=True)
class SessionMessage:
    session_id: str
    message: AgentMessage


@dataclass(frozen=True, slots=True)
class SessionClosed:
    session_id: str


@dataclass(frozen=True, slots=True)
class Relayed:
    """What another manager heard from its agents."""

    batch: RelayBatch


Event = (
    Tick
    | Resume
    | Received
    | Persisted
    | SnapshotSaved
    | SnapshotFailed
    | SnapshotReceived
    | SnapshotSent
    | PeerUnreachable
    | Propose
    | Read
    | JoinRaft
    | Resign
    | RoomOnDisk
    | SessionOpened
    | SessionMessage
    | SessionClosed
    | Relayed
)
