"""The cluster object: how it begins, what may be set, tokens that are replaced."""

import pytest

from swarm.api.v1.cluster_pb2 import ClusterSecrets, ClusterSpec
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, Member, NodeDescription
from swarm.api.v1.store_pb2 import LogPayload, Transaction
from swarm.manager.core.store import Store
from swarm.manager.core.validate import ErrorCode, InvalidRequest, cluster

HOUR_NS = 3600 * 10**9


def commit(store: Store, transaction: Transaction) -> None:
    payload = LogPayload(proposed_at_ns=10**18, transactions=[transaction])
    (verdict,) = store.apply(store.applied_index + 1, 1, payload).verdicts
    assert not verdict.code, verdict.message


@pytest.fixture
def store() -> Store:
    store = Store(check_mutation=True)
    transaction = cluster.bootstrap(
        cluster_id="c",
        spec=cluster.spec_with_defaults(heartbeat_period_ns=2 * 10**9),
        root_certificate_pem=b"root",
        secrets=ClusterSecrets(worker_token="w", manager_token="m"),
        node_id="n1",
        description=NodeDescription(hostname="h"),
        availability=0,  # type: ignore[arg-type]
        address="10.0.0.1",
        member=Member(id="7", raft_id=7, node_id="n1"),
        now_ns=5,
    )
    commit(store, transaction)
    return store


def test_a_cluster_begins_with_one_manager(store: Store) -> None:
    made, node, member = store.cluster(), store.node("n1"), store.member(7)
    assert made is not None
    assert node is not None
    assert member is not None
    assert (made.id, made.spec.annotations.name, made.incarnation) == ("c", "default", 1)
    assert (made.spec.task_history_limit, made.spec.snapshot_interval) == (5, 10_000)
    assert made.spec.heartbeat_period_ns == 2 * 10**9
    assert made.spec.certificate_expiry_ns == 90 * 24 * HOUR_NS
    assert node.role == node.spec.role == NODE_ROLE_MANAGER


def test_settings_are_updated_and_the_rest_stays(store: Store) -> None:
    spec = ClusterSpec(task_history_limit=0, certificate_expiry_ns=HOUR_NS)
    commit(store, cluster.update(store, 0, spec, 0, "x"))
    changed = store.cluster()
    assert changed is not None
    assert (changed.spec.task_history_limit, changed.spec.heartbeat_period_ns) == (0, 10**9)
    assert (changed.spec.annotations.name, changed.secrets.worker_token) == ("default", "w")
    with pytest.raises(InvalidRequest, match="update out of sequence") as refused:
        cluster.update(store, 1, spec, 0, "x")
    assert refused.value.code is ErrorCode.CONFLICT


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (ClusterSpec(heartbeat_period_ns=10**8 - 1), "at least 100ms"),
        (ClusterSpec(heartbeat_period_ns=-1), "at least 100ms"),
        (ClusterSpec(certificate_expiry_ns=HOUR_NS - 1), "at least 1h"),
    ],
)
def test_settings_that_can_not_be(store: Store, spec: ClusterSpec, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        cluster.update(store, 0, spec, 0, "x")
    with pytest.raises(InvalidRequest, match=why):
        cluster.spec_with_defaults(
            heartbeat_period_ns=spec.heartbeat_period_ns,
            certificate_expiry_ns=spec.certificate_expiry_ns,
        )


def test_one_token_is_replaced(store: Store) -> None:
    commit(store, cluster.rotate_tokens(store, "new", "", "x"))
    changed = store.cluster()
    assert changed is not None
    assert (changed.secrets.worker_token, changed.secrets.manager_token) == ("new", "m")


def test_without_a_cluster() -> None:
    with pytest.raises(InvalidRequest, match="no cluster here yet"):
        cluster.rotate_tokens(Store(), "a", "b", "x")
