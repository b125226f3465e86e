"""Snapshots of the store: small pieces, one moment, nothing lost, nothing unknown skipped."""

import pytest

from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.store_pb2 import (
    TABLE_TASK,
    Change,
    Deletion,
    LogPayload,
    Object,
    SnapshotHeader,
    SnapshotPiece,
    Transaction,
)
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.store import Restoration, Store, UnknownOperation, wrap
from swarm.manager.core.store.snapshot import FORMAT, PIECE_BYTES_MAX


def filled(count: int) -> Store:
    store = Store(check_mutation=True)
    transactions = [
        Transaction(
            request_id=f"r{n}",
            changes=[Change(create=wrap(Task(id=f"t{n}", service_name="x" * 500)))],
        )
        for n in range(count)
    ]
    store.apply(5, 2, LogPayload(proposed_at_ns=1, transactions=transactions))
    return store


def test_pieces_are_small_and_hold_everything() -> None:
    store = filled(3000)
    conf_state = ConfState(voters=[1, 2, 3])
    pieces = list(store.snapshot(5, 2, conf_state).pieces())
    assert len(pieces) > 5
    assert max(piece.ByteSize() for piece in pieces) <= PIECE_BYTES_MAX
    header = pieces[0].header
    assert (header.index, header.term, header.revision) == (5, 2, 3000)
    assert header.conf_state == conf_state
    wire = [SnapshotPiece.FromString(piece.SerializeToString()) for piece in pieces]
    restored = Store.restore(wire, check_mutation=True)
    restored.check()
    assert restored.revision == 3000
    assert restored.applied_index == 5
    assert restored.digest(TABLE_TASK) == store.digest(TABLE_TASK)
    assert restored.verdict("r2999") == store.verdict("r2999")
    assert len(list(restored.tasks())) == 3000


def test_an_image_is_of_one_moment() -> None:
    store = filled(2)
    image = store.snapshot(5, 2, ConfState())
    gone = Change(delete=Deletion(table=TABLE_TASK, id="t0"))
    store.apply(6, 2, LogPayload(transactions=[Transaction(changes=[gone])]))
    restored = Store.restore(image.pieces())
    assert [task.id for task in restored.tasks()] == ["t0", "t1"]
    assert [task.id for task in store.tasks()] == ["t1"]


def test_the_header_comes_first() -> None:
    with pytest.raises(ValueError, match="does not begin with its header"):
        Restoration().add(SnapshotPiece(objects=[wrap(Task(id="t"))]))
    with pytest.raises(ValueError, match="is empty"):
        Restoration().finish()


@pytest.mark.parametrize(
    "piece",
    [
        SnapshotPiece(header=SnapshotHeader(format=FORMAT + 1)),
        SnapshotPiece(header=SnapshotHeader(format=FORMAT, feature_level=99)),
        SnapshotPiece(header=SnapshotHeader(format=FORMAT), objects=[Object()]),
    ],
)
def test_what_a_newer_version_wrote_is_refused(piece: SnapshotPiece) -> None:
    with pytest.raises(UnknownOperation, match="update swarmd on this node"):
        Restoration().add(piece)
