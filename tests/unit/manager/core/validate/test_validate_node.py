"""Nodes: join, update, demotion that would cost the quorum, removal."""

import pytest

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_DRAIN,
    NODE_ROLE_MANAGER,
    NODE_ROLE_WORKER,
    NODE_STATE_DOWN,
    NODE_STATE_READY,
    Member,
    Node,
    NodeDescription,
    NodeSpec,
)
from swarm.api.v1.store_pb2 import VERDICT_OK, VERDICT_VERSION, LogPayload, Transaction
from swarm.manager.core.store import Draft, Store
from swarm.manager.core.validate import ErrorCode, InvalidRequest, node


def commit(store: Store, *transactions: Transaction) -> list[int]:
    payload = LogPayload(proposed_at_ns=10**18, transactions=transactions)
    return [v.code for v in store.apply(store.applied_index + 1, 1, payload).verdicts]


def swarm(managers: int, workers: int = 1, state: int = NODE_STATE_READY) -> Store:
    store = Store(check_mutation=True)
    draft = Draft(store)
    for n in range(1, managers + workers + 1):
        role = NODE_ROLE_MANAGER if n <= managers else NODE_ROLE_WORKER
        made = Node(id=f"n{n}", role=role, spec=NodeSpec(role=role))
        made.description.hostname = f"host{n}"
        made.status.state = state  # type: ignore[assignment]
        draft.create(made)
        if n <= managers:
            draft.create(Member(id=str(n), raft_id=n, node_id=f"n{n}"))
    commit(store, *draft.transactions())
    return store


def update(store: Store, node_id: str, spec: NodeSpec, reachable: set[int]) -> Transaction:
    found = store.node(node_id)
    assert found is not None
    return node.update(store, node_id, found.meta.version, spec, reachable, 0, "uid 0")


def demote(store: Store, node_id: str, reachable: set[int]) -> Transaction:
    return update(store, node_id, NodeSpec(role=NODE_ROLE_WORKER), reachable)


def test_a_node_joins_with_the_role_of_its_token_once() -> None:
    store = Store(check_mutation=True)
    description = NodeDescription(hostname="h")
    args = ("n1", NODE_ROLE_MANAGER, description, NODE_AVAILABILITY_DRAIN, "10.0.0.1", 5)
    assert commit(store, node.join(store, *args)) == [VERDICT_OK]
    joined = store.node("n1")
    assert joined is not None
    assert joined.role == joined.spec.role == NODE_ROLE_MANAGER
    assert joined.spec.availability == NODE_AVAILABILITY_DRAIN
    assert (joined.status.address, joined.status.changed_at_ns) == ("10.0.0.1", 5)
    assert commit(store, node.join(store, *args)) == [VERDICT_OK]
    assert store.revision == 1


def test_update_changes_what_a_user_may_set() -> None:
    store = swarm(1)
    spec = NodeSpec(role=NODE_ROLE_WORKER, availability=NODE_AVAILABILITY_DRAIN)
    spec.annotations.labels["zone"] = "north"
    assert commit(store, update(store, "n2", spec, set())) == [VERDICT_OK]
    changed = store.node("n2")
    assert changed is not None
    assert (changed.spec, changed.description.hostname) == (spec, "host2")


def test_a_promotion_is_wanted_first_and_takes_effect_later() -> None:
    store = swarm(1)
    promoted = update(store, "n2", NodeSpec(role=NODE_ROLE_MANAGER), set())
    assert commit(store, promoted) == [VERDICT_OK]
    changed = store.node("n2")
    assert changed is not None
    assert (changed.spec.role, changed.role) == (NODE_ROLE_MANAGER, NODE_ROLE_WORKER)


def test_an_update_of_an_older_version_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="update out of sequence") as refused:
        node.update(swarm(1), "n2", 99, NodeSpec(), set(), 0, "x")
    assert refused.value.code is ErrorCode.CONFLICT
    with pytest.raises(InvalidRequest, match="a label has no key"):
        update(swarm(1), "n2", NodeSpec(annotations={"labels": {"": "x"}}), set())  # type: ignore[arg-type]


def test_the_last_manager_stays() -> None:
    with pytest.raises(InvalidRequest, match="the last manager of the swarm") as refused:
        demote(swarm(1), "n1", {1})
    assert refused.value.code is ErrorCode.FAILED_PRECONDITION


def test_of_two_managers_one_stays_though_both_are_demoted_at_once() -> None:
    store = swarm(2)
    assert commit(store, demote(store, "n1", {1, 2})) == [VERDICT_OK]
    with pytest.raises(InvalidRequest, match="the last manager of the swarm"):
        demote(store, "n2", {1, 2})


@pytest.mark.parametrize(
    ("managers", "demoted", "reachable", "good"),
    [
        (3, "n1", {1, 2, 3}, True),
        (3, "n1", {1, 2}, False),
        (3, "n3", {1, 2}, True),
        (2, "n1", {1}, False),
        (5, "n1", {1, 2, 3, 4}, True),
        (5, "n1", {1, 2, 3}, False),
        (5, "n5", set(), False),
    ],
)
def test_a_demotion_keeps_the_quorum(
    managers: int, demoted: str, reachable: set[int], good: bool
) -> None:
    store = swarm(managers)
    if good:
        assert commit(store, demote(store, demoted, reachable)) == [VERDICT_OK]
    else:
        with pytest.raises(InvalidRequest, match="loss of quorum") as refused:
            demote(store, demoted, reachable)
        assert refused.value.code is ErrorCode.FAILED_PRECONDITION


def test_a_member_must_be_demoted_before_it_is_removed() -> None:
    for force in (False, True):
        with pytest.raises(InvalidRequest, match="must be demoted to worker") as refused:
            node.remove(swarm(2, state=NODE_STATE_DOWN), "n1", force, "x")
        assert refused.value.code is ErrorCode.FAILED_PRECONDITION


def test_a_node_that_is_ready_is_removed_by_force_alone() -> None:
    store = swarm(1)
    with pytest.raises(InvalidRequest, match="host2 is not down and can't be removed"):
        node.remove(store, "n2", False, "x")
    assert commit(store, node.remove(store, "n2", True, "x")) == [VERDICT_OK]
    assert store.node("n2") is None
    with pytest.raises(InvalidRequest, match="node n2 not found"):
        node.remove(store, "n2", True, "x")


def test_a_node_that_comes_back_meanwhile_is_not_removed() -> None:
    store = swarm(1, state=NODE_STATE_DOWN)
    removal = node.remove(store, "n2", False, "x")
    back = Draft(store)
    returned = Node()
    found = store.node("n2")
    assert found is not None
    returned.CopyFrom(found)
    returned.status.state = NODE_STATE_READY
    back.replace(returned)
    assert commit(store, *back.transactions(), removal) == [VERDICT_OK, VERDICT_VERSION]
