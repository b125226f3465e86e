"""Which nodes keep copies of an image."""

from __future__ import annotations

from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.node_pb2 import NODE_STATE_DOWN, NODE_STATE_READY, Node
from swarm.api.v1.store_pb2 import Change, LogPayload, Transaction
from swarm.manager.core.orchestrator.keepers import COPIES, Keepers, chosen
from swarm.manager.core.store import Draft, Store, StoreChange, wrap

IMAGE = "sha256:" + "a" * 64


def node(node_id: str, *digests: str) -> Node:
    row = Node(id=node_id)
    row.status.state = NODE_STATE_READY
    row.description.images.address = f"{node_id}:1"
    row.description.images.digests[:] = digests
    return row


def write(store: Store, *changes: Change) -> list[StoreChange]:
    payload = LogPayload(transactions=[Transaction(changes=changes)])
    return list(store.apply(store.revision + 1, 1, payload).changes)


def settle(store: Store, keepers: Keepers, changes: list[StoreChange]) -> list[str]:
    for change in changes:
        keepers.changed(change, store)
    draft = Draft(store)
    keepers.write(draft)
    row = draft.image(IMAGE)
    assert row is not None
    for change in draft.changes():
        assert change.new is not None
        assert change.old is not None
        version = change.old.meta.version
        for applied in write(store, Change(replace=wrap(change.new), expected_version=version)):
            keepers.changed(applied, store)
    keepers.write(again := Draft(store))
    assert again.empty, "nothing is new, so nothing is to be done"
    return list(row.keeper_node_ids)


def test_the_one_that_has_it_and_another_keep_it_until_one_dies() -> None:
    store, keepers = Store(), Keepers()
    nodes = [node(name) for name in ("n1", "n2", "n3", "n4")]
    write(store, *(Change(create=wrap(row)) for row in nodes))
    image = Image(id=IMAGE, keeper_node_ids=["n3"])
    first = settle(store, keepers, write(store, Change(create=wrap(image))))
    assert first[0] == "n3"
    assert len(first) == COPIES

    gone = store.node("n3")
    assert gone is not None
    dead = Node()
    dead.CopyFrom(gone)
    dead.status.state = NODE_STATE_DOWN
    change = Change(replace=wrap(dead), expected_version=gone.meta.version)
    second = settle(store, keepers, write(store, change))
    assert second[0] == first[1]
    assert len(set(second)) == COPIES
    assert "n3" not in second


def test_too_few_nodes_until_another_comes() -> None:
    store, keepers = Store(), Keepers()
    write(store, Change(create=wrap(node("n1"))))
    image = Image(id=IMAGE, keeper_node_ids=["n1"])
    assert settle(store, keepers, write(store, Change(create=wrap(image)))) == ["n1"]
    assert settle(store, keepers, write(store, Change(create=wrap(node("n2"))))) == ["n1", "n2"]


def test_who_has_it_already_is_rather_a_keeper() -> None:
    rows = [node(f"n{number}") for number in range(9)] + [node("has", IMAGE)]
    nodes = {row.id: row for row in rows}
    assert chosen(Image(id=IMAGE, keeper_node_ids=["n4"]), nodes) == ["n4", "has"]
