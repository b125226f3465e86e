"""Which rows a transaction was to change: what its refusal makes the brain look at again."""

from __future__ import annotations

from collections.abc import Iterator

from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.service_pb2 import Service, ServiceRevision
from swarm.api.v1.store_pb2 import (
    TABLE_IMAGE,
    TABLE_NODE,
    TABLE_SERVICE,
    TABLE_SERVICE_REVISION,
    TABLE_TASK,
    Deletion,
    Object,
    Transaction,
)
from swarm.api.v1.task_pb2 import Task

Row = Task | Node | Service | ServiceRevision | Image


def touched_rows(transaction: Transaction) -> Iterator[Row]:
    """The rows as they were proposed; of a deletion only the key is known."""
    for change in transaction.changes:
        match change.WhichOneof("operation"):
            case "create":
                row = _row(change.create)
            case "replace":
                row = _row(change.replace)
            case "delete":
                row = _key_only(change.delete)
            case _:
                row = None
        if row is not None:
            yield row


def _row(wrapped: Object) -> Row | None:
    match wrapped.WhichOneof("kind"):
        case "task":
            return wrapped.task
        case "node":
            return wrapped.node
        case "service":
            return wrapped.service
        case "service_revision":
            return wrapped.service_revision
        case "image":
            return wrapped.image
        case _:
            return None


def _key_only(deletion: Deletion) -> Row | None:
    if deletion.table == TABLE_TASK:
        return Task(id=deletion.id)
    if deletion.table == TABLE_NODE:
        return Node(id=deletion.id)
    if deletion.table == TABLE_IMAGE:
        return Image(id=deletion.id)
    if deletion.table == TABLE_SERVICE:
        return Service(id=deletion.id)
    if deletion.table == TABLE_SERVICE_REVISION:
        service_id, _, revision = deletion.id.rpartition(".")
        return ServiceRevision(id=deletion.id, service_id=service_id, revision=int(revision))
    return None
