"""Drafts: what they show is what the store holds once they are applied; groups and batches."""

from random import Random
from typing import Any

import pytest

from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.service_pb2 import Service, ServiceRevision
from swarm.api.v1.store_pb2 import (
    TABLE_NODE,
    TABLE_SERVICE,
    TABLE_SERVICE_REVISION,
    TABLE_TASK,
    VERDICT_OK,
    VERDICT_VERSION,
    LogPayload,
    Transaction,
)
from swarm.api.v1.task_pb2 import Task
from swarm.api.v1.types_pb2 import PortConfig
from swarm.manager.core.store import Draft, Store, StoreObject, guard, slot_key, table_of

BUCKETS = (
    "tasks_unassigned",
    "tasks_delayed",
    "tasks_to_reap",
    "tasks_ended_wanted",
    "nodes_not_ready",
)


def commit(store: Store, *transactions: Transaction) -> list[int]:
    payload = LogPayload(proposed_at_ns=10**18, transactions=transactions)
    verdicts = store.apply(store.applied_index + 1, 1, payload).verdicts
    store.check()
    return [verdict.code for verdict in verdicts]


def store_with(*objects: StoreObject) -> Store:
    store = Store(check_mutation=True)
    draft = Draft(store)
    for obj in objects:
        draft.create(obj)
    assert set(commit(store, *draft.transactions())) <= {VERDICT_OK}
    return store


def task(task_id: str, **fields: Any) -> Task:
    return Task(id=task_id, service_id="s", revision=1, desired_state=512, **fields)


def some_change(draft: Draft, rng: Random) -> None:
    n = rng.randrange(4)
    obj: StoreObject
    match rng.choice("tttnsr"):
        case "t":
            obj = Task(
                id=f"t{rng.randrange(10)}",
                service_id=f"s{n}",
                slot=rng.randrange(3),
                node_id=rng.choice(("", "n0", "n1")),
                revision=rng.randint(1, 2),
                desired_state=rng.choice((384, 512, 640, 800)),
            )
            obj.status.state = rng.choice((0, 192, 512, 704))
            present = draft.task(obj.id)
        case "n":
            obj = Node(id=f"n{n}")
            obj.description.hostname = rng.choice("ab")
            obj.status.state = rng.randrange(4)
            present = draft.node(obj.id)
        case "s":
            ports = [PortConfig(published_port=80 + n)] if rng.random() < 0.5 else []
            obj = Service(id=f"s{n}", name=f"name{n}", revision=1, task_revision=1, ports=ports)
            present = draft.service(obj.id)
        case _:
            number = rng.randint(1, 25)
            obj = ServiceRevision(id=f"s{n}.{number}", service_id=f"s{n}", revision=number)
            present = draft.revision_row(f"s{n}", number)
    if present is None:
        draft.create(obj)
    elif rng.random() < 0.3:
        draft.delete(table_of(obj), obj.id)
    else:
        draft.replace(obj)


def shown(view: Any) -> dict[str, Any]:
    """All that a view answers, without Meta and without order."""

    def bare(rows: Any) -> list[Any]:
        found: list[Any] = []
        for row in rows:
            copy = type(row)()
            copy.CopyFrom(row)
            copy.ClearField("meta")
            found.append(copy)
        return sorted(found, key=lambda row: row.id)

    services = [f"s{n}" for n in range(4)]
    named = {n: view.service_by_name(f"name{n}") for n in range(4)}
    return {
        "rows": [bare(view.nodes()), bare(view.services()), bare(view.tasks())],
        "of service": [bare(view.tasks_of_service(s)) for s in services],
        "of node": [bare(view.tasks_of_node(n)) for n in ("n0", "n1")],
        "of slot": [
            bare(view.tasks_of_slot(s, slot, node))
            for s in services
            for slot in range(3)
            for node in ("", "n0", "n1")
        ],
        "revisions": [list(view.revisions_of_service(s)) for s in services],
        "uses": [view.revision_uses(s, r) for s in services for r in (1, 2)],
        "names": {n: found.id for n, found in named.items() if found is not None},
        "hostnames": [bare(view.nodes_by_hostname(h)) for h in "ab"],
        "ports": [view.port_holder(0, 80 + n) for n in range(4)],
        "buckets": [bare(getattr(view, name)()) for name in BUCKETS],
        "prune": sorted(view.services_to_prune()),
        "over": sorted(view.slots_over_history()),
        "ids": [
            view.ids_with_prefix(table, prefix, limit)
            for table, prefix in (
                (TABLE_TASK, "t"),
                (TABLE_NODE, "n"),
                (TABLE_SERVICE, "s"),
                (TABLE_SERVICE_REVISION, "s1."),
            )
            for limit in (2, 99)
        ],
    }


@pytest.mark.parametrize("seed", range(60))
def test_a_draft_shows_what_the_store_holds_once_it_is_applied(seed: int) -> None:
    rng = Random(seed)
    store = Store(check_mutation=True)
    for _ in range(5):
        draft = Draft(store)
        for _ in range(rng.randrange(30)):
            some_change(draft, rng)
        before = shown(draft)
        over_draft = Draft(draft)
        assert shown(over_draft) == before
        assert set(commit(store, *draft.transactions())) <= {VERDICT_OK}
        assert shown(store) == before
        # Nothing in the draft was missed or doubled: it has nothing left to say.
        assert Draft(store).empty


