"""Whose Raft messages are taken."""

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.node_pb2 import Member
from swarm.api.v1.store_pb2 import Change, LogPayload, Transaction
from swarm.manager.core.membership.admission import refusal
from swarm.manager.core.store import Store, wrap


def a_store(incarnation: int) -> Store:
    rows = (
        Cluster(id="c", incarnation=incarnation),
        Member(id="1", raft_id=1, node_id="a"),
        Member(id="2", raft_id=2, node_id="b", removed=True),
    )
    store = Store()
    changes = [Change(create=wrap(row)) for row in rows]
    store.apply(1, 1, LogPayload(transactions=[Transaction(changes=changes)]))
    return store


def test_members_of_this_cluster_are_heard() -> None:
    assert not refusal(a_store(5), 1, "a", 5)


def test_a_member_that_has_no_state_yet_or_is_ahead_is_heard() -> None:
    assert not refusal(a_store(5), 1, "a", 0)
    assert not refusal(a_store(5), 1, "a", 6)


def test_a_stranger_may_be_news_to_this_manager() -> None:
    assert not refusal(a_store(5), 7, "z", 5)
    assert not refusal(Store(), 7, "z", 5)


def test_who_was_removed_or_is_another_is_told_so() -> None:
    assert refusal(a_store(5), 2, "b", 5).startswith("removed:")
    assert "another node" in refusal(a_store(5), 1, "b", 5)


def test_whoever_is_of_an_earlier_incarnation_is_of_the_past() -> None:
    """Members that were removed by it, and those that joined after the backup was taken."""
    for raft_id, node_id in ((1, "a"), (2, "b"), (7, "z")):
        assert refusal(a_store(5), raft_id, node_id, 4).startswith("superseded:")
