"""How many different situations of the managers a run went through.

A situation is what the running managers look like to Raft, each as (role, terms behind the
highest, entries behind the longest log, entries not known to be committed, entries not yet applied,
whether its log begins above the slowest commit, voters, voters going out, learners), with numbers
above 8 as 8, and which manager is which left out. One is noted after every event that changed any
of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.manager.core.raft import Role

if TYPE_CHECKING:
    from swarm.simulation.manager_host import ManagerHost

_FAR = 8
_ROLES = {role: number for number, role in enumerate(Role)}

# Role, term, last index, commit, applied, first index, voters, outgoing voters, learners.
_Looks = tuple[int, int, int, int, int, int, int, int, int]


class States:
    """`seen`: digests of 32 bits, the same in every process."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self._looks: dict[int, _Looks] = {}

    def ended(self, host: ManagerHost) -> None:
        self._looks.pop(host.raft_id, None)

    def handled(self, host: ManagerHost) -> None:
        looks = _looks_of(host)
        if self._looks.get(host.raft_id) == looks:
            return
        self._looks[host.raft_id] = looks
        all_looks = self._looks.values()
        term = max(one[1] for one in all_looks)
        last = max(one[2] for one in all_looks)
        commit = min(one[3] for one in all_looks)
        self.seen.add(
            hash(tuple(sorted(_situation(one, term, last, commit) for one in all_looks)))
            & 0xFFFFFFFF
        )


def _looks_of(host: ManagerHost) -> _Looks:
    assert host.core is not None, "it has just handled an event"
    consensus = host.core.consensus
    raft, conf = consensus.node.raft, consensus.conf_state
    log = raft.log
    return (
        _ROLES[raft.role],
        raft.term,
        log.last_index(),
        log.committed,
        consensus.applied_index,
        log.first_index(),
        len(conf.voters),
        len(conf.voters_outgoing),
        len(conf.learners) + len(conf.learners_next),
    )


def _situation(looks: _Looks, term: int, last: int, commit: int) -> tuple[int, ...]:
    role, own_term, own_last, committed, applied, first, *config = looks
    return (
        role,
        min(term - own_term, _FAR),
        min(last - own_last, _FAR),
        min(own_last - committed, _FAR),
        min(committed - applied, _FAR),
        int(first > commit + 1),
        *config,
    )
