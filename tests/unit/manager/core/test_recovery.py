"""A new cluster out of a store and a log: what stays, what is raised, who is a member."""

import pytest

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.node_pb2 import (
    NODE_ROLE_MANAGER,
    NODE_ROLE_WORKER,
    NODE_STATE_READY,
    Member,
    Node,
    NodeSpec,
    NodeStatus,
)
from swarm.api.v1.raft_pb2 import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    ENTRY_CONF_CHANGE,
    ConfChange,
    ConfChangeSingle,
    ConfState,
    Entry,
)
from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.store_pb2 import (
    TABLE_CLUSTER,
    TABLE_MEMBER,
    TABLE_NODE,
    Change,
    LogPayload,
    MemberChange,
    Transaction,
)
from swarm.manager.core.raft.confchange import conf_state_after
from swarm.manager.core.recovery import NewCluster, NothingToRecover, apply_all, new_cluster
from swarm.manager.core.store import Store, StoreObject, wrap
from swarm.manager.core.store.objects import TABLES

NOW_NS = 1_800_000_000 * 10**9
GROUP = ConfState(voters=[1, 2])


def a_node(name: str, role: int = NODE_ROLE_MANAGER) -> Node:
    spec = NodeSpec(role=role)  # type: ignore[arg-type]
    status = NodeStatus(state=NODE_STATE_READY)
    return Node(id=name, spec=spec, role=role, status=status)  # type: ignore[arg-type]


def a_member(raft_id: int, name: str, learner: bool = False) -> Member:
    return Member(
        id=str(raft_id), raft_id=raft_id, node_id=name, address=f"{name}:2378", learner=learner
    )


def begun() -> Store:
    """Two managers and a worker, with snapshots at index 1."""
    rows: list[StoreObject] = [
        Cluster(id="c", incarnation=4),
        a_node("a"),
        a_node("b"),
        a_node("w", NODE_ROLE_WORKER),
        a_member(1, "a"),
        a_member(2, "b"),
    ]
    store = Store(check_mutation=True)
    changes = [Change(create=wrap(row)) for row in rows]
    store.apply(1, 1, LogPayload(transactions=[Transaction(changes=changes)]))
    return store


def normal(index: int, *rows: StoreObject, expected: int = 0, term: int = 2) -> Entry:
    """Creates, or replaces those of which a version is expected."""
    changes = [
        Change(replace=wrap(row), expected_version=expected) if expected
        else Change(create=wrap(row))
        for row in rows
    ]  # fmt: skip
    transaction = Transaction(request_id=f"r{index}", changes=changes)
    payload = LogPayload(proposed_at_ns=index, only_in_term=term, transactions=[transaction])
    return Entry(index=index, term=term, data=payload.SerializeToString())


def conf(index: int, kind: int, member: Member) -> Entry:
    change = ConfChange(
        changes=[ConfChangeSingle(type=kind, node_id=member.raft_id)],  # type: ignore[arg-type]
        context=MemberChange(member=member, proposed_at_ns=index).SerializeToString(),
    )
    return Entry(index=index, term=2, type=ENTRY_CONF_CHANGE, data=change.SerializeToString())


def made_anew(store: Store, index: int = 9, now_ns: int = NOW_NS, **fields: object) -> NewCluster:
    wanted = {"member": a_member(99, "a"), "node": a_node("a")} | fields
    return new_cluster(store, index=index, term=3, now_ns=now_ns, **wanted)  # type: ignore[arg-type]


def read_back(made: NewCluster) -> Store:
    return Store.restore(made.image.pieces(), check_mutation=True)


