"""How a cluster begins: empty, from a backup, or from what a manager without a quorum has left.

The store is written as a snapshot that names this manager as the only member. What makes the node
a member of a cluster, node.json, is written last, by the caller.
"""

import asyncio
import secrets
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta

from swarm.api.v1.cluster_pb2 import ClusterSecrets
from swarm.api.v1.daemon_pb2 import InitRequest, RestoreSettings
from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_ACTIVE, NODE_ROLE_MANAGER, Member
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.store_pb2 import VERDICT_OK, LogPayload, SnapshotHeader
from swarm.manager.core import recovery
from swarm.manager.core.recovery import NewCluster, NothingToRecover
from swarm.manager.core.store import RandomIds, Store
from swarm.manager.core.validate import cluster
from swarm.manager.core.validate.node import new_node
from swarm.manager.raft_disk import Opened, RaftDisk
from swarm.node.addresses import Addresses
from swarm.node.config import NodeConfig
from swarm.node.description import describe
from swarm.node.state import NodeState, StateFolder
from swarm.security.certificates import (
    NODE_LIFETIME,
    KeyPair,
    Request,
    create_request,
    create_root,
    issue_node_certificate,
    node_id_of,
)
from swarm.security.node_keys import NodeBundle, NodeKeys
from swarm.security.roles import Role
from swarm.security.tokens import generate_token


def create_cluster(
    config: NodeConfig, folder: StateFolder, addresses: Addresses, request: InitRequest
) -> tuple[NodeState, NodeBundle]:
    """InvalidRequest for impossible settings; disk errors."""
    now = datetime.now(UTC)
    cluster_id = RandomIds(secrets.randbits).new()
    root = create_root(cluster_id, now=now)
    keys = create_request()
    node_id = node_id_of(keys.csr_pem)
    raft_id = new_raft_id()
    transaction = cluster.bootstrap(
        cluster_id=cluster_id,
        spec=cluster.spec_with_defaults(
            task_history_limit=request.task_history_limit,
            heartbeat_period_ns=request.heartbeat_period_ns,
            certificate_expiry_ns=request.certificate_expiry_ns,
            snapshot_interval=request.snapshot_interval,
            max_snapshots=request.max_snapshots,
        ),
        root_certificate_pem=root.certificate_pem,
        secrets=ClusterSecrets(
            root_key_pem=root.key_pem,
            worker_token=generate_token(root.certificate_pem),
            manager_token=generate_token(root.certificate_pem),
        ),
        node_id=node_id,
        description=describe(config),
        availability=request.availability,
        address=addresses.advertise_host,
        member=member_of(node_id, raft_id, addresses),
        now_ns=time.time_ns(),
    )
    store = Store()
    payload = LogPayload(proposed_at_ns=time.time_ns(), transactions=[transaction])
    (verdict,) = store.apply(1, 1, payload).verdicts
    assert verdict.code == VERDICT_OK, verdict.message
    conf_state = ConfState(voters=[raft_id])
    _begin_log(folder, NewCluster(1, 1, conf_state, store.snapshot(1, 1, conf_state)))
    bundle = _first_bundle(config, root, keys, cluster_id, request.certificate_expiry_ns, now)
    return _first_state(config, addresses, request, bundle, raft_id), bundle


def restore_cluster(
    config: NodeConfig,
    folder: StateFolder,
    addresses: Addresses,
    request: RestoreSettings,
    store: Store,
    position: SnapshotHeader,
) -> tuple[NodeState, NodeBundle]:
    """A backup's store as a new cluster of the same name, with a new node of this machine's as
    its only manager. `position`: of the log that it was taken from. NothingToRecover,
    SecurityError; disk errors."""
    now, now_ns = datetime.now(UTC), time.time_ns()
    old = store.cluster()
    if old is None:
        raise NothingToRecover("it holds no swarm")
    root = KeyPair(old.root_certificate_pem, old.secrets.root_key_pem)
    keys = create_request()
    node_id = node_id_of(keys.csr_pem)
    raft_id = new_raft_id()
    node = new_node(
        node_id,
        NODE_ROLE_MANAGER,
        describe(config),
        NODE_AVAILABILITY_ACTIVE,
        addresses.advertise_host,
        now_ns,
    )
    beginning = recovery.new_cluster(
        store,
        index=position.index,
        term=position.term,
        member=member_of(node_id, raft_id, addresses),
        node=node,
        now_ns=now_ns,
    )
    _begin_log(folder, beginning)
    expiry_ns = old.spec.certificate_expiry_ns
    bundle = _first_bundle(config, root, keys, old.id, expiry_ns, now)
    return _first_state(config, addresses, request, bundle, raft_id), bundle