def test_changes_of_one_object_are_one_change() -> None:
    store = store_with(task("t1", slot=1))
    draft = Draft(store)
    draft.replace(task("t1", slot=1, node_id="n1"))
    draft.replace(task("t1", slot=1, node_id="n2"))
    (transaction,) = draft.transactions()
    (change,) = transaction.changes
    assert change.replace.task.node_id == "n2"
    current = store.task("t1")
    assert current is not None
    assert change.expected_version == current.meta.version
    assert [(c.old.node_id, c.new.node_id) for c in draft.changes()] == [("", "n2")]


def test_created_and_deleted_is_nothing() -> None:
    draft = Draft(Store())
    draft.create(task("t1", slot=1))
    assert not draft.empty
    draft.delete(TABLE_TASK, "t1")
    assert draft.empty
    assert draft.transactions() == []


def test_deleted_and_created_again_is_a_replacement() -> None:
    draft = Draft(store_with(task("t1", slot=1)))
    draft.delete(TABLE_TASK, "t1")
    draft.create(task("t1", slot=2))
    (transaction,) = draft.transactions()
    assert [c.WhichOneof("operation") for c in transaction.changes] == ["replace"]


def test_impossible_changes_are_refused_at_once() -> None:
    draft = Draft(store_with(task("t1", slot=1)))
    with pytest.raises(ValueError, match="task t1 is there already"):
        draft.create(task("t1"))
    with pytest.raises(ValueError, match="task t2 is not there"):
        draft.replace(task("t2"))
    with pytest.raises(ValueError, match="node n is not there"):
        draft.delete(TABLE_NODE, "n")


def test_a_group_is_one_transaction_with_its_guards() -> None:
    service = Service(id="s", name="web", revision=1, task_revision=1)
    store = store_with(service, task("t1", slot=1), task("t2", slot=2))
    stored = store.service("s")
    assert stored is not None
    draft = Draft(store)
    for old, new in (("t1", "t3"), ("t2", "t4")):
        replaced = task(new, slot=int(old[1]))
        with draft.group(slot_key(replaced), [guard(stored)]):
            draft.delete(TABLE_TASK, old)
            draft.create(replaced)
    one, two = draft.transactions(who="brain")
    assert [len(tx.changes) for tx in (one, two)] == [2, 2]
    assert [list(tx.guards) for tx in (one, two)] == [[guard(stored)], [guard(stored)]]

    # The service is updated meanwhile: both slots stay as they were, whole.
    update = Draft(store)
    update.replace(Service(id="s", name="web", revision=2, task_revision=2))
    assert commit(store, *update.transactions()) == [VERDICT_OK]
    assert commit(store, one, two) == [VERDICT_VERSION, VERDICT_VERSION]
    assert sorted(t.id for t in store.tasks()) == ["t1", "t2"]


def test_groups_that_change_the_same_object_become_one() -> None:
    draft = Draft(store_with(task("t1", slot=1)))
    with draft.group("a"):
        draft.replace(task("t1", slot=1, node_id="n1"))
        draft.create(task("t2", slot=2))
    with draft.group("b"):
        draft.create(task("t3", slot=3))
        draft.replace(task("t1", slot=1, node_id="n2"))
    with draft.group("a"):
        draft.create(task("t4", slot=4))
    (transaction,) = draft.transactions()
    assert len(transaction.changes) == 4


def test_a_change_of_what_others_guard_comes_last() -> None:
    store = store_with(Service(id="s", name="web", revision=1, task_revision=1))
    stored = store.service("s")
    assert stored is not None
    draft = Draft(store)
    draft.replace(Service(id="s", name="web", revision=2, task_revision=1))
    with draft.group("slot", [guard(stored)]):
        draft.create(task("t1", slot=1))
    assert commit(store, *draft.transactions()) == [VERDICT_OK, VERDICT_OK]
    assert store.task("t1") is not None


def test_pieces_hold_whole_groups_within_the_limits() -> None:
    draft = Draft(Store())
    for slot in range(1, 10):
        with draft.group(slot):
            draft.create(task(f"a{slot}", slot=slot))
            draft.create(task(f"b{slot}", slot=slot))
    pieces = draft.split(max_changes=5)
    assert [len(piece) for piece in pieces] == [2, 2, 2, 2, 1]
    assert all(len(tx.changes) == 2 for piece in pieces for tx in piece)
    size = draft.transactions()[0].ByteSize()
    assert [len(piece) for piece in draft.split(max_bytes=3 * size)] == [3, 3, 3]
    assert [len(piece) for piece in draft.split(max_bytes=1)] == [1] * 9
    assert len(draft.split()) == 1


def test_a_port_and_a_name_that_change_hands_stay_with_the_new_holder() -> None:
    port = PortConfig(published_port=80)
    store = store_with(Service(id="s1", name="web", ports=[port]), Service(id="s2", name="b"))
    draft = Draft(store)
    draft.replace(Service(id="s2", name="web", ports=[port]))
    draft.replace(Service(id="s1", name="old"))
    named = draft.service_by_name("web")
    assert named is not None
    assert (draft.port_holder(0, 80), named.id) == ("s2", "s2")
    draft.delete(TABLE_SERVICE, "s2")
    assert (draft.port_holder(0, 80), draft.service_by_name("web")) == (None, None)
