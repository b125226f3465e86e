"""What a manager's shell is to do, in the order given.

Effects are performed without a decision about the protocol; what comes of them is handed
back as an event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swarm.api.v1.dispatcher_pb2 import ManagerMessage
from swarm.api.v1.managers_pb2 import RelayBatch
from swarm.api.v1.node_pb2 import Member
from swarm.api.v1.raft_pb2 import ConfState, Entry, HardState, Message, Snapshot
from swarm.api.v1.store_pb2 import Verdict
from swarm.manager.core.store import Store, StoreChange


@dataclass(frozen=True, slots=True)
class Persist:
    """Append to the log: snapshot mark, entries, hard state, in this order. Strictly in the
    order of `number`; several may share one fsync. Handed back as `Persisted`."""

    number: int
    snapshot: Snapshot | None
    entries: Sequence[Entry]
    hard_state: HardState | None
    must_sync: bool


@dataclass(frozen=True, slots=True)
class Send:
    """To peers' outboxes. May be lost."""

    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class SendSnapshot:
    """Stream the newest saved snapshot with this MSG_SNAP. Handed back as `SnapshotSent`."""

    message: Message


@dataclass(frozen=True, slots=True)
class SaveSnapshot:
    """Serialise and save `image` (what Store.snapshot gave). Handed back as `SnapshotSaved`."""

    index: int
    term: int
    conf_state: ConfState
    image: Any
    # So many older ones are kept beside it.
    older: int = 0


@dataclass(frozen=True, slots=True)
class CompactLog:
    """Log segments below this index are not needed any more."""

    index: int


@dataclass(frozen=True, slots=True)
class Answer:
    """To a `Propose`. No verdict: leadership was lost while it was under way, so whether it
    takes effect is unknown; it may be asked again with the same request id."""

    token: int
    verdict: Verdict | None
    # What to say where nothing was proposed at all; it is safe to ask another manager.
    refused: str = ""


@dataclass(frozen=True, slots=True)
class ReadReady:
    token: int


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    token: int
    raft_id: int
    # One line; empty when the change was applied.
    refused: str = ""


@dataclass(frozen=True, slots=True)
class SessionSend:
    session_id: str
    message: ManagerMessage


@dataclass(frozen=True, slots=True)
class SessionClose:
    session_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Relay:
    """To the leader."""

    raft_id: int
    batch: RelayBatch


@dataclass(frozen=True, slots=True)
class Changed:
    """The store changed: for watches. `replaced`: it was swapped for another, so watches
    begin anew."""

    changes: Sequence[StoreChange]
    store: Store
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """Whom the transport talks to. Removed members are in it, marked so."""

    members: Sequence[Member]


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """Who leads, as far as this manager knows. 0: nobody."""

    term: int
    leader: int
    leading: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for the log that an operator wants to see."""

    text: str


@dataclass(frozen=True, slots=True)
class Again:
    """There is more to do: hand in `Resume` after other events had their turn."""


@dataclass(frozen=True, slots=True)
class Stop:
    """This manager is not a member any more, or can't go on: stop it."""

    reason: str


Effect = (
    Persist
    | Send
    | SendSnapshot
    | SaveSnapshot
    | CompactLog
    | Answer
    | ReadReady
    | JoinAnswer
    | SessionSend
    | SessionClose
    | Relay
    | Changed
    | MembersChanged
    | RoleChanged
    | Notice
    | Again
    | Stop
)
