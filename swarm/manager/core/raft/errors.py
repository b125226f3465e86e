"""What the core refuses, and why. Names are etcd/raft's where it has one."""

from __future__ import annotations


class RaftError(Exception):
    """Base of everything that this package raises on purpose."""


class ProposalDropped(RaftError):  # noqa: N818 - etcd's ErrProposalDropped
    """A proposal did not enter the log here, and nothing was changed.

    Only this call is answered by it: a proposal forwarded to a leader may still be dropped there
    without a word, so a proposer repeats (with the same request id) until its deadline.
    """


class StepLocalMessage(RaftError):  # noqa: N818 - etcd's ErrStepLocalMsg
    """A message came that only a node itself may give to itself, or one without sender or term."""


class StepPeerNotFound(RaftError):  # noqa: N818 - etcd's ErrStepPeerNotFound
    """A response came from a node that is not in the configuration (removed, or not yet known)."""


class RaftCorrupt(RaftError):  # noqa: N818 - reads as what it says
    """An invariant of the log is broken: data was lost or changed below the core.

    There is no safe way to go on. The process must stop, and the node rejoin under a new id.
    """


class StorageError(RaftError):
    """Base of what a Storage answers instead of a value."""


class Compacted(StorageError):  # noqa: N818 - etcd's ErrCompacted
    """The index is below the first one that is kept; a snapshot holds it."""


class Unavailable(StorageError):  # noqa: N818 - etcd's ErrUnavailable
    """The index is above the last one."""


class SnapshotOutOfDate(StorageError):  # noqa: N818 - etcd's ErrSnapOutOfDate
    """The storage already holds a snapshot that is as new or newer."""


class SnapshotTemporarilyUnavailable(StorageError):  # noqa: N818 - etcd's name
    """A snapshot is being made; the core asks again at the next heartbeat."""
