"""Consensus as a state machine, in the shape of etcd/raft: no I/O, no clock, no randomness.

A `RawNode` is one member of a group. It is fed with ticks, with messages from its peers, and
with proposals, and it answers with a `Ready`: what to write, what to send, what to apply. Who
performs that is the *driver*; the node itself touches nothing outside its memory. It is for one
caller at a time.

Starting
--------
A `Storage` says what the node knows: `MemoryStorage` is one to be filled from files. There is no
bootstrap call. The first member starts from a snapshot that names it as the only voter::

    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(index=1, term=1, conf_state=ConfState(voters=[0x1])))
    node = RawNode(Config(id=0x1, storage=storage, rng=random.Random(seed)))

One that joins starts with an empty storage; once a leader has added it, it is sent a snapshot and
the entries after it. One that restarts fills its storage with its snapshot, entries and
HardState, and gives `Config.applied`. Ids are never used twice: a node that lost its disk has
forgotten its votes, and must come back as somebody else.

The election timeout is `election_tick + rng.randrange(election_tick)` ticks, drawn anew at every
change of role or term: a test that needs an exact one gives an rng that answers so, or sets
`node.raft.randomized_election_timeout`.

Driving it, one step after the other
------------------------------------
::

    while node.has_ready():
        ready = node.ready()
        save(ready.snapshot, ready.entries, ready.hard_state)     # fsync
        send(ready.messages)
        restore(ready.snapshot)
        apply(ready.committed_entries)
        node.advance(ready)

with `node.tick()`, `node.step(message)` and `node.propose(data)` called in between.

The order of work in a Ready
----------------------------
1. `messages` go at any time with `Config.async_storage_writes`: a leader's appends so travel while
   its own disk still writes (Raft dissertation, 10.2.1). Without it `messages` are all there are,
   and go after the write.
2. `snapshot`, `entries`, `hard_state` are written in this order, and Readys in theirs. `entries`
   replace whatever the log holds from their first index on. The write must be durable where
   `must_sync` says so, and whenever there is a snapshot; a new commit index alone may be lost.
3. After that, and after all earlier Readys are durable, `messages_after_append` go, and
   `persisted(ready)` is called. These messages are promises: a vote, "I have these entries". It
   is also here that the node counts its own vote and its own log, and that a candidate may win.
4. A `snapshot` or `committed_entries` are applied (a Ready has one of them at most), and
   `applied(index)` is called with the last index. Nothing behind a snapshot comes out before.
   Entries of type ENTRY_CONF_CHANGE hold a ConfChange for `apply_conf_change`; empty data is a
   leader's first entry, or a change that was refused. Both kinds count as applied. A `ReadState`
   is served once its index is applied.

`advance(ready)` is 3 and 4 in one. With `Config.async_storage_writes` the two are independent:
`ready` may be taken again while earlier ones are being written and applied, a call of
`persisted` acknowledges all Readys up to that one (so several share an fsync), and
`committed_entries` hold only what is durable here. Without it there is one Ready at a time, and
it may hold an entry together with its commit, so 2 comes before 4.

Entries and messages in a Ready are shared with the node and must not be changed. Messages may be
lost, doubled, delayed and reordered. A lost MSG_SNAP must be told with `report_snapshot`, other
losses may be with `report_unreachable`.

Proposals
---------
`propose` raises ProposalDropped when nothing was done: no leader, a transfer under way, too much
uncommitted. Otherwise the outcome is open until the entry comes out committed, with the term it
was proposed in, or another entry takes its index. A proposal that was forwarded, or whose leader
fell, may be committed later or never; the one who proposes repeats it, and applying it must
recognise a repetition.

Reads
-----
`read_index(ctx)` asks the leader, from any node. The leader has a quorum confirm that it
leads, one round of heartbeats for all requests that wait, and answers with its commit index. No
answer comes when leadership is lost; ask again with a new ctx.

Membership
----------
One change at a time. A ConfChange that moves one voter is simple; several, or one that asks for
it, go through a joint configuration in which both majorities decide (dissertation, 4.3), left by
itself unless its transition is explicit. A change is in force when it is applied, not when it is
logged. An invalid one raises ValueError in `apply_conf_change` on every node alike and changes
nothing. A removed node is not told: its peers stop talking to it.

What holds it together
----------------------
One leader a term; logs that share an entry share all before it; a leader has all committed
entries; nothing committed changes. A RaftCorrupt says that one of these would break, because
something below lost or changed data: the process must end.

Further than etcd/raft: a candidate leads only once its own vote is durable; late acknowledgements
of overwritten entries are recognised exactly, not by term; a snapshot's configuration waits for
the snapshot to be applied; a vote that is refused says what is committed, so that a voter who
missed the end of a change isn't stuck; read requests are numbered by the leader; an invalid
configuration change is refused when proposed.
"""

