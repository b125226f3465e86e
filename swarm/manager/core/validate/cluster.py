"""The cluster object: how a cluster begins, its settings, its join tokens."""

import re

from swarm.api.v1.cluster_pb2 import AdminCertificate, Cluster, ClusterSecrets, ClusterSpec
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, Member, NodeAvailability, NodeDescription
from swarm.api.v1.store_pb2 import Change, Object, Transaction
from swarm.manager.core.store import FEATURE_LEVEL, View
from swarm.manager.core.validate.annotations import check_labels
from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest
from swarm.manager.core.validate.node import new_node

# Docker has one cluster object too, and calls it so.
NAME = "default"
TASK_HISTORY_LIMIT = 5
HEARTBEAT_PERIOD_NS = 1_000_000_000
CERTIFICATE_EXPIRY_NS = 90 * 24 * 3600 * 1_000_000_000
SNAPSHOT_INTERVAL = 10_000

ADMIN_LIFETIME_NS = 365 * 24 * 3600 * 1_000_000_000
# Records that are kept; who needs more certificates than that has no use for a list of them.
ADMIN_CERTIFICATES_MAX = 500

_ADMIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_HEARTBEAT_PERIOD_MIN_NS = 100_000_000
_CERTIFICATE_EXPIRY_MIN_NS = 3600 * 1_000_000_000


def spec_with_defaults(
    *,
    task_history_limit: int = 0,
    heartbeat_period_ns: int = 0,
    certificate_expiry_ns: int = 0,
    snapshot_interval: int = 0,
    max_snapshots: int = 0,
) -> ClusterSpec:
    """A new cluster's settings; what is 0 gets its default. Raises InvalidRequest."""
    spec = ClusterSpec(
        task_history_limit=task_history_limit or TASK_HISTORY_LIMIT,
        heartbeat_period_ns=heartbeat_period_ns,
        certificate_expiry_ns=certificate_expiry_ns,
        snapshot_interval=snapshot_interval,
        max_snapshots=max_snapshots,
    )
    spec.annotations.name = NAME
    _fill_in(spec)
    _check(spec)
    return spec


def bootstrap(
    *,
    cluster_id: str,
    spec: ClusterSpec,
    root_certificate_pem: bytes,
    secrets: ClusterSecrets,
    node_id: str,
    description: NodeDescription,
    availability: NodeAvailability.ValueType,
    address: str,
    member: Member,
    now_ns: int,
) -> Transaction:
    """The first transaction of a cluster: the cluster, its first manager, the group of one."""
    cluster = Cluster(
        id=cluster_id,
        spec=spec,
        root_certificate_pem=root_certificate_pem,
        secrets=secrets,
        incarnation=1,
        feature_level=FEATURE_LEVEL,
    )
    node = new_node(node_id, NODE_ROLE_MANAGER, description, availability, address, now_ns)
    return Transaction(
        who=f"node {node_id}",
        changes=[
            Change(create=Object(cluster=cluster)),
            Change(create=Object(node=node)),
            Change(create=Object(member=member)),
        ],
    )


def update(view: View, version: int, spec: ClusterSpec, now_ns: int, who: str) -> Transaction:
    """New settings, read by the caller at `version`; 0: whatever they are now.

    Raises InvalidRequest.
    """
    del now_ns  # the log entry's time becomes the object's
    cluster = _existing(view)
    if version not in (0, cluster.meta.version):
        raise InvalidRequest(
            "update out of sequence: the cluster was changed meanwhile; read it again and repeat",
            ErrorCode.CONFLICT,
        )
    changed = Cluster()
    changed.CopyFrom(cluster)
    changed.spec.CopyFrom(spec)
    changed.spec.annotations.name = NAME
    _fill_in(changed.spec)
    _check(changed.spec)
    return _replace(cluster, changed, who)


def rotate_tokens(view: View, worker: str, manager: str, who: str) -> Transaction:
    """New join tokens; "" keeps the one there is. Raises InvalidRequest."""
    cluster = _existing(view)
    changed = Cluster()
    changed.CopyFrom(cluster)
    if worker:
        changed.secrets.worker_token = worker
    if manager:
        changed.secrets.manager_token = manager
    return _replace(cluster, changed, who)


def admin_certificate(
    key_id: str, name: str, lifetime_ns: int, now_ns: int, who: str
) -> AdminCertificate:
    """The record of one that is to be issued; 0 is a year. Raises InvalidRequest."""
    if not _ADMIN_NAME.fullmatch(name):
        raise InvalidRequest(
            f"invalid name {name!r} for an administrator: 1 to 64 characters of [A-Za-z0-9_.@-], "
            "the first a letter or a digit"
        )
    lifetime_ns = lifetime_ns or ADMIN_LIFETIME_NS
    if lifetime_ns < _CERTIFICATE_EXPIRY_MIN_NS:
        raise InvalidRequest("a certificate's expiry must be at least 1h")
    return AdminCertificate(
        id=key_id, name=name, who=who, issued_at_ns=now_ns, expires_at_ns=now_ns + lifetime_ns
    )


def note_certificate(view: View, made: AdminCertificate) -> Transaction:
    """Raises InvalidRequest."""
    cluster = _existing(view)
    valid = [
        other
        for other in cluster.admin_certificates
        if other.expires_at_ns > made.issued_at_ns and other.id != made.id
    ]
    changed = Cluster()
    changed.CopyFrom(cluster)
    del changed.admin_certificates[:]
    changed.admin_certificates.extend([*valid, made][-ADMIN_CERTIFICATES_MAX:])
    return _replace(cluster, changed, made.who)


def _replace(cluster: Cluster, changed: Cluster, who: str) -> Transaction:
    change = Change(replace=Object(cluster=changed), expected_version=cluster.meta.version)
    return Transaction(who=who, changes=[change])


def _existing(view: View) -> Cluster:
    cluster = view.cluster()
    if cluster is None:
        raise InvalidRequest("there is no cluster here yet", ErrorCode.FAILED_PRECONDITION)
    return cluster


def _fill_in(spec: ClusterSpec) -> None:
    """Zero is a meaning only for the task history: keep the live task alone."""
    spec.heartbeat_period_ns = spec.heartbeat_period_ns or HEARTBEAT_PERIOD_NS
    spec.certificate_expiry_ns = spec.certificate_expiry_ns or CERTIFICATE_EXPIRY_NS
    spec.snapshot_interval = spec.snapshot_interval or SNAPSHOT_INTERVAL


def _check(spec: ClusterSpec) -> None:
    check_labels("cluster labels", spec.annotations.labels)
    if spec.heartbeat_period_ns < _HEARTBEAT_PERIOD_MIN_NS:
        raise InvalidRequest("dispatcher-heartbeat must be at least 100ms")
    if spec.certificate_expiry_ns < _CERTIFICATE_EXPIRY_MIN_NS:
        raise InvalidRequest("cert-expiry must be at least 1h")
