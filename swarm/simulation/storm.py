"""The faults of a scenario, and how they end. Each is a small process with a time of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_AVAILABILITY_DRAIN,
    NODE_ROLE_MANAGER,
    NODE_ROLE_WORKER,
    NodeRole,
    NodeSpec,
)
from swarm.manager.core import events as ev
from swarm.manager.core.validate import node
from swarm.simulation import api
from swarm.simulation.disk_faults import DiskFaults
from swarm.simulation.loop import Wait, spawn
from swarm.simulation.machine import Machine
from swarm.simulation.manager_host import ManagerHost
from swarm.simulation.network import Weather
from swarm.simulation.new_cluster import force_new_cluster
from swarm.simulation.placement import leave_zone
from swarm.simulation.violation import Violation
from swarm.simulation.workload import Client
from swarm.worker.core import events as happened

if TYPE_CHECKING:
    from swarm.simulation.cluster import Cluster

_Fault = Callable[[], api.Steps]
_MANAGERS_MAX = 5
_MACHINES_MAX = 9


class Storm:
    """`counts`: how often each fault struck."""

    def __init__(self, cluster: Cluster) -> None:
        self.counts: dict[str, int] = {}
        self._cluster = cluster
        self._rng: random.Random = cluster.streams.of("storm")
        self._operator = Client(cluster, 0)
        self._disks = DiskFaults(cluster, self._rng, self._operator)
        self._over = False
        self._under_way = 0
        self._faults: dict[str, tuple[float, _Fault]] = {
            # Mean seconds between two, and what happens.
            "manager_crash": (4.0, self._manager_crash),
            "leader_kill": (5.0, self._leader_kill),
            "election_crash": (5.0, self._election_crash),
            "all_managers_crash": (9.0, self._all_managers_crash),
            "worker_crash": (5.0, self._worker_crash),
            "agent_crash": (3.0, self._agent_crash),
            "partition": (4.0, self._partition),
            "one_way_partition": (4.0, self._one_way_partition),
            "bridge": (6.0, self._bridge),
            "deaf_leader": (5.0, self._deaf_leader),
            "clock_jump": (3.0, self._clock_jump),
            "pause": (4.0, self._pause),
            "join_manager": (6.0, self._join_manager),
            "join_worker": (7.0, self._join_worker),
            "promote_demote": (4.0, self._promote_demote),
            "resign": (5.0, self._resign),
            **self._disks.faults,
            "force_new_cluster": (9.0, lambda: force_new_cluster(cluster, self._rng)),
        }

    def begin(self) -> None:
        cluster, rng = self._cluster, self._rng
        faults = cluster.scenario.faults
        cluster.network.weather = Weather(
            drop=rng.choice((0.01, 0.05, 0.15)) if "drop" in faults else 0.0,
            duplicate=rng.choice((0.02, 0.1)) if "duplicate" in faults else 0.0,
            delay=rng.choice((0.02, 0.2)) if "delay" in faults else 0.0,
            reorder="reorder" in faults,
        )
        if "task_failures" in faults:
            behaviour = cluster.behaviour
            behaviour.prepare_fails = rng.choice((0.0, 0.1))
            behaviour.start_fails = rng.choice((0.0, 0.1))
            behaviour.exits = rng.choice((0.1, 0.5))
            behaviour.never_healthy = rng.choice((0.0, 0.2))
        for name, (mean_s, fault) in self._faults.items():
            if name in faults:
                spawn(cluster.loop, self._repeat(name, mean_s, fault))

    def end(self) -> None:
        """Everything that is broken is mended: from now on the cluster must come to rest."""
        cluster = self._cluster
        self._over = True
        for name in ("dropped", "duplicated", "delayed"):
            self.counts[name] = cluster.network.counts[name]
        cluster.network.weather = Weather()
        cluster.network.heal()
        behaviour = cluster.behaviour
        behaviour.prepare_fails = behaviour.start_fails = 0.0
        behaviour.exits = behaviour.never_healthy = 0.0
        self._disks.mend()
        for machine in cluster.machines.values():
            if machine.manager is not None:
                machine.manager.resume()
            machine.agent.resume()
            machine.power_on()
        cluster.note("storm", "is over")

    def settle_wishes(self, others_ask: Callable[[], bool]) -> api.Steps:
        """Users' last wishes: all nodes take tasks again, but for one of many that is drained now
        and then, and what is wanted fits on them."""
        while others_ask() or self._under_way:
            yield 0.2
        machines = self._cluster.machines
        draws = self._cluster.streams.of("last wishes")
        drained = draws.choice(list(machines)) if len(machines) > 2 and draws.random() < 0.3 else ""
        drain = draws.choice((_drain, _drain_in_turn))
        for name in list(machines):
            change = drain if name == drained else _activate
            while not isinstance((yield from self._operator.change_node(name, change)), api.Done):
                yield 0.2
        yield from self._operator.make_it_fit()
        # A node that was away while all managers that it knew were replaced has to be told.
        addresses = [machines[name].address for name in self._cluster.manager_names()]
        for machine in machines.values():
            machine.known_managers = addresses
            machine.agent.submit(happened.ManagersGiven(addresses))

    def _repeat(self, name: str, mean_s: float, fault: _Fault) -> api.Steps:
        while not self._over:
            yield self._rng.expovariate(1 / mean_s)
            if self._over:
                return
            before = self._cluster.loop.now
            self._under_way += 1
            struck = yield from fault()
            self._under_way -= 1
            if struck is not False:
                self.counts[name] = self.counts.get(name, 0) + 1
                self._cluster.note("storm", f"{name} since {before:.3f} is over")

    # Processes and machines

    def _pick_manager(self) -> ManagerHost | None:
        running = [host for host in self._cluster.managers() if host.responsive]
        return self._rng.choice(running) if running else None

    def _pick_machine(self) -> Machine:
        return self._rng.choice(list(self._cluster.machines.values()))

    def _manager_crash(self) -> api.Steps:
        host = self._pick_manager()
        return (yield from self._crash(host))

    def _leader_kill(self) -> api.Steps:
        return (yield from self._crash(self._cluster.leader()))

    def _crash(self, host: ManagerHost | None) -> api.Steps:
        if host is None:
            return False
        yield from self._wait_for_a_bad_moment(host)
        host.crash()
        yield self._rng.choice((self._rng.uniform(0.02, 0.3), self._rng.uniform(0.3, 3.0)))
        host.machine.start_manager()
        return True

    def _election_crash(self) -> api.Steps:
        """The leader goes, and with it a voter in the middle of writing its vote down."""
        leader = self._cluster.leader()
        others = [h for h in self._cluster.managers() if h is not leader and h.responsive]
        if leader is None or not others:
            return False
        voter = self._rng.choice(others)
        leader.crash()
        yield Wait(voter.disk.next_append(), 3.0)
        yield self._rng.uniform(0.0, 0.003) * voter.disk.slow
        voter.crash()
        yield self._rng.uniform(0.02, 1.0)
        voter.machine.start_manager()
        yield self._rng.uniform(0.0, 1.0)
        leader.machine.start_manager()
        return True

    def _wait_for_a_bad_moment(self, host: ManagerHost) -> api.Steps:
        """Between an append and the end of its sync, where a crash hurts most; or any moment."""
        if self._rng.random() < 0.3:
            return
        appended = host.disk.next_append()
        yield Wait(appended, 3.0)
        yield self._rng.uniform(0.0, 0.004) * host.disk.slow

    def _all_managers_crash(self) -> api.Steps:
        hosts = self._cluster.managers()
        if hosts:
            yield from self._wait_for_a_bad_moment(self._rng.choice(hosts))
        for host in hosts:
            host.crash()
        yield self._rng.uniform(0.05, 1.0)
        for host in hosts:
            yield self._rng.uniform(0.0, 0.5)
            host.machine.start_manager()
        return True

    def _worker_crash(self) -> api.Steps:
        """A power cut: containers and a manager on it die too."""
        machine = self._pick_machine()
        self._cluster.note(machine.name, "power cut")
        machine.power_off()
        yield self._rng.choice((self._rng.uniform(0.1, 3.0), self._rng.uniform(5.0, 9.0)))
        machine.power_on()
        return True

    def _agent_crash(self) -> api.Steps:
        machine = self._pick_machine()
        machine.agent.crash()
        yield self._rng.choice((self._rng.uniform(0.05, 1.0), self._rng.uniform(5.0, 8.0)))
        machine.start_agent()
        return True

    def _pause(self) -> api.Steps:
        machine = self._pick_machine()
        manager = machine.manager if self._rng.random() < 0.7 else None
        victim = manager if manager is not None and manager.responsive else machine.agent
        victim.pause()
        yield self._rng.choice((self._rng.uniform(0.1, 1.0), self._rng.uniform(1.0, 6.0)))
        victim.resume()
        return True

    # Wire

    def _partition(self) -> api.Steps:
        """Two halves, or one machine cut off, preferably the leader's."""
        names = list(self._cluster.machines)
        size = self._rng.choice((1, 1, max(1, len(names) // 2)))
        side = self._rng.sample(names, size)
        leader = self._cluster.leader()
        if leader is not None and self._rng.random() < 0.4:
            side = [leader.name]
        for one in side:
            for other in names:
                if other not in side:
                    self._cluster.network.cut(one, other)
                    self._cluster.network.cut(other, one)
        self._cluster.note("storm", "partition", " ".join(side))
        yield self._rng.uniform(0.5, 5.0)
        self._cluster.network.heal()
        return True

    def _one_way_partition(self) -> api.Steps:
        """Some links carry nothing in one direction."""
        names = list(self._cluster.machines)
        for _ in range(self._rng.randint(1, 3)):
            if len(names) < 2:
                return False
            one, other = self._rng.sample(names, 2)
            self._cluster.network.cut(one, other)
            self._cluster.note("storm", "one way partition", one, other)
        yield self._rng.uniform(0.5, 5.0)
        self._cluster.network.heal()
        return True

    def _bridge(self) -> api.Steps:
        """Managers that see each other only over one in the middle, or each only its
        neighbours: some see the leader, and others don't."""
        cluster, names = self._cluster, [host.name for host in self._cluster.managers()]
        if len(names) < 3:
            yield 0.5
            return False
        self._rng.shuffle(names)
        is_chain = self._rng.random() < 0.5
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                if i != j and (abs(i - j) > 1 if is_chain else 0 not in (i, j)):
                    cluster.network.cut(one, other)
        cluster.note("storm", "chain" if is_chain else "bridge", " ".join(names))
        election_s = 0.2 * cluster.timing.election_ticks
        yield 4 * election_s
        before = cluster.invariants.raft.elections
        yield self._rng.uniform(1.0, 4.0)
        leader = cluster.leader()
        alone = cluster.scenario.faults == frozenset({"bridge"}) and not self._over
        if alone and (leader is None or cluster.invariants.raft.elections != before):
            raise Violation(
                "a partial partition has a stable leader",
                f"{'chain' if is_chain else 'bridge'} {' '.join(names)} led by "
                f"{leader.name if leader is not None else 'nobody'}",
            )
        cluster.network.heal()
        return True

    def _deaf_leader(self) -> api.Steps:
        """It is heard, and hears nobody: it must not hold the others up (openraft#2083)."""
        cluster, leader = self._cluster, self._cluster.leader()
        if leader is None or len(cluster.managers()) < 3:
            yield 0.5
            return False
        for name in cluster.machines:
            if name != leader.name:
                cluster.network.cut(name, leader.name)
        cluster.note(leader.name, "leader is deaf")
        yield 0.6 * cluster.timing.election_ticks
        heard = [host for host in cluster.managers() if host.leads and host is not leader]
        alone = cluster.scenario.faults == frozenset({"deaf_leader"}) and not self._over
        if alone and not heard:
            raise Violation("a leader that hears nobody is replaced", leader.name)
        yield self._rng.uniform(0.0, 3.0)
        cluster.network.heal()
        return True

    def _clock_jump(self) -> api.Steps:
        """Somebody sets a machine's wall clock; its monotonic one goes on."""
        machine = self._pick_machine()
        machine.clock.skew_s += self._rng.choice((-3600.0, -5.0, 5.0, 3600.0))
        yield 0.0
        return True

    # Members

    def _join_manager(self) -> api.Steps:
        return (yield from self._join(NODE_ROLE_MANAGER))

    def _join_worker(self) -> api.Steps:
        return (yield from self._join(NODE_ROLE_WORKER))

    def _join(self, role: NodeRole.ValueType) -> api.Steps:
        cluster = self._cluster
        while role == NODE_ROLE_MANAGER and self._disks.members_change:
            yield 0.5
        managers = len(cluster.manager_names())
        if len(cluster.machines) >= _MACHINES_MAX or (
            role == NODE_ROLE_MANAGER and managers >= _MANAGERS_MAX
        ):
            yield 1.0
            return False
        known = [cluster.machines[name].address for name in cluster.manager_names()]
        machine = cluster.new_machine(role)
        machine.known_managers = known
        request_id = f"join.{machine.name}"
        request = api.Change(
            request_id,
            lambda view, _, now_ns: node.join(
                view,
                machine.name,
                machine.role,
                machine.description,
                NODE_AVAILABILITY_ACTIVE,
                machine.name,
                now_ns,
            ),
        )
        while True:
            outcome = yield from api.ask(
                cluster,
                machine.name,
                self._rng,
                lambda host: api.change(host, request, forwarded=False),
                10.0,
            )
            if isinstance(outcome, api.Done):
                break
        machine.start_agent()
        if role == NODE_ROLE_MANAGER:
            machine.join_group()
        return True

    def _promote_demote(self) -> api.Steps:
        cluster = self._cluster
        managers = [n for n, m in cluster.machines.items() if m.role == NODE_ROLE_MANAGER]
        workers = [n for n, m in cluster.machines.items() if m.role == NODE_ROLE_WORKER]
        if self._disks.members_change:
            yield 1.0
            return False
        promote = bool(workers) and len(managers) < _MANAGERS_MAX and self._rng.random() < 0.6
        names = workers if promote else managers
        if not names or (not promote and len(managers) < 2):
            yield 1.0
            return False
        name = self._rng.choice(names)
        leader = cluster.leader()
        if not promote and leader is not None and self._rng.random() < 0.4:
            name = leader.name
        self._disks.members_change = True
        outcome = yield from self._operator.change_role(name, manager=promote)
        if isinstance(outcome, api.NotKnown):
            yield api.DEADLINE_S
        self._disks.members_change = False
        yield self._rng.uniform(0.5, 3.0)
        return True

    def _resign(self) -> api.Steps:
        """An orderly stop of the leader."""
        host = self._cluster.leader()
        if host is None:
            return False
        host.submit(ev.Resign())
        yield 1.0
        return True


def _activate(spec: NodeSpec) -> None:
    spec.availability = NODE_AVAILABILITY_ACTIVE
    spec.ClearField("drain")
    leave_zone(spec)


def _drain(spec: NodeSpec) -> None:
    spec.availability = NODE_AVAILABILITY_DRAIN
    spec.ClearField("drain")


def _drain_in_turn(spec: NodeSpec) -> None:
    _drain(spec)
    spec.drain.max_unavailable = 1
