"""A new cluster: its root, its first manager's certificate, and the store it begins with.

The store is written as a snapshot at index 1 that names this manager as the only member. What
makes the node a member of a cluster, node.json, is written last, by the caller.
"""

import secrets
import shutil
import time
from datetime import UTC, datetime, timedelta

from swarm.api.v1.cluster_pb2 import ClusterSecrets
from swarm.api.v1.daemon_pb2 import InitRequest
from swarm.api.v1.node_pb2 import Member
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.store_pb2 import VERDICT_OK, LogPayload
from swarm.manager.core.store import RandomIds, Store
from swarm.manager.core.validate import cluster
from swarm.manager.raft_disk import RaftDisk
from swarm.node.addresses import Addresses
from swarm.node.config import NodeConfig
from swarm.node.description import describe
from swarm.node.state import NodeState, StateFolder
from swarm.security.certificates import (
    NODE_LIFETIME,
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
    raft_id = secrets.randbits(63) | 1
    transaction = cluster.bootstrap(
        cluster_id=cluster_id,
        spec=cluster.spec_with_defaults(
            task_history_limit=request.task_history_limit,
            heartbeat_period_ns=request.heartbeat_period_ns,
            certificate_expiry_ns=request.certificate_expiry_ns,
            snapshot_interval=request.snapshot_interval,
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
        member=Member(
            id=str(raft_id),
            raft_id=raft_id,
            node_id=node_id,
            address=addresses.node_address,
            join_address=addresses.join_address,
        ),
        now_ns=time.time_ns(),
    )
    store = Store()
    payload = LogPayload(proposed_at_ns=time.time_ns(), transactions=[transaction])
    (verdict,) = store.apply(1, 1, payload).verdicts
    assert verdict.code == VERDICT_OK, verdict.message
    conf_state = ConfState(voters=[raft_id])
    # What an init that was cut off left behind is of no cluster.
    shutil.rmtree(folder.raft, ignore_errors=True)
    RaftDisk.create(folder.raft, conf_state, store.snapshot(1, 1, conf_state))
    lifetime_ns = request.certificate_expiry_ns
    certificate = issue_node_certificate(
        root,
        keys.csr_pem,
        node_id=node_id,
        cluster_id=cluster_id,
        role=Role.MANAGER,
        now=now,
        lifetime=timedelta(microseconds=lifetime_ns / 1e3) if lifetime_ns else NODE_LIFETIME,
    )
    bundle = NodeBundle(keys.key_pem, certificate, root.certificate_pem)
    NodeKeys(config.state_dir).save(bundle, now=now)
    state = NodeState(
        cluster_id=cluster_id,
        node_id=node_id,
        listen_addr=request.listen_address or config.listen_addr,
        advertise_addr=request.advertise_address or config.advertise_addr,
        raft_id=raft_id,
        managers=(addresses.node_address,),
    )
    return state, bundle
