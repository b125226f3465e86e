"""Bugs in elections, replication, commits and membership."""

from __future__ import annotations

from collections.abc import Mapping

from swarm.api.v1.raft_pb2 import ENTRY_CONF_CHANGE, MSG_PRE_VOTE, ConfChange, Message
from swarm.manager.core import effects as fx
from swarm.manager.core.consensus import Consensus
from swarm.manager.core.raft import RawNode, Ready, Role
from swarm.manager.core.raft.election import handle_vote_request
from swarm.manager.core.raft.log import RaftLog
from swarm.manager.core.raft.quorum import MajorityConfig, VoteResult
from swarm.manager.core.raft.raft import NOBODY, Raft
from swarm.manager.core.raft.tracker import ProgressTracker
from swarm.simulation.disk import Disk
from swarm.simulation.mutants.patches import Maker, Patch, everywhere


def _vote_without_fsync() -> list[Patch]:
    """A term and a vote alone are reported durable before they are."""
    persist = Disk.persist

    def early(self: Disk, record: fx.Persist) -> None:
        persist(self, record)
        if not record.entries and record.snapshot is None:
            self.report_early(record.number)

    return [(Disk, "persist", early)]


def _ack_before_fsync() -> list[Patch]:
    """Entries are reported durable before they are."""
    persist = Disk.persist

    def early(self: Disk, record: fx.Persist) -> None:
        persist(self, record)
        if record.entries:
            self.report_early(record.number)

    return [(Disk, "persist", early)]


def _commit_old_term() -> list[Patch]:
    """An earlier term's entry is committed by counting (Raft paper, figure 8)."""

    def maybe_commit(self: RaftLog, index: int, term: int) -> bool:
        del term
        if index > self.committed:
            self.commit_to(index)
            return True
        return False

    return [(RaftLog, "maybe_commit", maybe_commit)]


def _quorum_off_by_one() -> list[Patch]:
    """Half is taken for a majority, of what is committed and of who is elected."""

    def committed_index(self: MajorityConfig, acked: Mapping[int, int]) -> int:
        if not self:
            return (1 << 64) - 1
        indexes = sorted((acked.get(voter, 0) for voter in self), reverse=True)
        return indexes[(len(indexes) - 1) // 2]

    def vote_result(self: MajorityConfig, votes: Mapping[int, bool]) -> VoteResult:
        if not self:
            return VoteResult.WON
        granted = sum(votes.get(voter, False) for voter in self)
        missing = sum(voter not in votes for voter in self)
        needed = (len(self) + 1) // 2
        if granted >= needed:
            return VoteResult.WON
        return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST

    return [
        (MajorityConfig, "committed_index", committed_index),
        (MajorityConfig, "vote_result", vote_result),
    ]


def _commit_one_short() -> list[Patch]:
    """Entries are committed with one acknowledgement less than a majority; elections are right."""

    def committed_index(self: MajorityConfig, acked: Mapping[int, int]) -> int:
        if not self:
            return (1 << 64) - 1
        indexes = sorted((acked.get(voter, 0) for voter in self), reverse=True)
        return indexes[max(0, len(indexes) // 2 - 1)]

    return [(MajorityConfig, "committed_index", committed_index)]


def _stale_reads() -> list[Patch]:
    """A read is answered from the store as it is, without the round to the quorum."""

    def read(self: Consensus, token: int) -> None:
        self._reads._confirmed.append((0, [token]))  # noqa: SLF001  # pyright: ignore

    return [(Consensus, "read", read)]


def _learner_counts() -> list[Patch]:
    """A learner's acknowledgement counts as a voter's."""

    def committed(self: ProgressTracker) -> int:
        matches = sorted((p.match for p in self.progress.values()), reverse=True)
        voters = max(1, len(self.progress) - len(self.config.learners))
        return matches[voters // 2] if matches else 0

    return [(ProgressTracker, "committed", committed)]


def _counts_itself_early() -> list[Patch]:
    """A leader counts itself for what its own disk does not have yet."""
    original = RawNode.ready

    def ready(self: RawNode) -> Ready:
        raft = self.raft
        if raft.role is Role.LEADER and (own := raft.own_progress) is not None:
            own.maybe_update(raft.log.last_index())
        return original(self)

    return [(RawNode, "ready", ready)]


def _pre_vote_clears_vote() -> list[Patch]:
    """Who grants a pre-vote forgets whom it has voted for (canonical/raft#196)."""

    def handle(raft: Raft, message: Message) -> None:
        handle_vote_request(raft, message)
        if message.type == MSG_PRE_VOTE:
            raft.vote = NOBODY

    return everywhere(handle_vote_request, handle)


def _config_on_append() -> list[Patch]:
    """A change of the members is in force when it is appended, however it ends, with no joint
    configuration between."""
    write = Consensus._write  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def early(self: Consensus, ready: Ready, now: float, out: list[fx.Effect]) -> None:
        write(self, ready, now, out)
        for entry in ready.entries:
            if entry.type == ENTRY_CONF_CHANGE:
                self.node.apply_conf_change(ConfChange.FromString(entry.data))

    return [(Consensus, "_write", early)]


MAKERS: dict[str, Maker] = {
    "vote-without-fsync": _vote_without_fsync,
    "ack-before-fsync": _ack_before_fsync,
    "commit-old-term": _commit_old_term,
    "quorum-off-by-one": _quorum_off_by_one,
    "commit-one-short": _commit_one_short,
    "stale-reads": _stale_reads,
    "learner-counts": _learner_counts,
    "counts-itself-early": _counts_itself_early,
    "pre-vote-clears-vote": _pre_vote_clears_vote,
    "config-on-append": _config_on_append,
}