def test_the_log_is_applied_as_elsewhere_whatever_is_known_to_be_committed() -> None:
    """Promoting a learner changes its row, which a later entry may build upon: the versions have
    to be those that the leader had."""
    learner, voter = a_member(3, "w", learner=True), a_member(3, "w")
    entries = [
        Entry(index=2, term=2),
        conf(3, CONF_CHANGE_ADD_LEARNER_NODE, learner),
        conf(4, CONF_CHANGE_ADD_NODE, voter),
        normal(5, Service(id="s", name="web")),
    ]
    elsewhere = begun()
    group = GROUP
    for entry in entries[1:3]:
        change = ConfChange.FromString(entry.data)
        group = conf_state_after(group, change)
        elsewhere.apply_member_change(entry.index, change, group)
    elsewhere.apply(5, 2, LogPayload.FromString(entries[3].data))
    assert group == ConfState(voters=[1, 2, 3])
    version = elsewhere.service("s").meta.version  # type: ignore[union-attr]
    entries.append(normal(6, Service(id="s", name="shop"), expected=version))
    elsewhere.apply(6, 2, LogPayload.FromString(entries[4].data))

    store = begun()
    apply_all(store, GROUP, entries)

    assert store.service("s").name == "shop"  # type: ignore[union-attr]
    assert [store.digest(t) for t in TABLES] == [elsewhere.digest(t) for t in TABLES]
    assert store.revision == elsewhere.revision
    assert store.verdict("r6") is not None, "asked again, it is not done again"


def test_all_rows_stay_but_for_the_cluster_the_members_and_this_node() -> None:
    old, store = begun(), begun()
    apply_all(store, GROUP, [normal(2, Service(id="s", name="web"))])
    apply_all(old, GROUP, [normal(2, Service(id="s", name="web"))])
    made = read_back(made_anew(store))
    for table in TABLES:
        if table not in (TABLE_CLUSTER, TABLE_MEMBER, TABLE_NODE):
            assert made.digest(table) == old.digest(table)
    assert {node.id for node in made.nodes()} == {"a", "b", "w"}
    assert made.node("b") == old.node("b"), "known as the node that it was"
    assert made.revision > old.revision


def test_its_member_is_alone_and_old_ids_are_known_as_removed() -> None:
    made = made_anew(begun(), index=9)
    assert (made.index, made.term, made.conf_state) == (11, 3, ConfState(voters=[99]))
    store = read_back(made)
    assert store.applied_index == 11
    removed = {member.raft_id: member.removed for member in store.members()}
    assert removed == {1: True, 2: True, 99: False}
    assert made.image.header.conf_state == made.conf_state


def test_the_incarnation_is_higher_than_any_before() -> None:
    once = read_back(made_anew(begun())).cluster()
    assert once is not None
    assert once.incarnation == NOW_NS // 10**9
    # A backup restored twice: agents may have seen the first one's later revisions.
    twice = read_back(made_anew(begun(), now_ns=NOW_NS + 60 * 10**9)).cluster()
    assert twice is not None
    assert twice.incarnation > once.incarnation
    # A clock that is wrong.
    slow = read_back(made_anew(begun(), now_ns=0)).cluster()
    assert slow is not None
    assert slow.incarnation == 5


def test_this_node_is_wanted_as_a_manager_whatever_was_under_way() -> None:
    store = begun()
    demoted = Node()
    demoted.CopyFrom(store.node("a"))  # type: ignore[arg-type]
    demoted.spec.role = NODE_ROLE_WORKER
    version = demoted.meta.version
    apply_all(store, GROUP, [normal(2, demoted, expected=version)])
    node = read_back(made_anew(store)).node("a")
    assert node is not None
    assert (node.role, node.spec.role) == (NODE_ROLE_MANAGER, NODE_ROLE_MANAGER)


def test_a_machine_that_the_backup_does_not_know_becomes_a_node() -> None:
    made = read_back(made_anew(begun(), member=a_member(99, "new"), node=a_node("new")))
    assert made.node("new") is not None
    assert made.node("a") is not None


def test_a_learner_that_never_caught_up_has_nothing() -> None:
    with pytest.raises(NothingToRecover):
        made_anew(Store())
