"""Apply, rule by rule: terms, repeated requests, versions, unique keys, statuses, members."""

import pytest

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.node_pb2 import Member, Node
from swarm.api.v1.raft_pb2 import ConfChange, ConfState
from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.store_pb2 import (
    TABLE_NODE,
    TABLE_SERVICE,
    TABLE_TASK,
    VERDICT_EXISTS,
    VERDICT_NAME_TAKEN,
    VERDICT_OK,
    VERDICT_PORT_TAKEN,
    VERDICT_STALE_TERM,
    VERDICT_VERSION,
    Change,
    Deletion,
    LogPayload,
    MemberChange,
    Object,
    TaskStatusChange,
    Transaction,
)
from swarm.api.v1.task_pb2 import Task, TaskStatus
from swarm.api.v1.types_pb2 import PUBLISH_MODE_HOST, PortConfig
from swarm.manager.core.store import (
    FEATURE_LEVEL,
    TRANSACTION_BYTES_MAX,
    Applied,
    Store,
    StoreObject,
    UnknownOperation,
    check_size,
    wrap,
)
from swarm.manager.core.store.store import RING_REVISIONS
from swarm.manager.core.store.verdicts import REMEMBERED_MAX, REMEMBERED_NS, STEP_NS_MAX

NOW = 10**18


def create(*objects: StoreObject, request_id: str = "") -> Transaction:
    changes = [Change(create=wrap(obj)) for obj in objects]
    return Transaction(request_id=request_id, changes=changes)


def replace(obj: StoreObject, version: int) -> Transaction:
    return Transaction(changes=[Change(replace=wrap(obj), expected_version=version)])


def apply(store: Store, *transactions: Transaction, at_ns: int = NOW, only: int = 0) -> Applied:
    payload = LogPayload(proposed_at_ns=at_ns, only_in_term=only, transactions=transactions)
    return store.apply(store.applied_index + 1, 7, payload)


def codes(applied: Applied) -> list[int]:
    return [verdict.code for verdict in applied.verdicts]


def service(key: str, name: str, *ports: PortConfig) -> Service:
    return Service(id=key, name=name, revision=1, task_revision=1, ports=ports)


def test_what_was_computed_in_another_term_does_nothing() -> None:
    store = Store()
    applied = apply(store, create(Node(id="n1"), request_id="r"), create(Node(id="n2")), only=6)
    assert codes(applied) == [VERDICT_STALE_TERM] * 2
    assert (applied.changes, store.revision, store.verdict("r")) == ((), 0, None)
    assert codes(apply(store, create(Node(id="n1")), only=7)) == [VERDICT_OK]


def test_a_repeated_request_gets_the_first_verdict_and_does_nothing() -> None:
    store = Store()
    first = apply(store, create(Node(id="n1"), request_id="r"), create(Node(id="n2")))
    again = apply(store, create(Node(id="n3"), request_id="r"))
    assert list(again.verdicts) == [first.verdicts[0]] == [store.verdict("r")]
    assert again.verdicts[0].revision == 1
    assert (list(again.changes), store.node("n3")) == ([], None)


def test_a_refused_request_stays_refused() -> None:
    store = Store()
    apply(store, create(Node(id="n1")))
    assert codes(apply(store, create(Node(id="n1"), request_id="r"))) == [VERDICT_EXISTS]
    apply(store, Transaction(changes=[Change(delete=Deletion(table=TABLE_NODE, id="n1"))]))
    assert codes(apply(store, create(Node(id="n1"), request_id="r"))) == [VERDICT_EXISTS]
    assert store.node("n1") is None


def test_a_request_twice_in_one_entry_is_done_once() -> None:
    store = Store()
    applied = apply(
        store, create(Node(id="n1"), request_id="r"), create(Node(id="n2"), request_id="r")
    )
    assert codes(applied) == [VERDICT_OK, VERDICT_OK]
    assert [node.id for node in store.nodes()] == ["n1"]


def test_requests_are_forgotten_by_age() -> None:
    store = Store()
    apply(store, create(Node(id="n1"), request_id="r"))
    _requests_over(store, REMEMBERED_NS)
    assert store.verdict("r") is not None
    apply(store, at_ns=NOW + REMEMBERED_NS + 1)
    assert store.verdict("r") is None


def test_a_leader_whose_clock_is_ahead_forgets_nothing() -> None:
    store = Store()
    apply(store, create(Node(id="n1"), request_id="r"))
    apply(store, Transaction(request_id="s"), at_ns=NOW + 10 * REMEMBERED_NS)
    assert store.verdict("r") is not None


def _requests_over(store: Store, duration_ns: int) -> None:
    """One a second: faster than that, no time passes for the memory."""
    for after_ns in range(STEP_NS_MAX, duration_ns + 1, STEP_NS_MAX):
        apply(store, Transaction(request_id=f"+{after_ns}"), at_ns=NOW + after_ns)


