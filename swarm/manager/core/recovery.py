"""A new cluster out of what is left of one: the same state, with one manager as its only member.

For a manager that lost its quorum for good (`init --force-new-cluster`) and for a backup that is
restored. Old raft ids stay known as removed, so that none comes back; the incarnation is raised,
so that agents and managers tell the old cluster's word from the new one's.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, Member, Node
from swarm.api.v1.raft_pb2 import ENTRY_CONF_CHANGE, ConfChange, ConfState, Entry
from swarm.api.v1.store_pb2 import (
    VERDICT_OK,
    Change,
    LogPayload,
    MemberChange,
    Object,
    Transaction,
)
from swarm.manager.core.consensus import AppliedEntry
from swarm.manager.core.raft.confchange import conf_state_after
from swarm.manager.core.store import Applied, Store, StoreImage

_NS_PER_SECOND = 1_000_000_000


class NothingToRecover(Exception):  # noqa: N818 - says what is found
    """The state holds no cluster."""


@dataclass(frozen=True, slots=True)
class NewCluster:
    """What the new cluster's log begins with: a snapshot at this index and term."""

    index: int
    term: int
    conf_state: ConfState
    image: StoreImage


def apply_all(store: Store, conf_state: ConfState, entries: Iterable[Entry]) -> list[AppliedEntry]:
    """Apply what the log holds above the store, whether or not it is known to be committed.
    `conf_state`: the group at the store's index. Returns what took effect.

    What this manager knows to be committed lags behind what was: an acknowledged write may be
    in its log with nobody having told it yet. So all of it counts. (etcd and SwarmKit drop what
    is above the commit index that they know.) An entry that never was committed becomes so by
    this; to its client it was "unknown", which is true of both outcomes.
    """
    applied: list[AppliedEntry] = []
    for entry in entries:
        store.applied_index = entry.index
        change: ConfChange | None = None
        done = Applied((), ())
        if entry.type == ENTRY_CONF_CHANGE:
            # As it took effect elsewhere: later entries name the versions that it made.
            change = ConfChange.FromString(entry.data)
            conf_state = conf_state_after(conf_state, change)
            done = store.apply_member_change(entry.index, change, conf_state)
        elif entry.data:
            done = store.apply(entry.index, entry.term, LogPayload.FromString(entry.data))
        applied.append(AppliedEntry(entry.index, entry.term, done.verdicts, done.changes, change))
    return applied


def new_cluster(
    store: Store, *, index: int, term: int, member: Member, node: Node, now_ns: int
) -> NewCluster:
    """`store` at `index`, of the log's last `term`, as the beginning of a cluster whose only
    member is `member`. Its node gets a manager's role; `node` is its row where there is none
    yet. The store is changed and not to be used on. Raises NothingToRecover.
    """
    cluster = store.cluster()
    if cluster is None:
        raise NothingToRecover("it holds no swarm")
    transaction = Transaction(who=f"node {node.id}")
    transaction.changes.append(
        Change(
            replace=Object(cluster=_raised(cluster, now_ns)), expected_version=cluster.meta.version
        )
    )
    known = store.node(node.id)
    if known is None:
        transaction.changes.append(Change(create=Object(node=node)))
    else:
        manager = Node()
        manager.CopyFrom(known)
        manager.role = manager.spec.role = NODE_ROLE_MANAGER
        transaction.changes.append(
            Change(replace=Object(node=manager), expected_version=known.meta.version)
        )
    payload = LogPayload(proposed_at_ns=now_ns, transactions=[transaction])
    (verdict,) = store.apply(index + 1, term, payload).verdicts
    assert verdict.code == VERDICT_OK, verdict.message
    conf_state = ConfState(voters=[member.raft_id])
    context = MemberChange(member=member, proposed_at_ns=now_ns)
    change = ConfChange(context=context.SerializeToString())
    store.apply_member_change(index + 2, change, conf_state)
    image = store.snapshot(index + 2, term, conf_state)
    return NewCluster(index + 2, term, conf_state, image)


def _raised(cluster: Cluster, now_ns: int) -> Cluster:
    """At least one more; the time, so that a backup restored twice, or one from before an
    incarnation that agents have seen since, gets a higher one all the same."""
    raised = Cluster()
    raised.CopyFrom(cluster)
    raised.incarnation = max(cluster.incarnation + 1, now_ns // _NS_PER_SECOND)
    return raised
