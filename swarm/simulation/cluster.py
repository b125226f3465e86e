"""The whole cluster in one process: machines, wire, clock, and what is watched over them."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.cluster_pb2 import ClusterSecrets
from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_ROLE_MANAGER,
    NODE_ROLE_WORKER,
    Member,
    NodeRole,
)
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.store_pb2 import VERDICT_OK, Change, LogPayload, Object
from swarm.manager.core.consensus import Timing
from swarm.manager.core.recovery import NewCluster
from swarm.manager.core.store import Store
from swarm.manager.core.validate import cluster as bootstrap
from swarm.manager.core.validate.node import new_node
from swarm.simulation.clock import EPOCH_NS, Clock
from swarm.simulation.containers import Behaviour
from swarm.simulation.disk import Disk
from swarm.simulation.invariants import Invariants
from swarm.simulation.loop import Loop
from swarm.simulation.machine import Machine
from swarm.simulation.manager_host import ManagerHost
from swarm.simulation.network import Network
from swarm.simulation.placement import first_zone
from swarm.simulation.scenario import Scenario
from swarm.simulation.streams import Streams
from swarm.simulation.trace import Trace


class Cluster:
    """Begins with the scenario's managers in one group, and its workers, all known already."""

    def __init__(self, scenario: Scenario, trace: Trace) -> None:
        self.scenario = scenario
        self.streams = Streams(scenario.seed)
        self.loop = Loop()
        self.trace = trace
        self.network = Network(self.loop, self.streams.of("network"))
        self.network_rng = self.streams.of("streams")
        self.invariants = Invariants(self)
        self.behaviour = Behaviour()
        self.starts: dict[str, str] = {}
        self.check_mutation = scenario.check_mutation
        self.timing = Timing(
            election_ticks=scenario.election_ticks,
            kept_entries=scenario.kept_entries,
            message_bytes=scenario.message_bytes,
        )
        self.machines: dict[str, Machine] = {}
        self._clock_rng = self.streams.of("clocks")
        self._number = 0
        self._raft_id = 0

    def note(self, who: str, what: str, *details: object) -> None:
        self.trace.note(self.loop.now, who, what, *details)

    def new_number(self) -> int:
        self._number += 1
        return self._number

    def new_raft_id(self) -> int:
        """Never used before: in reality random."""
        self._raft_id += 1
        return self._raft_id

    def new_disk(self, name: str) -> Disk:
        return Disk(self.loop, self.streams.of(f"disk/{name}/{self.new_number()}"))

    def new_machine(self, role: NodeRole.ValueType) -> Machine:
        name = f"n{len(self.machines) + 1}"
        rng = self._clock_rng
        clock = Clock(
            rate=1.0 + self.scenario.clock_drift * rng.uniform(-1, 1),
            offset_s=rng.uniform(0, 1000),
            skew_s=self.scenario.clock_skew_s * rng.uniform(-1, 1),
        )
        machine = Machine(
            self, name, role, clock, self.scenario.nano_cpus, self.scenario.memory_bytes
        )
        self.machines[name] = machine
        return machine

    # The beginning

    def begin(self) -> None:
        managers = [self.new_machine(NODE_ROLE_MANAGER) for _ in range(self.scenario.managers)]
        workers = [self.new_machine(NODE_ROLE_WORKER) for _ in range(self.scenario.workers)]
        raft_ids = [self.new_raft_id() for _ in managers]
        members = [
            Member(
                id=str(raft_id),
                raft_id=raft_id,
                node_id=machine.name,
                address=machine.address,
                join_address=machine.address,
            )
            for raft_id, machine in zip(raft_ids, managers, strict=True)
        ]
        beginning = self._beginning(managers, workers, members, ConfState(voters=raft_ids))
        addresses = [machine.address for machine in managers]
        for machine in (*managers, *workers):
            machine.known_managers = addresses
        self.invariants.begin(Store.restore(beginning.image.pieces()))
        for raft_id, machine in zip(raft_ids, managers, strict=True):
            disk = self.new_disk(machine.name)
            disk.format(beginning)
            machine.begin_manager(raft_id, disk)
        for machine in self.machines.values():
            machine.start_agent()

    def _beginning(
        self,
        managers: Sequence[Machine],
        workers: Sequence[Machine],
        members: Sequence[Member],
        conf_state: ConfState,
    ) -> NewCluster:
        transaction = bootstrap.bootstrap(
            cluster_id="cluster",
            spec=bootstrap.spec_with_defaults(
                heartbeat_period_ns=self.scenario.heartbeat_period_ns,
                task_history_limit=self.scenario.task_history_limit,
                snapshot_interval=self.scenario.snapshot_interval,
            ),
            root_certificate_pem=b"root",
            secrets=ClusterSecrets(),
            node_id=managers[0].name,
            description=managers[0].description,
            availability=NODE_AVAILABILITY_ACTIVE,
            address=managers[0].name,
            member=members[0],
            now_ns=EPOCH_NS,
        )
        for number, machine in enumerate((*managers[1:], *workers)):
            node = new_node(
                machine.name,
                machine.role,
                machine.description,
                NODE_AVAILABILITY_ACTIVE,
                machine.name,
                EPOCH_NS,
            )
            first_zone(number, node.spec)
            transaction.changes.append(Change(create=Object(node=node)))
        for member in members[1:]:
            transaction.changes.append(Change(create=Object(member=member)))
        store = Store()
        payload = LogPayload(proposed_at_ns=EPOCH_NS, transactions=[transaction])
        (verdict,) = store.apply(1, 1, payload).verdicts
        assert verdict.code == VERDICT_OK, verdict.message
        return NewCluster(1, 1, conf_state, store.snapshot(1, 1, conf_state))

    # Looking around

    def managers(self) -> list[ManagerHost]:
        """Those whose process runs."""
        return [
            machine.manager
            for machine in self.machines.values()
            if machine.manager is not None and machine.manager.running
        ]

    def manager_names(self) -> list[str]:
        """Whom a client may ask: all that are managers, running or not."""
        names = [name for name, m in self.machines.items() if m.manager is not None]
        return names or list(self.machines)

    def leader(self) -> ManagerHost | None:
        """Of the highest term, where several believe they lead."""
        leaders = [host for host in self.managers() if host.leads]
        return max(leaders, key=_term, default=None)


def _term(host: ManagerHost) -> int:
    assert host.core is not None, "it runs"
    return host.core.consensus.term
