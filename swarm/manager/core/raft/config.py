"""What a node is started with."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from swarm.manager.core.raft.storage import Storage


class Rng(Protocol):
    """The randomness that the core is given; random.Random is one."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to stop - 1."""
        ...


class ReadOnlyOption(enum.Enum):
    """How the leader makes sure that it still leads before it answers a read."""

    SAFE = "safe"
    """A quorum confirms it after the read was asked for. The default."""
    LEASE_BASED = "lease-based"
    """It trusts its clock: wrong reads when a clock stops or drifts. Needs check_quorum."""


@dataclass(slots=True, kw_only=True)
class Config:
    """Parameters of one node. Defaults are etcd/raft's; sizes are bytes, times are ticks.

    A production group wants `check_quorum` and `pre_vote` on: without them a node that returns
    from a partition deposes a healthy leader, and a leader without a quorum never notices.

    Raises ValueError for values that cannot work.
    """

    id: int
    election_tick: int = 10
    """An election starts after election_tick to 2 * election_tick - 1 ticks without a leader."""
    heartbeat_tick: int = 1
    storage: Storage
    rng: Rng
    applied: int = 0
    """On a restart: index that the state machine has applied already. The storage's initial
    ConfState is the one in force there."""
    async_storage_writes: bool = False
    """Allow several Readys under way; committed entries then come only once written here."""
    max_size_per_msg: int = 1 << 20
    max_committed_size_per_ready: int = 0
    """What may be given out to apply at once; 0: max_size_per_msg."""
    max_uncommitted_size: int = 0
    """Payload proposed and not applied yet, above which proposals are dropped; 0: no limit."""
    max_inflight_msgs: int = 256
    max_inflight_bytes: int = 0
    """Entries on their way to one follower; 0: no limit."""
    check_quorum: bool = False
    pre_vote: bool = False
    read_only: ReadOnlyOption = ReadOnlyOption.SAFE
    disable_proposal_forwarding: bool = False
    """A follower drops proposals instead of sending them to the leader."""
    disable_conf_change_validation: bool = False
    """Log configuration changes unchecked; only for callers that serialise them themselves."""
    step_down_on_removal: bool = False
    """A leader that was removed or demoted steps down at once."""

    def __post_init__(self) -> None:
        if not 0 < self.id < 2**64:
            raise ValueError(f"raft id {self.id} is not between 1 and 2**64 - 1")
        if self.heartbeat_tick <= 0:
            raise ValueError(f"heartbeat_tick {self.heartbeat_tick} must be greater than 0")
        if self.election_tick <= self.heartbeat_tick:
            raise ValueError(
                f"election_tick {self.election_tick} must be greater than heartbeat_tick "
                f"{self.heartbeat_tick}"
            )
        if self.max_inflight_msgs <= 0:
            raise ValueError(f"max_inflight_msgs {self.max_inflight_msgs} must be greater than 0")
        if 0 < self.max_inflight_bytes < self.max_size_per_msg:
            raise ValueError(
                f"max_inflight_bytes {self.max_inflight_bytes} must not be below "
                f"max_size_per_msg {self.max_size_per_msg}"
            )
        if self.read_only is ReadOnlyOption.LEASE_BASED and not self.check_quorum:
            raise ValueError("read_only LEASE_BASED needs check_quorum")
