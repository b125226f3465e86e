"""What happens to managers' disks: slow, stuck, full, failing, damaged, gone.

Of a group that can bear it, one manager at a time may lose its log for good. Such a manager must
not start again under its old id, and is replaced as its message says: demoted, promoted again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER
from swarm.simulation import api
from swarm.simulation.manager_host import ManagerHost
from swarm.simulation.violation import Violation
from swarm.simulation.workload import Client

if TYPE_CHECKING:
    from swarm.simulation.cluster import Cluster

_LOOK_S = 0.3
# A disk that stalls for so many election time-outs has cost its manager the leadership.
_STALL_TIMEOUTS = 5


class DiskFaults:
    """`faults`: by name, mean seconds between two, and what happens."""

    def __init__(self, cluster: Cluster, rng: random.Random, operator: Client) -> None:
        self._cluster = cluster
        self._rng = rng
        self._operator = operator
        # No two changes of the members at once, where one of them is a loss.
        self.members_change = False
        self.faults: dict[str, tuple[float, Callable[[], api.Steps]]] = {
            "slow_disk": (4.0, self._slow_disk),
            "hung_disk": (5.0, self._hung_disk),
            "leader_disk_stall": (5.0, self._leader_disk_stall),
            "disk_full": (5.0, self._disk_full),
            "failed_write": (4.0, self._failed_write),
            "failed_sync": (4.0, self._failed_sync),
            "damaged_log": (6.0, self._damaged_log),
            "lost_disk": (6.0, self._lost_disk),
        }

    def mend(self) -> None:
        """All disks that are there work again."""
        for machine in self._cluster.machines.values():
            if machine.manager is not None:
                disk = machine.manager.disk
                disk.slow = 1.0
                disk.works_again()
                disk.release()

    def _pick(self) -> ManagerHost | None:
        running = [host for host in self._cluster.managers() if host.responsive]
        return self._rng.choice(running) if running else None

    def _slow_disk(self) -> api.Steps:
        host = self._pick()
        if host is None:
            return False
        host.disk.slow = self._rng.choice((10.0, 60.0, 200.0))
        yield self._rng.uniform(0.5, 4.0)
        host.disk.slow = 1.0
        return True

    def _hung_disk(self) -> api.Steps:
        host = self._pick()
        if host is None:
            return False
        self._cluster.note(host.name, "disk hangs")
        host.disk.hung = True
        yield self._rng.uniform(0.3, 4.0)
        host.disk.release()
        return True

    def _leader_disk_stall(self) -> api.Steps:
        """Its heartbeats go on, and would keep the others from electing one that can work."""
        cluster = self._cluster
        host = cluster.leader()
        if host is None or host.core is None:
            return False
        cluster.note(host.name, "leader's disk stalls")
        term, voters = host.core.consensus.term, len(host.core.consensus.conf_state.voters)
        host.disk.hung = True
        yield 0.1 * cluster.timing.election_ticks * _STALL_TIMEOUTS
        stuck = host.disk.waits and self._term(host) == term
        calm = cluster.scenario.faults == frozenset({"leader_disk_stall"})
        if calm and voters > 1 and stuck and host.leads:
            raise Violation("a leader whose disk stalls loses the leadership", host.name)
        host.disk.release()
        return True

    def _term(self, host: ManagerHost) -> int:
        return host.core.consensus.term if host.core is not None else 0

    def _disk_full(self) -> api.Steps:
        host = self._pick()
        if host is None:
            return False
        self._cluster.note(host.name, "disk is full")
        host.disk.system.full = True
        yield self._rng.uniform(0.5, 5.0)
        host.disk.system.full = False
        return True

    def _failed_write(self) -> api.Steps:
        """The disk is full in the middle of a write; then there is room again."""
        host = self._pick()
        if host is None:
            return False
        host.disk.system.write_fails = True
        yield self._rng.uniform(0.5, 2.0)
        return True

    def _failed_sync(self) -> api.Steps:
        """EIO once, then success: what was to be written is gone."""
        host = self._pick()
        if host is None:
            return False
        host.disk.system.sync_fails = True
        yield self._rng.uniform(0.5, 2.0)
        return True

    # A log that is lost for good

    def _damaged_log(self) -> api.Steps:
        return (yield from self._lose(lambda host: host.disk.damage_log()))

    def _lost_disk(self) -> api.Steps:
        def wipe(host: ManagerHost) -> bool:
            host.disk.wipe()
            return True

        return (yield from self._lose(wipe))

    def _lose(self, damage: Callable[[ManagerHost], bool]) -> api.Steps:
        host = self._expendable()
        if host is None:
            yield 0.5
            return False
        self.members_change = True
        host.crash()
        if damage(host):
            self._cluster.note(host.name, "log is lost or damaged")
            host.log_is_damaged = True
            host.machine.start_manager()
            if host.running:
                raise Violation("a lost or damaged log is refused", f"{host.name} starts with it")
            yield from self._replace(host)
        else:
            host.machine.start_manager()
        self.members_change = False
        return True

    def _expendable(self) -> ManagerHost | None:
        """A voter of a group of three or more that are all well, and no change is under way."""
        leader = self._cluster.leader()
        if leader is None or leader.core is None or self.members_change:
            return None
        store, conf = leader.store, leader.core.consensus.conf_state
        wanted = [n.id for n in store.nodes() if n.spec.role == NODE_ROLE_MANAGER]
        hosts = [h for h in self._cluster.managers() if h.responsive and h.raft_id in conf.voters]
        settled = all(node.role == node.spec.role for node in store.nodes())
        whole = len(hosts) == len(conf.voters) == len(wanted) == len(self._cluster.manager_names())
        if len(hosts) < 3 or not settled or not whole or conf.voters_outgoing or conf.learners:
            return None
        return self._rng.choice(hosts)

    def _replace(self, host: ManagerHost) -> api.Steps:
        machine = host.machine
        yield self._rng.uniform(0.1, 2.0)
        yield from self._change_role(machine.name, manager=False)
        while machine.manager is not None:
            yield _LOOK_S
        if self._rng.random() < 0.7:
            yield from self._change_role(machine.name, manager=True)

    def _change_role(self, name: str, *, manager: bool) -> api.Steps:
        """Asked until it is done, by somebody who has nobody else to ask."""
        while True:
            outcome = yield from self._operator.change_role(name, manager=manager)
            if isinstance(outcome, api.Done):
                return
            yield _LOOK_S