def test_requests_are_forgotten_by_number() -> None:
    store = Store()
    requests = [Transaction(request_id=f"r{n}") for n in range(REMEMBERED_MAX + 1)]
    apply(store, *requests)
    assert store.verdict("r0") is None
    assert store.verdict("r1") is not None
    assert store.verdict(f"r{REMEMBERED_MAX}") is not None


def test_clocks_that_differ_leave_restored_and_running_stores_the_same() -> None:
    store = Store()
    apply(store, Transaction(request_id="a"))
    apply(store, at_ns=NOW + 10)
    restored = Store.restore(store.snapshot(2, 7, ConfState()).pieces())
    for each in (store, restored):
        apply(each, Transaction(request_id="b"), at_ns=NOW - 5)
        _requests_over(each, REMEMBERED_NS)
        apply(each, at_ns=NOW + REMEMBERED_NS + 1)
    pieces = [
        [p.SerializeToString() for p in s.snapshot(1, 1, ConfState()).pieces()]
        for s in (store, restored)
    ]
    assert pieces[0] == pieces[1]


def test_all_or_nothing() -> None:
    store = Store(check_mutation=True)
    apply(store, create(service("s1", "web")))
    applied = apply(
        store,
        create(Node(id="n1"), Task(id="t1", service_id="s1"), service("s2", "web")),
        create(Node(id="n2")),
    )
    assert codes(applied) == [VERDICT_NAME_TAKEN, VERDICT_OK]
    assert [change.new and change.new.id for change in applied.changes] == ["n2"]
    assert (list(store.tasks()), store.revision) == ([], 2)
    store.check()


def test_versions_and_times_are_of_the_entry() -> None:
    store = Store()
    apply(store, create(Node(id="n1")))
    apply(store, replace(Node(id="n1"), 1), at_ns=NOW + 5)
    node = store.node("n1")
    assert node is not None
    assert (node.meta.version, node.meta.created_at_ns) == (2, NOW)
    assert node.meta.updated_at_ns == NOW + 5
    stale = apply(store, replace(Node(id="n1"), 1))
    assert codes(stale) == [VERDICT_VERSION]
    assert "update out of sequence" in stale.verdicts[0].message
    assert codes(apply(store, replace(Node(id="n1"), 0))) == [VERDICT_VERSION]
    assert codes(apply(store, create(Node(id="n1")))) == [VERDICT_EXISTS]


def test_a_deletion_without_a_version_takes_any() -> None:
    store = Store()
    apply(store, create(service("s1", "web")))
    deletion = Deletion(table=TABLE_SERVICE, id="s1")
    wrong = Transaction(changes=[Change(delete=deletion, expected_version=9)])
    right = Transaction(changes=[Change(delete=deletion)])
    assert codes(apply(store, wrong, right)) == [VERDICT_VERSION, VERDICT_OK]


def test_ports_are_unique_per_protocol_in_ingress_mode() -> None:
    store = Store()
    tcp, udp = PortConfig(published_port=80), PortConfig(published_port=80, protocol=1)
    applied = apply(
        store,
        create(service("s1", "web", tcp)),
        create(service("s2", "dns", udp)),
        create(service("s3", "other", tcp)),
    )
    assert codes(applied) == [VERDICT_OK, VERDICT_OK, VERDICT_PORT_TAKEN]
    assert applied.verdicts[2].message.startswith(
        "port '80' is already in use by service 'web' (s1) as an ingress port"
    )
    assert codes(apply(store, replace(service("s1", "web"), 1))) == [VERDICT_OK]
    assert codes(apply(store, create(service("s3", "other", tcp)))) == [VERDICT_OK]


def test_a_port_in_host_mode_is_several_services_but_none_in_ingress_mode() -> None:
    store = Store()
    ingress = PortConfig(published_port=80)
    host = PortConfig(published_port=80, publish_mode=PUBLISH_MODE_HOST)
    applied = apply(
        store,
        create(service("s1", "web", host)),
        create(service("s2", "other", host)),
        create(service("s3", "everywhere", ingress)),
    )
    assert codes(applied) == [VERDICT_OK, VERDICT_OK, VERDICT_PORT_TAKEN]
    assert applied.verdicts[2].message.startswith(
        "port '80' is already in use by service 'web' (s1) as a host-published port"
    )
    assert codes(apply(store, replace(service("s1", "web"), 1))) == [VERDICT_OK]
    assert codes(apply(store, create(service("s3", "everywhere", ingress)))) == [VERDICT_PORT_TAKEN]
    assert codes(apply(store, replace(service("s2", "other"), 2))) == [VERDICT_OK]
    assert codes(apply(store, create(service("s3", "everywhere", ingress)))) == [VERDICT_OK]
    assert codes(apply(store, replace(service("s1", "web", host), 3))) == [VERDICT_PORT_TAKEN]


