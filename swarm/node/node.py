"""A node's life: in no cluster, joining, a worker, a manager, and from one to the other.

Every step is written down before it is relied on, so that a start after a crash in any place
goes on where the node was.
"""

import asyncio
import logging
import random
from datetime import UTC, datetime
from typing import Any

from swarm.api.v1.daemon_pb2 import InitRequest, JoinRequest
from swarm.api.v1.join_pb2 import JoinClusterRequest
from swarm.api.v1.node_pb2 import Member
from swarm.node.addresses import Addresses, resolve
from swarm.node.agent_process import AgentProcess
from swarm.node.bootstrap import create_cluster
from swarm.node.config import NodeConfig
from swarm.node.description import describe
from swarm.node.joining import JoinError, addresses_of, join_cluster, join_raft, renew_certificate
from swarm.node.manager_role import ManagerRole
from swarm.node.state import NodeState, StateFolder
from swarm.security.certificates import renewal_time
from swarm.security.errors import SecurityError
from swarm.security.node_keys import NodeBundle, NodeKeys
from swarm.security.roles import Role

log = logging.getLogger(__name__)

_RETRY_S = 1.0


class NodeError(Exception):
    """A request that this node can't fulfil: one line, with what to do."""


class Node:
    """One machine's part in a cluster. All methods run on one event loop."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.folder = StateFolder(config.state_dir)
        self.keys = NodeKeys(config.state_dir)
        self.state = self.folder.load()
        self.manager_role: ManagerRole | None = None
        self.problem = ""
        self.runtime = ""
        self.runtime_reason = ""
        self._agent: AgentProcess | None = None
        self._bundle: NodeBundle | None = None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._known_members: list[Member] = []

    @property
    def is_member(self) -> bool:
        return bool(self.state.node_id)

    @property
    def bundle(self) -> NodeBundle:
        assert self._bundle is not None
        return self._bundle

    @property
    def advertise_host(self) -> str:
        return self._addresses(self.state.listen_addr, self.state.advertise_addr).advertise_host

    # What users ask

    async def init(self, request: InitRequest) -> None:
        """A new cluster with this node as its first manager. NodeError, AddressError."""
        async with self._changing:
            self._refuse_if_member()
            addresses = self._addresses(request.listen_address, request.advertise_address)
            state, bundle = await asyncio.to_thread(
                create_cluster, self.config, self.folder, addresses, request
            )
            try:
                await self._become(state, bundle)
            except BaseException:
                await self._undo_join()
                raise

    async def join(self, request: JoinRequest) -> None:
        """Become a node of the cluster whose token it is. NodeError, JoinError, SecurityError."""
        async with self._changing:
            self._refuse_if_member()
            if not request.remote_addresses:
                raise NodeError("join takes the HOST[:PORT] of a manager")
            addresses = self._addresses(request.listen_address, request.advertise_address)
            keys = self.keys.request()
            bundle, answer = await join_cluster(
                request.remote_addresses,
                JoinClusterRequest(
                    token=request.token,
                    csr_pem=keys.csr_pem,
                    description=describe(self.config),
                    availability=request.availability,
                    address=addresses.advertise_host,
                ),
                keys,
            )
            state = NodeState(
                cluster_id=answer.cluster_id,
                node_id=answer.node_id,
                listen_addr=request.listen_address or self.config.listen_addr,
                advertise_addr=request.advertise_address or self.config.advertise_addr,
                managers=addresses_of(answer.managers),
            )
            self.keys.save(bundle, now=datetime.now(UTC))
            try:
                await self._become(state, bundle)
            except BaseException:
                await self._undo_join()
                raise

    async def leave(self, *, force: bool) -> None:
        """Stop this node's tasks and forget the cluster. NodeError."""
        async with self._changing:
            if not self.is_member:
                raise NodeError("This node is not part of a swarm")
            if self.manager_role is not None and not force:
                raise NodeError(
                    "You are attempting to leave the swarm on a node that is participating as a "
                    "manager. Demote it first with `swarmctl node demote`, or, where the swarm may "
                    "lose it without a vote, use `--force`."
                )
            await self._stop_parts(stop_tasks=True)
            self.keys.remove()
            self.folder.forget_all()
            self.state, self._bundle = NodeState(), None
            log.info("left the swarm")

    # Life

    async def start(self) -> None:
        """Go on as what this node was. SecurityError, ListenError, disk errors."""
        if not self.is_member:
            log.info("this node is in no swarm: `swarmctl init` or `swarmctl join` changes that")
            return
        await self._become(self.state, self.keys.load())

    async def stop(self) -> None:
        """End the daemon; tasks go on."""
        async with self._changing:
            await self._stop_parts(stop_tasks=False)

    async def _become(self, state: NodeState, bundle: NodeBundle) -> None:
        self._bundle = bundle
        self.folder.save(state)
        self.state = state
        self.problem = ""
        if bundle.identity.role is Role.MANAGER:
            await self._start_manager()
        self._start_agent()
        self._spawn(self._renew_in_time())
        self._spawn(self._note_managers())

    async def _start_manager(self) -> None:
        """Into the Raft group first, where this node is not in it yet."""
        if not self.state.raft_id:
            answer = await self._ask_into_raft()
            if answer is None:
                return
        role = ManagerRole(
            self.config,
            self.folder,
            self._addresses(self.state.listen_addr, self.state.advertise_addr),
            self.state.raft_id,
            lambda: self.bundle,
            self._raft_let_go,
        )
        await role.start(self._known_members)
        self.manager_role = role

    async def _ask_into_raft(self) -> int | None:
        """A raft id, as soon as a leader gives one; None when asked later instead."""
        addresses = self._addresses(self.state.listen_addr, self.state.advertise_addr)
        for _ in range(30):
            try:
                answer = await join_raft(self.bundle, self.state.managers, addresses)
            except JoinError as error:
                self.problem = f"can't join the managers yet: {error}"
                await asyncio.sleep(_RETRY_S / 2)
                continue
            self._known_members = list(answer.members)
            self.state = self.folder.change(raft_id=answer.raft_id)
            self.problem = ""
            return answer.raft_id
        log.warning("%s", self.problem)
        self._spawn(self._try_manager_again())
        return None

    async def _try_manager_again(self) -> None:
        await asyncio.sleep(_RETRY_S)
        async with self._changing:
            wanted = self.is_member and self.bundle.identity.role is Role.MANAGER
            if wanted and self.manager_role is None:
                await self._start_manager()

    def _start_agent(self) -> None:
        addresses = self._addresses(self.state.listen_addr, self.state.advertise_addr)
        config: dict[str, Any] = {
            "state_dir": str(self.folder.worker),
            "certificate_dir": str(self.config.state_dir),
            "cluster_id": self.state.cluster_id,
            "node_id": self.state.node_id,
            "managers": self._manager_addresses(),
            "hostname": self.config.hostname,
            "labels": dict(self.config.labels),
            "runtime": self.config.runtime,
            "listen_host": addresses.listen_host,
            "advertise_host": addresses.advertise_host,
            "log_level": self.config.log_level,
        }
        if self.config.cpus:
            config["cpus"] = self.config.cpus
        if self.config.memory_bytes:
            config["memory_bytes"] = self.config.memory_bytes
        self._agent = AgentProcess(config, self._agent_said)
        self._agent.start()

    def _manager_addresses(self) -> list[str]:
        if self.manager_role is not None:
            own = self.manager_role.manager_addresses()
            if own:
                return own
        return list(self.state.managers)

    async def _stop_parts(self, *, stop_tasks: bool) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._agent is not None:
            await self._agent.stop(stop_tasks=stop_tasks)
            self._agent = None
        if self.manager_role is not None:
            role, self.manager_role = self.manager_role, None
            await role.stop()

    async def _undo_join(self) -> None:
        """A join that failed halfway leaves nothing behind."""
        await self._stop_parts(stop_tasks=True)
        self.keys.remove()
        self.folder.forget_all()
        self.state, self._bundle = NodeState(), None

    # What happens to a member

    def _agent_said(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "runtime":
                self.runtime = str(event.get("name", ""))
                self.runtime_reason = str(event.get("reason", ""))
                log.info("runtime %s: %s", self.runtime, self.runtime_reason)
            case "role":
                self._spawn(self._change_role(str(event.get("role", ""))))
            case "no_session":
                self.problem = str(event.get("reason", ""))
            case "session":
                self.problem = ""
            case "warning":
                log.warning("%s", event.get("message"))
            case _:
                pass

    async def _change_role(self, role: str) -> None:
        """The managers gave this node another role: get the certificate, then live it."""
        async with self._changing:
            if not self.is_member or self.bundle.identity.role == f"swarm-{role}":
                return
            try:
                await self._renew()
            except (JoinError, SecurityError) as error:
                log.warning("%s", error)
                return
            if self.bundle.identity.role is Role.MANAGER and self.manager_role is None:
                log.info("promoted to manager")
                await self._start_manager()
            elif self.bundle.identity.role is Role.WORKER and self.manager_role is not None:
                log.info("demoted to worker")
                await self._stop_manager()

    async def _stop_manager(self) -> None:
        managers = [
            address
            for address in self._manager_addresses()
            if address
            != self._addresses(self.state.listen_addr, self.state.advertise_addr).node_address
        ]
        if self.manager_role is not None:
            role, self.manager_role = self.manager_role, None
            await role.stop(resign=False)
        self.folder.forget_raft()
        self.state = self.folder.change(managers=tuple(managers) or self.state.managers)
        if self._agent is not None:
            self._agent.set_managers(list(self.state.managers))

    def _raft_let_go(self, reason: str) -> None:
        """Removed from the group. The certificate follows when the managers say so."""
        log.warning("%s", reason)
        self._spawn(self._after_removal())

    async def _after_removal(self) -> None:
        async with self._changing:
            if self.manager_role is not None:
                await self._stop_manager()
        await self._change_role("worker")

    async def _renew_in_time(self) -> None:
        """Somewhere between 50 and 80 % of the certificate's life (Docker Swarm's rule)."""
        while True:
            due = renewal_time(self.bundle.certificate_pem, random.SystemRandom().random())
            wait_s = (due - datetime.now(UTC)).total_seconds()
            await asyncio.sleep(max(_RETRY_S, wait_s))
            try:
                async with self._changing:
                    await self._renew()
            except (JoinError, SecurityError) as error:
                log.warning("%s", error)
                await asyncio.sleep(60)

    async def _renew(self) -> None:
        bundle = await renew_certificate(self.bundle, self._manager_addresses())
        self.keys.save(bundle, now=datetime.now(UTC))
        self._bundle = bundle
        if self._agent is not None:
            self._agent.renewed()
        if self.manager_role is not None:
            self.manager_role.renewed()

    async def _note_managers(self) -> None:
        """Keep the list of managers on disk fresh: after a long stop it is what is known."""
        while True:
            await asyncio.sleep(5)
            if self.manager_role is None:
                continue
            known = tuple(self.manager_role.manager_addresses())
            if known and set(known) != set(self.state.managers):
                self.state = self.folder.change(managers=known)
                if self._agent is not None:
                    self._agent.set_managers(list(known))

    # Small

    def _addresses(self, listen: str, advertise: str) -> Addresses:
        return resolve(listen or self.config.listen_addr, advertise or self.config.advertise_addr)

    def _refuse_if_member(self) -> None:
        if self.is_member:
            raise NodeError(
                "This node is already part of a swarm. Use `swarmctl leave` to leave this swarm "
                "and join another one."
            )

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.problem = str(task.exception())
            log.error("%s", task.exception(), exc_info=task.exception())
