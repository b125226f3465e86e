"""The cluster: Swarm, its spec, and Info's part about it."""

from __future__ import annotations

from collections.abc import Mapping

from swarm.api.v1.cluster_pb2 import Cluster, ClusterSpec
from swarm.api.v1.control_pb2 import ClusterView
from swarm.api.v1.daemon_pb2 import InfoResponse
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER
from swarm.api.v1.types_pb2 import Annotations
from swarm.dockerapi.json_values import (
    Json,
    get_bool,
    get_int,
    get_map,
    get_object,
    get_text,
    meta_to_json,
    refuse,
)
from swarm.dockerapi.words import LOCAL_NODE_STATE


def cluster_to_json(cluster: Cluster, tls_info: Json | None = None) -> Json:
    """ClusterInfo: Swarm without its join tokens. `tls_info`: see `tls.tls_info_to_json`."""
    shown: Json = {"ID": cluster.id} | meta_to_json(cluster.meta)
    return shown | {
        "Spec": cluster_spec_to_json(cluster.spec),
        "TLSInfo": tls_info or {},
        "RootRotationInProgress": False,
    }


def cluster_spec_to_json(spec: ClusterSpec) -> Json:
    return {
        "Name": spec.annotations.name,
        "Labels": dict(spec.annotations.labels),
        "Orchestration": {"TaskHistoryRetentionLimit": spec.task_history_limit},
        "Raft": {
            "SnapshotInterval": spec.snapshot_interval,
            "KeepOldSnapshots": spec.max_snapshots,
        },
        "Dispatcher": {"HeartbeatPeriod": spec.heartbeat_period_ns},
        "CAConfig": {"NodeCertExpiry": spec.certificate_expiry_ns},
        "TaskDefaults": {},
        "EncryptionConfig": {"AutoLockManagers": False},
    }


def cluster_spec_from_json(source: Json) -> ClusterSpec:
    """Raises ApiError."""
    orchestration = get_object(source, "Orchestration") or {}
    raft = get_object(source, "Raft") or {}
    dispatcher = get_object(source, "Dispatcher") or {}
    ca = get_object(source, "CAConfig") or {}
    refuse(ca, ("ExternalCAs", "SigningCACert", "SigningCAKey", "ForceRotate"))
    refuse(get_object(source, "TaskDefaults") or {}, ("LogDriver",))
    encryption = get_object(source, "EncryptionConfig") or {}
    if get_bool(encryption, "AutoLockManagers"):
        refuse(encryption, ("AutoLockManagers",))
    return ClusterSpec(
        annotations=Annotations(name=get_text(source, "Name"), labels=get_map(source, "Labels")),
        task_history_limit=get_int(orchestration, "TaskHistoryRetentionLimit", low=-(2**63)),
        heartbeat_period_ns=get_int(dispatcher, "HeartbeatPeriod"),
        certificate_expiry_ns=get_int(ca, "NodeCertExpiry"),
        snapshot_interval=get_int(raft, "SnapshotInterval"),
        max_snapshots=get_int(raft, "KeepOldSnapshots"),
    )


def info_to_json(
    info: InfoResponse,
    view: ClusterView | None = None,
    managers: Mapping[str, str] | None = None,
    tls_info: Json | None = None,
) -> Json:
    """`Swarm` of `docker info`. `managers`: node id to address; `view` where this node can ask."""
    peers = [{"NodeID": node, "Addr": address} for node, address in (managers or {}).items()]
    if not peers:
        peers = [{"NodeID": "", "Addr": address} for address in info.manager_addresses]
    shown: Json = {
        "NodeID": info.node_id,
        "NodeAddr": info.node_address,
        "LocalNodeState": LOCAL_NODE_STATE.word(info.state),
        "ControlAvailable": bool(info.node_id) and info.role == NODE_ROLE_MANAGER,
        "Error": info.error,
        "RemoteManagers": peers or None,
    }
    if view is not None:
        shown |= {"Nodes": view.nodes, "Managers": view.managers}
        shown["Cluster"] = cluster_to_json(view.cluster, tls_info)
    return shown
