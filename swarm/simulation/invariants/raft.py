"""Raft's own promises (Raft paper, figure 3), and what must survive a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.api.v1.raft_pb2 import (
    MSG_APP_RESP,
    MSG_VOTE_RESP,
    Entry,
    HardState,
    Message,
)
from swarm.manager.core import effects as fx
from swarm.manager.core.raft import Role
from swarm.manager.core.raft.tracker import TrackerConfig
from swarm.simulation.invariants.log import CommittedLog
from swarm.simulation.violation import Violation

if TYPE_CHECKING:
    from swarm.simulation.manager_host import ManagerHost


@dataclass(slots=True)
class _Seen:
    """Of one raft id, over all its lives. `promised`: what others may rely on."""

    term: int = 0
    commit: int = 0
    vote: int = 0
    config: TrackerConfig | None = None
    role: Role = Role.FOLLOWER
    promised_term: int = 0
    promised_index: int = 0
    durable_commit: int = 0


class RaftInvariants:
    def __init__(self, log: CommittedLog) -> None:
        self._log = log
        self._seen: dict[int, _Seen] = {}
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        # Log matching: an entry's index and term name it and the one before it.
        self._entries: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.elections = 0

    def started(self, host: ManagerHost, hard_state: HardState) -> None:
        """Term, vote and what was promised never go back over a restart."""
        seen = self._seen.setdefault(host.raft_id, _Seen())
        if hard_state.term < seen.promised_term:
            raise Violation(
                "term survives a restart",
                f"{host.name} starts in term {hard_state.term}, and had promised in "
                f"{seen.promised_term}",
            )
        promised = self._votes.get((host.raft_id, hard_state.term))
        if promised is not None and hard_state.vote != promised:
            raise Violation(
                "vote survives a restart",
                f"{host.name} starts with vote {hard_state.vote} in term {hard_state.term}, "
                f"and had voted for {promised}",
            )
        if hard_state.commit < seen.durable_commit:
            raise Violation(
                "commit survives a restart",
                f"{host.name} starts at commit {hard_state.commit}, and had synced "
                f"{seen.durable_commit}",
            )
        assert host.core is not None, "it starts"
        last_index = host.core.consensus.storage.last_index()
        if last_index < seen.promised_index:
            raise Violation(
                "what was acknowledged survives a restart",
                f"{host.name} starts with {last_index} entries, and had acknowledged "
                f"{seen.promised_index}",
            )
        seen.durable_commit = hard_state.commit
        seen.term, seen.commit, seen.role = hard_state.term, 0, Role.FOLLOWER
        seen.vote, seen.config = hard_state.vote, None

    def begun_anew(self, index: int) -> None:
        """Another group goes on from `index`. Its terms and its entries above that are its own;
        a leader of the old group's last term leads it no more."""
        self._leaders.clear()
        self._entries = {key: known for key, known in self._entries.items() if key[0] <= index}

    def ended(self, host: ManagerHost) -> None:
        """Of its volatile state nothing is expected any more."""
        seen = self._seen[host.raft_id]
        seen.commit, seen.role = 0, Role.FOLLOWER

    def handled(self, host: ManagerHost, effects: Sequence[fx.Effect]) -> None:
        assert host.core is not None, "it has just handled an event"
        raft = host.core.consensus.node.raft
        seen = self._seen[host.raft_id]
        if raft.term < seen.term or raft.log.committed < seen.commit:
            raise Violation(
                "term and commit never go back",
                f"{host.name}: term {seen.term} to {raft.term}, "
                f"commit {seen.commit} to {raft.log.committed}",
            )
        if seen.vote and raft.term == seen.term and raft.vote != seen.vote:
            raise Violation(
                "a vote stands for its term",
                f"{host.name}: {seen.vote} to {raft.vote} in term {raft.term}",
            )
        if raft.role is Role.LEADER and (seen.role is not Role.LEADER or raft.term != seen.term):
            self._elected(host, raft.term)
        # Elected in this very turn, it may have learnt of a commit as a follower before.
        led = seen.role is Role.LEADER and raft.term == seen.term
        if led and raft.role is Role.LEADER and raft.log.committed > seen.commit:
            _check_commit(host, raft.log.term(raft.log.committed))
            self._check_quorum(host, raft.log.committed, seen.config or raft.tracker.config)
        seen.vote, seen.config = raft.vote, raft.tracker.config
        seen.term, seen.commit, seen.role = raft.term, raft.log.committed, raft.role
        for effect in effects:
            if isinstance(effect, fx.Persist):
                self._appended(host, effect, seen)
            elif isinstance(effect, fx.Send):
                for message in effect.messages:
                    self._sent(seen, message)

    def _check_quorum(self, host: ManagerHost, commit: int, before: TrackerConfig) -> None:
        """What a leader commits by counting is on the disks of a quorum, of the configuration
        before this turn or of the one that came into force in it."""
        assert host.core is not None, "it leads"
        now = host.core.consensus.node.raft.tracker.config
        if self._has_quorum(host, commit, before) or self._has_quorum(host, commit, now):
            return
        voters = now.voters.ids()
        durable = [raft_id for raft_id in voters if self._durable(host, raft_id) >= commit]
        raise Violation(
            "a quorum has what is committed",
            f"{host.name} commits {commit}: of the voters {sorted(voters)} only "
            f"{sorted(durable)} have it on their disks",
        )

    def _has_quorum(self, host: ManagerHost, commit: int, config: TrackerConfig) -> bool:
        halves = (config.voters.incoming, config.voters.outgoing)
        return all(
            2 * sum(self._durable(host, raft_id) >= commit for raft_id in voters) > len(voters)
            for voters in halves
            if voters
        )

    def _durable(self, leader: ManagerHost, raft_id: int) -> int:
        if raft_id == leader.raft_id:
            return leader.disk.durable_index
        seen = self._seen.get(raft_id)
        return seen.promised_index if seen is not None else 0

    def _elected(self, host: ManagerHost, term: int) -> None:
        self.elections += 1
        other = self._leaders.setdefault(term, host.raft_id)
        if other != host.raft_id:
            raise Violation(
                "election safety", f"{other} and {host.raft_id} both lead in term {term}"
            )
        assert host.core is not None, "it leads"
        committed = self._log.committed_before(term)
        log = host.core.consensus.node.raft.log
        if committed is None or log.first_index() > committed.index + 1:
            return
        if not log.matches(committed.index, committed.term):
            raise Violation(
                "leader completeness",
                f"{host.name} leads in term {term} without entry {committed.index} "
                f"of term {committed.term}",
            )

    def _appended(self, host: ManagerHost, persist: fx.Persist, seen: _Seen) -> None:
        if not persist.entries:
            return
        # A tail that a newer leader replaces is not promised any more.
        seen.promised_index = min(seen.promised_index, persist.entries[0].index - 1)
        assert host.core is not None, "it appends"
        first = persist.entries[0]
        before = host.core.consensus.node.raft.log.known_term(first.index - 1)
        for entry in persist.entries:
            self._match(host, entry, before)
            before = entry.term

    def _match(self, host: ManagerHost, entry: Entry, before: int) -> None:
        """`before` is the term of the entry before it, 0 where that is not known any more."""
        key = (entry.index, entry.term)
        known = self._entries.get(key)
        if known is None:
            self._entries[key] = (before, entry.data)
            return
        if known[1] != entry.data or (before and known[0] and known[0] != before):
            raise Violation(
                "log matching",
                f"{host.name} has another entry {entry.index} of term {entry.term}, "
                f"or another one before it ({before} instead of {known[0]})",
            )

    def _sent(self, seen: _Seen, message: Message) -> None:
        kind = message.type
        if kind == MSG_VOTE_RESP and not message.reject:
            candidate = self._votes.setdefault((message.from_, message.term), message.to)
            if candidate != message.to:
                raise Violation(
                    "one vote a term",
                    f"{message.from_} votes for {message.to} in term {message.term}, "
                    f"and had voted for {candidate}",
                )
        if kind in (MSG_VOTE_RESP, MSG_APP_RESP):
            seen.promised_term = max(seen.promised_term, message.term)
        if kind == MSG_APP_RESP and not message.reject:
            seen.promised_index = max(seen.promised_index, message.index)


def _check_commit(host: ManagerHost, entry_term: int) -> None:
    """Only an entry of its own term is committed by a leader's counting (Raft paper, 5.4.2)."""
    assert host.core is not None, "it leads"
    raft = host.core.consensus.node.raft
    if entry_term != raft.term:
        raise Violation(
            "a leader commits by entries of its own term",
            f"{host.name} commits {raft.log.committed} of term {entry_term} in term {raft.term}",
        )