async def begin_anew(
    folder: StateFolder, node_id: str, raft_id: int, addresses: Addresses, config: NodeConfig
) -> None:
    """What this manager's log holds becomes that of a new cluster with it as the only member,
    under `raft_id`. Done again, it changes nothing. NothingToRecover; disk errors."""
    opened = await asyncio.to_thread(RaftDisk.open, folder.raft)
    try:
        await asyncio.to_thread(_begin_anew, opened, node_id, raft_id, addresses, config)
    finally:
        await opened.disk.close()


def _begin_anew(
    opened: Opened, node_id: str, raft_id: int, addresses: Addresses, config: NodeConfig
) -> None:
    storage, store = opened.storage, opened.store
    hard_state, conf_state = storage.initial_state()
    if raft_id in conf_state.voters:
        return
    last = storage.last_index()
    entries = storage.entries(storage.first_index(), last + 1, sys.maxsize)
    recovery.apply_all(store, conf_state, entries)
    now_ns = time.time_ns()
    node = new_node(
        node_id,
        NODE_ROLE_MANAGER,
        describe(config),
        NODE_AVAILABILITY_ACTIVE,
        addresses.advertise_host,
        now_ns,
    )
    beginning = recovery.new_cluster(
        store,
        index=last,
        term=max(hard_state.term, storage.term(last)),
        member=member_of(node_id, raft_id, addresses),
        node=node,
        now_ns=now_ns,
    )
    opened.disk.begin_anew(beginning)


def new_raft_id() -> int:
    return secrets.randbits(63) | 1


def member_of(node_id: str, raft_id: int, addresses: Addresses) -> Member:
    return Member(
        id=str(raft_id),
        raft_id=raft_id,
        node_id=node_id,
        address=addresses.node_address,
        join_address=addresses.join_address,
    )


def _begin_log(folder: StateFolder, beginning: NewCluster) -> None:
    # What an init that was cut off left behind is of no cluster.
    shutil.rmtree(folder.raft, ignore_errors=True)
    RaftDisk.create(folder.raft, beginning)


def _first_bundle(
    config: NodeConfig,
    root: KeyPair,
    keys: Request,
    cluster_id: str,
    lifetime_ns: int,
    now: datetime,
) -> NodeBundle:
    certificate = issue_node_certificate(
        root,
        keys.csr_pem,
        node_id=node_id_of(keys.csr_pem),
        cluster_id=cluster_id,
        role=Role.MANAGER,
        now=now,
        lifetime=timedelta(microseconds=lifetime_ns / 1e3) if lifetime_ns else NODE_LIFETIME,
    )
    bundle = NodeBundle(keys.key_pem, certificate, root.certificate_pem)
    NodeKeys(config.state_dir).save(bundle, now=now)
    return bundle


def _first_state(
    config: NodeConfig,
    addresses: Addresses,
    request: InitRequest | RestoreSettings,
    bundle: NodeBundle,
    raft_id: int,
) -> NodeState:
    return NodeState(
        cluster_id=bundle.identity.cluster_id,
        node_id=bundle.identity.node_id,
        listen_addr=request.listen_address or config.listen_addr,
        advertise_addr=request.advertise_address or config.advertise_addr,
        raft_id=raft_id,
        managers=(addresses.node_address,),
    )
