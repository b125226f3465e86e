"""A node's life: in no cluster, joining, a worker, a manager, and from one to the other.

Every step is written down before it is relied on, so that a start after a crash in any place
goes on where the node was.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from swarm.api.v1.daemon_pb2 import InitRequest, JoinRequest, RestoreSettings
from swarm.api.v1.daemon_pb2_grpc import DaemonServicer
from swarm.api.v1.join_pb2 import JoinClusterRequest
from swarm.api.v1.node_pb2 import Member
from swarm.api.v1.store_pb2 import SnapshotHeader
from swarm.disk import CorruptFileError, FatalDiskError, NoSpaceError
from swarm.manager.core.store import Store
from swarm.manager.manager import LetGo
from swarm.manager.raft_disk import RaftDisk
from swarm.node.addresses import Addresses, address_towards, is_unspecified, resolve
from swarm.node.agent_process import AgentProcess
from swarm.node.bootstrap import begin_anew, create_cluster, new_raft_id, restore_cluster
from swarm.node.config import NodeConfig
from swarm.node.description import describe
from swarm.node.joining import JoinError, addresses_of, join_cluster, join_raft, renew_certificate
from swarm.node.listeners import ListenError, check_free, check_own
from swarm.node.manager_role import ManagerRole
from swarm.node.state import NodeState, StateError, StateFolder
from swarm.security.certificates import (
    Request,
    check_pair,
    check_validity,
    create_request,
    load_certificates,
    renewal_time,
)
from swarm.security.errors import SecurityError
from swarm.security.node_keys import NodeBundle, NodeKeys
from swarm.security.roles import Role

log = logging.getLogger(__name__)

DISK_ERRORS = (CorruptFileError, FatalDiskError, NoSpaceError, OSError)
_RETRY_S = 1.0
_RETRY_MAX_S = 10.0
# How long `join` waits until this node is among the managers; it goes on trying after that.
_JOIN_PATIENCE_S = 15.0
_MANAGERS_REMEMBERED = 7


class NodeError(Exception):
    """A request that this node can't fulfil: one line, with what to do."""