@pytest.mark.parametrize(
    ("old", "new", "taken"),
    [
        ((512, 5), (448, 9), False),
        ((512, 5), (704, 1), True),
        ((512, 5), (512, 4), False),
        ((512, 5), (512, 6), True),
        ((512, 5), (512, 5), False),
    ],
)
def test_a_status_never_goes_back(old: tuple[int, int], new: tuple[int, int], taken: bool) -> None:
    store = Store()
    before = Task(id="t1", status=TaskStatus(state=old[0], timestamp_ns=old[1]))
    apply(store, create(before))
    status = TaskStatus(state=new[0], timestamp_ns=new[1])
    change = Change(task_status=TaskStatusChange(task_id="t1", status=status))
    applied = apply(store, Transaction(changes=[change]))
    assert codes(applied) == [VERDICT_OK]
    assert (len(applied.changes), store.revision) == ((1, 2) if taken else (0, 1))
    task = store.task("t1")
    assert task is not None
    assert task.status == (status if taken else before.status)


def test_a_status_of_a_task_that_is_gone_is_dropped() -> None:
    store = Store()
    gone = Change(task_status=TaskStatusChange(task_id="t1", status=TaskStatus(state=512)))
    applied = apply(store, Transaction(changes=[gone]))
    assert (codes(applied), store.revision) == ([VERDICT_OK], 0)


@pytest.mark.parametrize(
    "change",
    [
        Change(),
        Change(create=Object()),
        Change(delete=Deletion(table=99, id="x")),  # type: ignore[arg-type]
        Change(create=wrap(Cluster(id="c", feature_level=FEATURE_LEVEL + 1))),
    ],
)
def test_what_is_not_known_stops_the_manager(change: Change) -> None:
    store = Store(check_mutation=True)
    known = Change(create=wrap(Node(id="n1")))
    with pytest.raises(UnknownOperation, match=r"log entry 1: .* update swarmd on this node"):
        apply(store, Transaction(changes=[known, change]))
    assert store.node("n1") is None


def test_a_mutated_message_is_found() -> None:
    store = Store(check_mutation=True)
    apply(store, create(Node(id="n1")))
    node = store.node("n1")
    assert node is not None
    node.description.hostname = "changed"
    with pytest.raises(AssertionError, match="Node n1 was mutated"):
        store.check()
    with pytest.raises(AssertionError, match="Node n1 was mutated"):
        apply(store, replace(Node(id="n1"), 1))


def test_members_follow_the_configuration() -> None:
    store = Store(check_mutation=True)

    def change(member: Member | None, request_id: str = "", **state: list[int]) -> Applied:
        context = MemberChange(member=member, request_id=request_id, proposed_at_ns=NOW)
        conf_change = ConfChange(context=context.SerializeToString() if member else b"")
        applied = store.apply_member_change(
            store.applied_index + 1, conf_change, ConfState(**state)
        )
        store.check()
        return applied

    one = Member(raft_id=1, node_id="n1", address="a:1")
    change(one, voters=[1])
    two = Member(raft_id=2, node_id="n2", address="b:1")
    joined = change(two, "r", voters=[1], learners=[2])
    assert codes(joined) == [VERDICT_OK]
    assert [(m.id, m.learner, m.removed) for m in store.members()] == [
        ("1", False, False),
        ("2", True, False),
    ]
    assert codes(change(two, "r", voters=[1, 2])) == [VERDICT_OK]
    assert store.member(2) is not None
    assert not store.member(2).learner  # type: ignore[union-attr]
    left = change(None, voters=[2])
    assert left.verdicts == ()
    assert [(m.raft_id, m.removed) for m in store.members()] == [(1, True), (2, False)]
    assert change(None, voters=[2]).changes == []


def test_a_watch_resumes_from_a_kept_revision_or_lists_anew() -> None:
    store = Store()
    for n in range(3):
        apply(store, create(Node(id=f"n{n}")))
    missed = store.changes_since(1)
    assert missed is not None
    assert [(c.revision, c.new and c.new.id) for c in missed] == [(2, "n1"), (3, "n2")]
    assert store.changes_since(3) == []
    assert store.changes_since(4) is None
    apply(store, *(create(Task(id=f"t{n}")) for n in range(RING_REVISIONS)))
    assert store.changes_since(2) is None
    assert len(store.changes_since(3) or ()) == RING_REVISIONS
    restored = Store.restore(store.snapshot(1, 1, ConfState()).pieces())
    assert restored.changes_since(store.revision) == []
    assert restored.changes_since(store.revision - 1) is None


def test_a_request_that_is_too_large_is_refused_in_a_line() -> None:
    small = create(Task(id="t", service_name="x" * (TRANSACTION_BYTES_MAX - 100)))
    large = create(Task(id="t", service_name="x" * (TRANSACTION_BYTES_MAX + 1)))
    assert check_size(small) is None
    assert "more than the 1.5 MiB" in (check_size(large) or "")


def test_digests_do_not_depend_on_the_order() -> None:
    one, two = Store(), Store()
    apply(one, create(Task(id="a"), Task(id="b")))
    apply(two, create(Task(id="b"), Task(id="a")))
    assert one.digest(TABLE_TASK) == two.digest(TABLE_TASK) != 0
    apply(two, Transaction(changes=[Change(delete=Deletion(table=TABLE_TASK, id="a"))]))
    assert one.digest(TABLE_TASK) != two.digest(TABLE_TASK)
