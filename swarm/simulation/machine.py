"""One machine: its clock, its agent, its containers, and a manager while its role is one.

What `swarm.node.node` does with certificates is here: a changed role is fetched from a manager,
and lived by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.api.v1.node_pb2 import (
    NODE_ROLE_MANAGER,
    NODE_ROLE_WORKER,
    Member,
    NodeDescription,
    NodeRole,
)
from swarm.api.v1.types_pb2 import Platform, Resources
from swarm.manager.core import events as ev
from swarm.manager.core.store import View
from swarm.simulation import api
from swarm.simulation.agent_host import AgentHost
from swarm.simulation.clock import Clock
from swarm.simulation.containers import Containers
from swarm.simulation.disk import Disk
from swarm.simulation.loop import Wait, spawn
from swarm.simulation.manager_host import ManagerHost
from swarm.simulation.placement import gpus_of
from swarm.worker.core import events as happened

if TYPE_CHECKING:
    from swarm.simulation.cluster import Cluster

_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class _Admitted:
    members: Sequence[Member]


class Machine:
    """`name` is node id, host name and address."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        role: NodeRole.ValueType,
        clock: Clock,
        nano_cpus: int,
        memory_bytes: int,
    ) -> None:
        self.cluster = cluster
        self.name = name
        # What its certificate says.
        self.role: NodeRole.ValueType = role
        self.clock = clock
        self.known_managers: Sequence[str] = ()
        self.manager: ManagerHost | None = None
        self.description = NodeDescription(
            hostname=name,
            platform=Platform(architecture="x86_64", os="linux"),
            resources=Resources(
                nano_cpus=nano_cpus,
                memory_bytes=memory_bytes,
                generic=gpus_of(len(cluster.machines)),
            ),
        )
        self.containers = Containers(
            cluster.loop,
            cluster.streams.of(f"containers/{name}"),
            cluster.behaviour,
            cluster.starts,
            name,
        )
        self.agent = AgentHost(cluster, self, self.containers)
        # Down: neither process is to run.
        self.powered = True
        self._changing_role = self._role_unsettled = False

    @property
    def address(self) -> str:
        return f"{self.name}:2378"

    # A machine's parts

    def begin_manager(self, raft_id: int, disk: Disk, known: Sequence[Member] = ()) -> None:
        self.manager = ManagerHost(self.cluster, self, raft_id, disk)
        self.manager.start(known)
        if not self.powered:
            self.manager.crash()

    def start_agent(self) -> None:
        """Each time the node has something new to say of itself."""
        if self.powered and self.agent.core is None:
            description = NodeDescription()
            description.CopyFrom(self.description)
            description.engine.engine_version = f"1.{self.agent.epoch}"
            self.description = description
            self.agent.start(description)

    def start_manager(self) -> None:
        if self.powered and self.manager is not None and not self.manager.running:
            self.manager.start()

    def power_off(self) -> None:
        """Everything on it dies at once."""
        self.powered = False
        self.agent.crash()
        if self.manager is not None:
            self.manager.crash()
        self.containers.power_cut()

    def power_on(self) -> None:
        self.powered = True
        self.start_manager()
        self.start_agent()

    # Roles (Node._change_role)

    def raft_let_go(self, reason: str) -> None:
        manager = self.manager
        if manager is None:
            return
        self.manager = None
        manager.stop(reason)
        self._live_up_to_role()

    def role_changed(self, role: NodeRole.ValueType) -> None:
        """The managers gave this node another role than its certificate's."""
        if role != self.role:
            self._live_up_to_role()

    def join_group(self) -> None:
        """A new manager's first act."""
        self._live_up_to_role()

    def _live_up_to_role(self) -> None:
        """One change after the other: what happens during one is looked at after it."""
        self._role_unsettled = True
        if not self._changing_role:
            self._changing_role = True
            spawn(self.cluster.loop, self._change_role())

    def _change_role(self) -> api.Steps:
        while self._role_unsettled:
            self._role_unsettled = False
            yield from self._renew()
        self._changing_role = False

    def _renew(self) -> api.Steps:
        """A certificate of now from any manager, then what it makes of this node."""
        rng = self.cluster.streams.of(f"renew/{self.name}/{self.cluster.new_number()}")
        while True:
            outcome = yield from api.ask(
                self.cluster, self.name, rng, lambda host: api.read(host, self._stored_role), 5.0
            )
            if isinstance(outcome, api.Done):
                break
            yield _RETRY_S
        if outcome.answer is None:
            return  # removed from the swarm
        if outcome.answer != self.role:
            self.role = outcome.answer
            self.agent.submit(happened.CertificateRenewed(self.role, b"root"))
        if self.role == NODE_ROLE_MANAGER and self.manager is None:
            yield from self._join_raft()
        elif self.role == NODE_ROLE_WORKER and self.manager is not None:
            manager, self.manager = self.manager, None
            manager.stop("demoted")

    def _stored_role(self, view: View) -> NodeRole.ValueType | None:
        node = view.node(self.name)
        return node.role if node is not None else None

    def _join_raft(self) -> api.Steps:
        """Into the group under a fresh raft id (Node._ask_into_raft): everybody is asked once."""
        for name in self.cluster.manager_names():
            raft_id = self.cluster.new_raft_id()
            call = api.call_from(
                self.cluster, self.name, name, lambda host, r=raft_id: self._ask_in(host, r)
            )
            answer = yield Wait(call, 5.0)
            if isinstance(answer, _Admitted):
                disk = self.cluster.new_disk(self.name)
                disk.begin()
                self.begin_manager(raft_id, disk, answer.members)
                return
        yield _RETRY_S
        self._role_unsettled = True

    def _ask_in(self, host: ManagerHost, raft_id: int) -> api.Steps:
        """ManagersApi.JoinRaft, on the manager asked: Admitted, or why not."""
        assert host.core is not None, "its processes end with it"
        if not host.core.leads_and_knows:
            return api.NotKnown("not the leader")
        promise = host.promise(
            lambda token: ev.JoinRaft(token, self.name, self.address, self.address, raft_id)
        )
        answer = yield Wait(promise)
        if answer.refused:
            return api.NotKnown(answer.refused)
        return _Admitted(list(host.store.members()))
