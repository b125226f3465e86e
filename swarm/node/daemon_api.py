"""The unix socket: this node's own affairs, and the control API as far as this node has it."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.daemon_pb2 import (
    LOCAL_NODE_STATE_ACTIVE,
    LOCAL_NODE_STATE_ERROR,
    LOCAL_NODE_STATE_INACTIVE,
    LOCAL_NODE_STATE_PENDING,
    InfoRequest,
    InfoResponse,
    InitRequest,
    InitResponse,
    JoinRequest,
    JoinResponse,
    LeaveRequest,
    LeaveResponse,
    RestoreRequest,
    RestoreResponse,
)
from swarm.api.v1.daemon_pb2_grpc import DaemonServicer
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_ROLE_WORKER
from swarm.disk import CorruptFileError, FatalDiskError, NoSpaceError
from swarm.manager.api.authorization import CONTROL_METHODS, STREAMED_METHODS
from swarm.manager.api.interceptor import Context
from swarm.manager.backup import BackupError, BackupReader
from swarm.manager.core.recovery import NothingToRecover
from swarm.manager.core.validate import ErrorCode, InvalidRequest
from swarm.node.addresses import AddressError
from swarm.node.joining import JoinError
from swarm.node.listeners import ListenError
from swarm.node.node import Node, NodeError
from swarm.node.state import StateError
from swarm.security.roles import Role
from swarm.version import VERSION

log = logging.getLogger(__name__)

_SPOKEN = (
    BackupError,
    NothingToRecover,
    NodeError,
    JoinError,
    AddressError,
    ListenError,
    NoSpaceError,
    FatalDiskError,
    CorruptFileError,
    StateError,
    OSError,
)

NOT_A_MANAGER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. "
    "Please run this command on a manager node or promote the current node to a manager."
)
NOT_IN_A_SWARM = (
    "This node is not a swarm manager. Use `swarmctl init` or `swarmctl join` to connect this "
    "node to swarm and try again."
)


class DaemonApi(DaemonServicer):
    def __init__(self, node: Node) -> None:
        self._node = node

    async def Init(self, request: InitRequest, context: Context) -> InitResponse:  # type: ignore[override]
        with _said_in_a_line():
            await self._node.init(request)
        cluster = await self._cluster()
        return InitResponse(
            node_id=self._node.state.node_id,
            worker_token=cluster.secrets.worker_token,
            manager_token=cluster.secrets.manager_token,
            join_address=self._join_address(),
        )

    async def _cluster(self) -> Cluster:
        """Once this first manager leads."""
        role = self._node.manager_role
        assert role is not None
        await role.manager.read(10.0)
        cluster = role.manager.store.cluster()
        assert cluster is not None
        return cluster

    def _join_address(self) -> str:
        role = self._node.manager_role
        assert role is not None
        member = role.manager.store.member(self._node.state.raft_id)
        return member.join_address if member is not None else ""

    async def Restore(  # type: ignore[override]
        self, request_iterator: AsyncIterator[RestoreRequest], context: Context
    ) -> RestoreResponse:
        node = self._node
        settings = (await anext(aiter(request_iterator))).settings
        with _said_in_a_line():
            node.refuse_if_member()
            opener = BackupReader(settings.passphrase)
            async for request in request_iterator:
                await asyncio.to_thread(opener.feed, request.data)
            backup = opener.finish()
            await node.restore(settings, backup.store, backup.header)
        cluster = await self._cluster()
        role = node.manager_role
        assert role is not None
        store = role.manager.store
        return RestoreResponse(
            node_id=node.state.node_id,
            cluster_id=cluster.id,
            join_address=self._join_address(),
            services=len(store.services()),
            nodes=len(store.nodes()),
            revision=backup.header.revision,
        )

    async def Join(self, request: JoinRequest, context: Context) -> JoinResponse:  # type: ignore[override]
        with _said_in_a_line():
            await self._node.join(request)
        is_manager = self._node.bundle.identity.role is Role.MANAGER
        return JoinResponse(
            node_id=self._node.state.node_id,
            role=NODE_ROLE_MANAGER if is_manager else NODE_ROLE_WORKER,
        )

    async def Leave(self, request: LeaveRequest, context: Context) -> LeaveResponse:  # type: ignore[override]
        with _said_in_a_line():
            await self._node.leave(force=request.force)
        return LeaveResponse()

    async def Info(self, request: InfoRequest, context: Context) -> InfoResponse:  # type: ignore[override]
        node = self._node
        info = InfoResponse(
            state=LOCAL_NODE_STATE_INACTIVE,
            hostname=node.config.hostname,
            state_dir=str(node.config.state_dir),
            version=VERSION,
            runtime=node.runtime or ("" if node.runtime_reason else node.config.runtime),
            runtime_reason=node.runtime_reason,
            error=node.problem,
            pid=os.getpid(),
        )
        if not node.is_member:
            return info
        info.node_id, info.cluster_id = node.state.node_id, node.state.cluster_id
        info.node_address = node.advertise_host
        info.manager_addresses.extend(node.state.managers)
        info.state = LOCAL_NODE_STATE_ACTIVE
        if node.bundle.identity.role is Role.MANAGER:
            info.role = NODE_ROLE_MANAGER
            if node.manager_role is None:
                lost = node.needs_help
                info.state = LOCAL_NODE_STATE_ERROR if lost else LOCAL_NODE_STATE_PENDING
            else:
                info.raft_id = node.state.raft_id
                info.leader_raft_id = node.manager_role.manager.core.leader
        elif node.problem:
            info.state = LOCAL_NODE_STATE_ERROR
        return info


class ControlOnSocket:
    """The control API where this node is a manager; else the word on what to do instead."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Any:
        if name not in CONTROL_METHODS:
            raise AttributeError(name)
        return self._streamed(name) if name in STREAMED_METHODS else self._single(name)

    def _single(self, name: str) -> Any:
        async def call(request: Any, context: Context) -> Any:
            return await getattr(self._control(), name)(request, context)

        return call

    def _streamed(self, name: str) -> Any:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            async for answer in getattr(self._control(), name)(request, context):
                yield answer

        return call

    def _control(self) -> Any:
        role = self._node.manager_role
        if role is None:
            reason = NOT_A_MANAGER if self._node.is_member else NOT_IN_A_SWARM
            raise InvalidRequest(reason, ErrorCode.FAILED_PRECONDITION)
        return role.control


class _said_in_a_line:  # noqa: N801 - reads as a statement where it is used
    """This node's own errors become a status with their one line."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, _SPOKEN):
            raise InvalidRequest(str(error), ErrorCode.FAILED_PRECONDITION) from error