class Node:
    """One machine's part in a cluster. All methods run on one event loop."""

    def __init__(self, config: NodeConfig) -> None:
        """StateError."""
        self.config = config
        self.folder = StateFolder(config.state_dir)
        self.keys = NodeKeys(config.state_dir)
        self.state = self.folder.load()
        self.manager_role: ManagerRole | None = None
        # What a manager's listener tells administrators of this node; set before `start`.
        self.daemon_api: DaemonServicer | None = None
        self.runtime = ""
        self.runtime_reason = ""
        # A manager that must not go on under its raft id, and waits for somebody's decision.
        self._is_barred = False
        self._problems: dict[str, str] = {}
        self._agent: AgentProcess | None = None
        self._bundle: NodeBundle | None = None
        self._changing = asyncio.Lock()
        self._requests: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bringing_up: asyncio.Task[None] | None = None
        self._is_up = asyncio.Event()
        self._known_members: list[Member] = []

    @property
    def is_member(self) -> bool:
        return bool(self.state.node_id)

    @property
    def problem(self) -> str:
        """What keeps this node from its work, in a line, or nothing."""
        found = (self._problems.get(part) for part in ("certificate", "manager", "agent"))
        return next((text for text in found if text), "")

    @property
    def needs_help(self) -> bool:
        """The problem does not go away by itself."""
        return self._is_barred or "certificate" in self._problems

    @property
    def bundle(self) -> NodeBundle:
        assert self._bundle is not None
        return self._bundle

    @property
    def advertise_host(self) -> str:
        return self._own_addresses().advertise_host

    # What users ask

    async def init(self, request: InitRequest) -> None:
        """A new cluster with this node as its first manager, from nothing or from this manager's
        own log. NodeError, AddressError, ListenError."""
        begin = self._force_new_cluster if request.force_new_cluster else self._init
        await self._to_its_end(begin(request))

    async def restore(
        self, settings: RestoreSettings, store: Store, position: SnapshotHeader
    ) -> None:
        """A backup's store as a new cluster with this node as its first manager. NodeError,
        AddressError, ListenError, NothingToRecover."""
        await self._to_its_end(self._restore(settings, store, position))

    async def join(self, request: JoinRequest) -> None:
        """Become a node of the cluster whose token it is. NodeError, JoinError, SecurityError."""
        await self._to_its_end(self._join(request))

    async def leave(self, *, force: bool) -> None:
        """Stop this node's tasks and forget the cluster. NodeError."""
        await self._to_its_end(self._leave(force=force))

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        """What was begun is done whole, though whoever asked may have gone meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._request_done)
        await asyncio.shield(task)

    def _request_done(self, task: "asyncio.Task[None]") -> None:
        self._requests.discard(task)
        if not task.cancelled():
            task.exception()  # said to whoever asked, if they are still there

    async def _init(self, request: InitRequest) -> None:
        async with self._changing:
            self.refuse_if_member()
            addresses = self._addresses(request.listen_address, request.advertise_address)
            await self._begin(
                addresses,
                lambda: create_cluster(self.config, self.folder, addresses, request),
            )

    async def _restore(
        self, settings: RestoreSettings, store: Store, position: SnapshotHeader
    ) -> None:
        async with self._changing:
            self.refuse_if_member()
            addresses = self._addresses(settings.listen_address, settings.advertise_address)
            await self._begin(
                addresses,
                lambda: restore_cluster(
                    self.config, self.folder, addresses, settings, store, position
                ),
            )

    async def _begin(
        self, addresses: Addresses, create: Callable[[], tuple[NodeState, NodeBundle]]
    ) -> None:
        """The first manager of a cluster, or nothing that is left of it."""
        await asyncio.to_thread(check_free, addresses)
        try:
            # What an earlier life left behind is of another cluster.
            self.folder.forget_all()
            state, bundle = await asyncio.to_thread(create)
            await self._become(state, bundle)
        except BaseException:
            await self._undo()
            self.keys.remove()
            raise

    async def _force_new_cluster(self, request: InitRequest) -> None:
        async with self._changing:
            self._check_force()
            old = self._own_addresses()
            listen = request.listen_address or self.state.listen_addr
            advertise = request.advertise_address or self.state.advertise_addr
            addresses = self._addresses(listen, advertise)
            role, self.manager_role = self.manager_role, None
            self._is_up.clear()
            if role is not None:
                await role.stop(resign=False)
            before = self.state
            self.state = self.folder.change(
                new_raft_id=new_raft_id(), listen_addr=listen, advertise_addr=advertise
            )
            try:
                await asyncio.to_thread(check_free, addresses)
                await self._begin_anew()
            except BaseException:
                await self._give_up_new_cluster(before)
                raise
            try:
                await self._start_manager()
            except BaseException:
                self._bring_up()
                raise
            log.warning("the swarm goes on with this node as its only manager")
            if self._agent is not None and addresses != old:
                agent, self._agent = self._agent, None
                await agent.stop()
                self._start_agent()
            elif self._agent is not None:
                self._agent.set_managers(list(self.state.managers))

    def _check_force(self) -> None:
        if not self.is_member:
            raise NodeError(
                "This node is not part of a swarm, so there is nothing to make a new cluster of: "
                "`swarmctl init` makes an empty one, `swarmctl cluster restore` one from a backup"
            )
        if self.bundle.identity.role is not Role.MANAGER:
            raise NodeError(
                "This node is a worker: --force-new-cluster takes a manager, which has the swarm's "
                "log; where none is left, `swarmctl cluster restore` takes a backup"
            )
        if not self.state.raft_id or not self.folder.has_log:
            raise NodeError(
                "This manager has no log: use --force-new-cluster on one that has, or `swarmctl "
                "leave --force` and `swarmctl cluster restore` here"
            )
        if self.manager_role is not None and self.manager_role.has_quorum:
            raise NodeError(
                "The swarm has its quorum, and a second cluster would part it: use `swarmctl node "
                "demote` and `swarmctl node rm --force` for managers that are lost"
            )

    async def _begin_anew(self) -> None:
        """From the intent in node.json to a log of the new cluster. Whatever ends this process,
        the next start takes it up again."""
        addresses, raft_id = self._own_addresses(), self.state.new_raft_id
        await begin_anew(self.folder, self.state.node_id, raft_id, addresses, self.config)
        self.state = self.folder.change(
            raft_id=raft_id,
            new_raft_id=0,
            superseded=False,
            managers=(addresses.node_address,),
        )
        self._is_barred = False
        self._problems.pop("manager", None)

    async def _give_up_new_cluster(self, before: NodeState) -> None:
        """Nothing was changed: go on as the manager that this was."""
        self.folder.save(before)
        self.state = before
        try:
            await self._go_on_as_manager()
        except (ListenError, SecurityError, *DISK_ERRORS) as error:
            self._problems["manager"] = str(error)
            log.error("%s", error)

    async def _join(self, request: JoinRequest) -> None:
        async with self._changing:
            self.refuse_if_member()
            if not request.remote_addresses:
                raise NodeError("join takes the HOST[:PORT] of a manager")
            addresses, advertise = await asyncio.to_thread(self._addresses_to_join_with, request)
            await asyncio.to_thread(check_own, addresses)
            keys = self._keys_to_join_with()
            bundle, answer = await join_cluster(
                request.remote_addresses,
                JoinClusterRequest(
                    token=request.token,
                    csr_pem=keys.csr_pem,
                    description=describe(self.config),
                    availability=request.availability,
                    address=addresses.advertise_host,
                    cannot_manage=await asyncio.to_thread(_why_not_free, addresses),
                ),
                keys,
            )
            state = NodeState(
                cluster_id=answer.cluster_id,
                node_id=answer.node_id,
                listen_addr=request.listen_address or self.config.listen_addr,
                advertise_addr=advertise,
                managers=addresses_of(answer.managers),
            )
            try:
                # What an earlier life left behind is of another cluster.
                self.folder.forget_all()
                self.keys.save(bundle, now=datetime.now(UTC))
                await self._become(state, bundle)
            except BaseException:
                # The key stays: asked again, this machine is the same node.
                await self._undo()
                raise
        if bundle.identity.role is Role.MANAGER:
            await self._wait_until_manager()

    def _addresses_to_join_with(self, request: JoinRequest) -> tuple[Addresses, str]:
        """And what is to be kept of them: an address is where nobody gave one and the others are
        reached from another than this machine's usual one."""
        advertise = request.advertise_address or self.config.advertise_addr
        usual = self._addresses(request.listen_address, advertise)
        if advertise or not is_unspecified(usual.listen_host):
            return usual, advertise
        found = address_towards(request.remote_addresses)
        if not found or found == usual.advertise_host:
            return usual, ""
        return self._addresses(request.listen_address, found), found

    def _keys_to_join_with(self) -> Request:
        """The key of a join that was cut off, where there is one: it is the same node then, and
        no second one that nobody ever hears of."""
        try:
            return create_request(self.keys.load().key_pem)
        except SecurityError:
            return self.keys.request()

    async def _wait_until_manager(self) -> None:
        try:
            async with asyncio.timeout(_JOIN_PATIENCE_S):
                await self._is_up.wait()
        except TimeoutError:
            raise NodeError(
                "this node is in the swarm, but not among its managers yet; it goes on trying "
                f"(swarmctl info): {self.problem or 'no manager has let it in'}"
            ) from None

    async def _leave(self, *, force: bool) -> None:
        self._check_leave(force=force)
        await self._cancel_tasks()
        async with self._changing:
            self._check_leave(force=force)
            await self._cancel_tasks()
            await self._stop_parts(stop_tasks=True)
            self.folder.forget_all()
            self.keys.remove()
            self.state, self._bundle = NodeState(), None
            log.info("left the swarm")

    def _check_leave(self, *, force: bool) -> None:
        if not self.is_member:
            raise NodeError("This node is not part of a swarm")
        if self.bundle.identity.role is Role.MANAGER and not force:
            raise NodeError(
                "You are attempting to leave the swarm on a node that is participating as a "
                "manager. Demote it first with `swarmctl node demote`, or, where the swarm may "
                "lose it without a vote, use `--force`."
            )

    # Life

    async def start(self) -> None:
        """Go on as what this node was. StateError, SecurityError, ListenError, disk errors."""
        if not self.is_member:
            log.info("this node is in no swarm: `swarmctl init` or `swarmctl join` changes that")
            return
        if not self.keys.exists():
            raise StateError(
                f"this node is in a swarm, but its certificate is gone from {self.folder.folder}/"
                "certificates: restore it, or move that folder away, start swarmd again and join "
                "the swarm anew"
            )
        bundle = self._checked(self.keys.load())
        try:
            check_validity(bundle.certificate_pem, now=datetime.now(UTC))
        except SecurityError as error:
            self._problems["certificate"] = str(error)
            log.error("%s", error)
        await self._become(self.state, bundle)

    def _checked(self, bundle: NodeBundle) -> NodeBundle:
        try:
            check_pair(bundle.certificate_pem, bundle.key_pem)
            load_certificates(bundle.root_pem)
            if bundle.identity.node_id != self.state.node_id:
                raise SecurityError("it is another node's")
        except SecurityError as error:
            raise StateError(
                f"the certificate in {self.folder.folder}/certificates can't be used: {error}"
            ) from None
        return bundle

    def take_over(self, config: NodeConfig) -> None:
        """Settings that were changed while this daemon runs (`reload`)."""
        self.config = config
        if self._agent is not None:
            self._agent.change_settings(_settings_of_agent(config))

    async def stop(self) -> None:
        """End the daemon; tasks go on."""
        for request in list(self._requests):
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        await self._cancel_tasks()
        async with self._changing:
            await self._cancel_tasks()
            await self._stop_parts(stop_tasks=False)

    async def _become(self, state: NodeState, bundle: NodeBundle) -> None:
        self._bundle = bundle
        if state != self.state:
            self.folder.save(state)
        self.state = state
        if bundle.identity.role is Role.MANAGER:
            await self._go_on_as_manager()
        elif state.raft_id:
            self._forget_raft()
        self._start_agent()
        self._spawn(self._renew_in_time())
        self._spawn(self._note_managers())

    async def _go_on_as_manager(self) -> None:
        if self.state.new_raft_id:
            log.warning("--force-new-cluster was cut off: it is brought to its end")
            await self._begin_anew()
        if self.state.superseded:
            self._bar(
                "the swarm was made anew without this manager (--force-new-cluster or cluster "
                "restore on another one): `swarmctl leave --force` here, then join again with a "
                f"token; until then its log is kept in {self.folder.raft}"
            )
        else:
            await self._go_on_in_group()

    async def _go_on_in_group(self) -> None:
        """A member whose log is gone must not come back under its old id with an empty one: it
        could vote against what it had acknowledged (raft-faults: node loses its disk)."""
        if self.state.raft_id and not self.folder.has_log:
            self._bar(
                f"this manager's log is gone from {self.folder.raft}: restore it, or on another "
                f"manager `swarmctl node demote {self.config.hostname}`, then `swarmctl node "
                "promote`, for a new one; where there is no other: `swarmctl leave --force` and "
                "`swarmctl cluster restore`"
            )
            return
        if self.state.raft_id:
            await self._start_manager()
        if self.manager_role is None:
            self._bring_up()

    def _bar(self, reason: str) -> None:
        self._is_barred = True
        self._problems["manager"] = reason
        log.error("%s", reason)

    async def _start_manager(self) -> None:
        """This node's part in the Raft group, under the id that it has. ListenError, SecurityError,
        disk errors."""

        def stopped(let_go: LetGo) -> None:
            self._raft_let_go(role, let_go)

        role = ManagerRole(
            self.config,
            self.folder,
            self._own_addresses(),
            self.state.raft_id,
            lambda: self.bundle,
            stopped,
            self.daemon_api,
        )
        if role.is_blank and not self._known_members:
            # Stopped before the leader sent anything: nothing was promised under this id.
            await role.close()
            self._forget_raft()
            return
        await role.start(self._known_members)
        self.manager_role = role
        self._problems.pop("manager", None)
        self._is_up.set()

    def _bring_up(self) -> None:
        """Into the Raft group, however long it takes."""
        if self._bringing_up is None or self._bringing_up.done():
            self._bringing_up = self._spawn(self._try_to_manage())

    async def _try_to_manage(self) -> None:
        pause_s = _RETRY_S / 4
        while True:
            async with self._changing:
                wanted = self.is_member and self.bundle.identity.role is Role.MANAGER
                if not wanted or self.manager_role is not None or self._is_barred:
                    return
                try:
                    await self._enter_raft()
                except (JoinError, ListenError, SecurityError, *DISK_ERRORS) as error:
                    if self._problems.get("manager") != str(error):
                        log.warning("not among the managers yet: %s", error)
                    self._problems["manager"] = str(error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _RETRY_MAX_S)

    async def _enter_raft(self) -> None:
        if not self.state.raft_id:
            addresses = self._own_addresses()
            # Before others count on this node: can it do its part at all?
            await asyncio.to_thread(check_free, addresses)
            await asyncio.to_thread(RaftDisk.begin, self.folder.raft)
            answer = await join_raft(self.bundle, self._other_managers(), addresses)
            self._known_members = list(answer.members)
            self.state = self.folder.change(raft_id=answer.raft_id)
        await self._start_manager()

    def _forget_raft(self) -> None:
        self.folder.forget_raft()
        self.state = self.folder.load()
        self._known_members = []
        self._is_barred = False
        self._problems.pop("manager", None)
        self._is_up.clear()

    def _start_agent(self) -> None:
        addresses = self._own_addresses()
        config: dict[str, Any] = {
            "state_dir": str(self.folder.worker),
            "certificate_dir": str(self.config.state_dir),
            "cluster_id": self.state.cluster_id,
            "node_id": self.state.node_id,
            "managers": self._manager_addresses(),
            "hostname": self.config.hostname,
            "runtime": self.config.runtime,
            "listen_host": addresses.listen_host,
            "advertise_host": addresses.advertise_host,
            **_settings_of_agent(self.config),
        }
        self._agent = AgentProcess(config, self._agent_said)
        self._agent.start()

    def _manager_addresses(self) -> list[str]:
        if self.manager_role is not None:
            own = self.manager_role.manager_addresses()
            if own:
                return own
        return list(self.state.managers)

    def _other_managers(self) -> list[str]:
        own = self._own_addresses().node_address
        return [address for address in self._manager_addresses() if address != own]

    async def _cancel_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _stop_parts(self, *, stop_tasks: bool) -> None:
        agent, self._agent = self._agent, None
        role, self.manager_role = self.manager_role, None
        self._problems.clear()
        self._is_barred = False
        self._is_up.clear()
        if agent is not None and stop_tasks:
            # What it has to say of them still goes through this manager.
            await agent.stop(stop_tasks=True)
            agent = None
        await asyncio.gather(
            agent.stop() if agent is not None else _nothing(),
            role.stop() if role is not None else _nothing(),
        )

    async def _undo(self) -> None:
        """An init or join that failed halfway leaves nothing behind."""
        await self._cancel_tasks()
        await self._stop_parts(stop_tasks=True)
        self.folder.forget_all()
        self.state, self._bundle = NodeState(), None

    # What happens to a member

    def _agent_said(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "runtime":
                self.runtime = str(event.get("name", ""))
                self.runtime_reason = str(event.get("reason", ""))
                self._problems.pop("agent", None)
                log.info("runtime %s: %s", self.runtime, self.runtime_reason)
            case "failed":
                self.runtime, self.runtime_reason = "", str(event.get("reason", ""))
                self._problems["agent"] = self.runtime_reason
            case "role":
                self._spawn(self._change_role(str(event.get("role", ""))))
            case "no_session":
                self._problems["agent"] = str(event.get("reason", ""))
            case "session":
                self._problems.pop("agent", None)
                self._remember_manager(str(event.get("manager", "")))
            case "warning":
                log.warning("%s", event.get("message"))
            case _:
                pass

    def _remember_manager(self, address: str) -> None:
        """A worker's list of managers is as old as its join: the one that serves it is alive."""
        known = self.state.managers
        if self.manager_role is None and address and known[:1] != (address,):
            others = (other for other in known if other != address)
            self._set_managers((address, *others)[:_MANAGERS_REMEMBERED])

    def _set_managers(self, addresses: tuple[str, ...]) -> None:
        try:
            self.state = self.folder.change(managers=addresses)
        except (StateError, *DISK_ERRORS) as error:
            log.warning("%s", error)

    async def _change_role(self, role: str) -> None:
        """The managers gave this node another role: get the certificate, then live it."""
        async with self._changing:
            if not self.is_member or self.bundle.identity.role == f"swarm-{role}":
                return
            try:
                await self._renew()
            except (JoinError, SecurityError, *DISK_ERRORS) as error:
                log.warning("%s", error)
                return
            if self.bundle.identity.role is Role.MANAGER:
                log.info("promoted to manager")
                self._bring_up()
            else:
                log.info("demoted to worker")
                await self._stop_manager()

    async def _stop_manager(self) -> None:
        managers = self._other_managers()
        if self.manager_role is not None:
            role, self.manager_role = self.manager_role, None
            await role.stop(resign=False)
        self._forget_raft()
        self._set_managers(tuple(managers) or self.state.managers)
        if self._agent is not None:
            self._agent.set_managers(list(self.state.managers))

    def _raft_let_go(self, role: ManagerRole, let_go: LetGo) -> None:
        """Removed from the group. The certificate follows when the managers say so."""
        if let_go.superseded:
            self._spawn(self._after_supersession(role))
        else:
            self._spawn(self._after_removal(role, let_go.reason))

    async def _after_supersession(self, role: ManagerRole) -> None:
        """What this manager has in its log may be what somebody wants back, so nobody but they
        decides that it goes. Its agent goes on, with the new cluster's managers."""
        async with self._changing:
            if self.manager_role is not role:
                return
            self.manager_role = None
            self._is_up.clear()
            self.state = self.folder.change(superseded=True)
            await role.stop(resign=False)
            await self._go_on_as_manager()

    async def _after_removal(self, role: ManagerRole, reason: str) -> None:
        async with self._changing:
            if self.manager_role is not role:
                return
            log.warning("%s", reason)
            await self._stop_manager()
        await self._change_role("worker")
        # Let go for its silence, or not demoted in full yet: then it is refused for a while.
        self._bring_up()

    async def _renew_in_time(self) -> None:
        """Somewhere between 50 and 80 % of the certificate's life (Docker Swarm's rule)."""
        while True:
            due = renewal_time(self.bundle.certificate_pem, random.SystemRandom().random())
            wait_s = (due - datetime.now(UTC)).total_seconds()
            await asyncio.sleep(max(_RETRY_S, wait_s))
            try:
                async with self._changing:
                    await self._renew()
            except (JoinError, SecurityError, *DISK_ERRORS) as error:
                log.warning("%s", error)
                await asyncio.sleep(60)

    async def _renew(self) -> None:
        # This node's own part in the group may be what has just come to its end.
        managers = self._other_managers()
        if self.manager_role is not None:
            managers.append(self._own_addresses().node_address)
        bundle = await renew_certificate(self.bundle, managers)
        self.keys.save(bundle, now=datetime.now(UTC))
        self._bundle = bundle
        self._problems.pop("certificate", None)
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
                self._set_managers(known)
                if self._agent is not None:
                    self._agent.set_managers(list(known))

    # Small

    def _own_addresses(self) -> Addresses:
        return self._addresses(self.state.listen_addr, self.state.advertise_addr)

    def _addresses(self, listen: str, advertise: str) -> Addresses:
        return resolve(listen or self.config.listen_addr, advertise or self.config.advertise_addr)

    def refuse_if_member(self) -> None:
        """NodeError."""
        if self.is_member:
            raise NodeError(
                "This node is already part of a swarm. Use `swarmctl leave` to leave this swarm "
                "and join another one."
            )

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s", task.exception(), exc_info=task.exception())


def _settings_of_agent(config: NodeConfig) -> dict[str, Any]:
    """Those that may change while it runs."""
    return {
        "labels": dict(config.labels),
        "log_level": config.log_level,
        "cpus": config.cpus,
        "memory_bytes": config.memory_bytes,
        "generic_resources": list(config.node_generic_resource),
    }


async def _nothing() -> None:
    """For a part that this node does not have."""


def _why_not_free(addresses: Addresses) -> str:
    try:
        check_free(addresses)
    except ListenError as error:
        return str(error)
    return ""