from swarm.api.v1.raft_pb2 import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_TRANSITION_AUTO,
    CONF_CHANGE_TRANSITION_JOINT_EXPLICIT,
    CONF_CHANGE_TRANSITION_JOINT_IMPLICIT,
    CONF_CHANGE_UPDATE_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_NORMAL,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from swarm.manager.core.raft.confchange import Changer
from swarm.manager.core.raft.config import Config, ReadOnlyOption, Rng
from swarm.manager.core.raft.election import CAMPAIGN_TRANSFER
from swarm.manager.core.raft.errors import (
    Compacted,
    ProposalDropped,
    RaftCorrupt,
    RaftError,
    SnapshotOutOfDate,
    SnapshotTemporarilyUnavailable,
    StepLocalMessage,
    StepPeerNotFound,
    StorageError,
    Unavailable,
)
from swarm.manager.core.raft.inflights import Inflights
from swarm.manager.core.raft.progress import Progress, ProgressState
from swarm.manager.core.raft.quorum import UNBOUNDED, JointConfig, MajorityConfig, VoteResult
from swarm.manager.core.raft.raft import NOBODY
from swarm.manager.core.raft.rawnode import RawNode
from swarm.manager.core.raft.ready import ReadState, Ready, Role, SoftState
from swarm.manager.core.raft.status import BasicStatus, PeerStatus, Status
from swarm.manager.core.raft.storage import MemoryStorage, Storage
from swarm.manager.core.raft.tracker import ProgressTracker, TrackerConfig

__all__ = [
    "CAMPAIGN_TRANSFER",
    "CONF_CHANGE_ADD_LEARNER_NODE",
    "CONF_CHANGE_ADD_NODE",
    "CONF_CHANGE_REMOVE_NODE",
    "CONF_CHANGE_TRANSITION_AUTO",
    "CONF_CHANGE_TRANSITION_JOINT_EXPLICIT",
    "CONF_CHANGE_TRANSITION_JOINT_IMPLICIT",
    "CONF_CHANGE_UPDATE_NODE",
    "ENTRY_CONF_CHANGE",
    "ENTRY_NORMAL",
    "NOBODY",
    "UNBOUNDED",
    "BasicStatus",
    "Changer",
    "Compacted",
    "ConfChange",
    "ConfChangeSingle",
    "ConfChangeTransition",
    "ConfChangeType",
    "ConfState",
    "Config",
    "Entry",
    "EntryType",
    "HardState",
    "Inflights",
    "JointConfig",
    "MajorityConfig",
    "MemoryStorage",
    "Message",
    "MessageType",
    "PeerStatus",
    "Progress",
    "ProgressState",
    "ProgressTracker",
    "ProposalDropped",
    "RaftCorrupt",
    "RaftError",
    "RawNode",
    "ReadOnlyOption",
    "ReadState",
    "Ready",
    "Rng",
    "Role",
    "Snapshot",
    "SnapshotOutOfDate",
    "SnapshotTemporarilyUnavailable",
    "SoftState",
    "Status",
    "StepLocalMessage",
    "StepPeerNotFound",
    "Storage",
    "StorageError",
    "TrackerConfig",
    "Unavailable",
    "VoteResult",
]
