"""A node's part as a manager: Raft, the API and the two listeners, started and stopped as one."""

import asyncio
import logging
import os
import random
import secrets
from collections.abc import Callable, Sequence

import grpc.aio

from swarm.api.v1.daemon_pb2_grpc import DaemonServicer
from swarm.api.v1.node_pb2 import Member
from swarm.manager.api.authorization import check_certificates, check_nothing
from swarm.manager.api.control import ControlApi
from swarm.manager.api.dispatcher import DispatcherApi
from swarm.manager.api.forwarding import Forwarding
from swarm.manager.api.interceptor import Interceptor
from swarm.manager.api.join import CertificatesApi, JoinApi
from swarm.manager.api.managers import ManagersApi
from swarm.manager.api.raft import RaftApi
from swarm.manager.core.consensus import Timing
from swarm.manager.core.manager import ManagerCore
from swarm.manager.core.store import RandomIds
from swarm.manager.image_nodes import ImageNodes
from swarm.manager.logs import LogBroker
from swarm.manager.manager import LetGo, Manager
from swarm.manager.raft_disk import RaftDisk
from swarm.node.addresses import Addresses
from swarm.node.config import NodeConfig
from swarm.node.listeners import (
    CHANNEL_OPTIONS,
    check_free,
    serve_join_port,
    serve_node_port,
)
from swarm.node.state import StateFolder
from swarm.security.node_keys import NodeBundle
from swarm.security.roles import Caller
from swarm.security.tls import (
    join_channel,
    join_server_credentials,
    manager_channel,
    node_server_credentials,
)

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 2.0


class ManagerRole:
    """`bundle()` gives the node's certificate of now. `stopped(let_go)` is called when this
    manager is one no longer. `daemon` tells administrators what this node is."""

    def __init__(
        self,
        config: NodeConfig,
        folder: StateFolder,
        addresses: Addresses,
        raft_id: int,
        bundle: Callable[[], NodeBundle],
        stopped: Callable[[LetGo], None],
        daemon: DaemonServicer | None = None,
    ) -> None:
        self._addresses = addresses
        self._daemon = daemon
        self._bundle = bundle
        opened = RaftDisk.open(folder.raft)
        # Nothing was ever written under this raft id: no vote, no entry, no snapshot.
        self.is_blank = opened.storage.last_index() == 0
        core = ManagerCore(
            raft_id=raft_id,
            storage=opened.storage,
            store=opened.store,
            rng=random.SystemRandom(),
            ids=RandomIds(secrets.randbits),
            nonce=os.urandom(8),
            timing=Timing(config.heartbeat_ticks, config.election_ticks),
        )
        self.manager = Manager(
            core, opened.disk, addresses.node_address, self._open_channel, stopped, _die
        )
        self.forwarding = Forwarding(self.manager, self._open_channel)
        self._logs = LogBroker(self.manager, self._open_channel)
        self._image_nodes = ImageNodes(self.manager, self._open_channel)
        self.control = ControlApi(self.manager, self.forwarding, self._logs, self._image_nodes)
        self._servers: list[grpc.aio.Server] = []

    async def start(self, known_members: Sequence[Member] = ()) -> None:
        """ListenError, and then it is closed. `known_members`: whom to answer before the log says
        who is who."""
        try:
            await asyncio.to_thread(check_free, self._addresses)
            await self._listen()
        except BaseException:
            await self.close()
            raise
        await self.manager.start(known_members)

    async def close(self) -> None:
        """Give up what was opened, where it was not started."""
        await self._stop_servers()
        await self.manager.disk.close()

    async def _listen(self) -> None:
        interceptor = Interceptor(check_certificates(self._cluster_id, self._refuse))
        join_api = JoinApi(self.manager, self.forwarding)
        join_api.open_join_channel = self._open_join_channel
        self._servers.append(
            await serve_node_port(
                self._addresses,
                node_server_credentials(self._bundle),
                interceptor,
                raft=RaftApi(self.manager),
                managers=ManagersApi(self.manager, self._logs),
                dispatcher=DispatcherApi(self.manager, self._logs, self._image_nodes),
                certificates=CertificatesApi(self.manager),
                control=self.control,
                daemon=self._daemon,
            )
        )
        self._servers.append(
            await serve_join_port(
                self._addresses,
                join_server_credentials(self._bundle),
                Interceptor(check_nothing),
                join_api,
            )
        )

    async def stop(self, *, resign: bool = True) -> None:
        if resign:
            await self.manager.resign()
        await self.manager.stop()
        await self._stop_servers()
        await self.forwarding.close()

    @property
    def has_quorum(self) -> bool:
        """Whether this manager is one of several, and they have a leader."""
        voters = [m for m in self.manager.store.members() if not m.removed and not m.learner]
        return len(voters) > 1 and bool(self.manager.core.leader)

    def renewed(self) -> None:
        """The node has a new certificate: new connections with it from now on."""
        self.manager.reconnect()
        self.forwarding.reconnect()

    def manager_addresses(self) -> list[str]:
        """Of all managers that are voters, this one first."""
        members = [m for m in self.manager.store.members() if not m.removed and not m.learner]
        members.sort(key=lambda m: m.raft_id != self.manager.core.raft_id)
        return [m.address for m in members]

    async def _stop_servers(self) -> None:
        servers, self._servers = self._servers, []
        await asyncio.gather(*(server.stop(0.2) for server in servers))

    def _open_channel(self, address: str) -> grpc.aio.Channel:
        return manager_channel(address, self._bundle(), CHANNEL_OPTIONS)

    def _open_join_channel(self, address: str) -> grpc.aio.Channel:
        return join_channel(address, self._bundle().root_pem, CHANNEL_OPTIONS)

    def _cluster_id(self) -> str:
        return self._bundle().identity.cluster_id

    async def _refuse(self, caller: Caller) -> str:
        """A node that was removed has a certificate in order for a while yet. One that has just
        joined may be news to a follower: it looks again when it knows what the leader knew."""
        if not self._is_unknown(caller):
            return ""
        await self.manager.read(_LOOK_AGAIN_S)
        if not self._is_unknown(caller):
            return ""
        return (
            "this node was removed from the swarm: `swarmctl leave --force` on it, "
            "then join it again with a token"
        )

    def _is_unknown(self, caller: Caller) -> bool:
        store = self.manager.store
        return (
            bool(caller.node_id)
            and store.cluster() is not None
            and (store.node(caller.node_id) is None)
        )


def _die(reason: str) -> None:
    """Raft's log or the core can't be trusted any more: end at once, answer nobody. Everything
    acknowledged is on the disks of a quorum."""
    log.critical("%s; this manager ends now", reason)
    logging.shutdown()
    os._exit(70)
