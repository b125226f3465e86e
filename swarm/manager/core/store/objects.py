"""The rows of the store: protobuf messages, and which table each kind is in."""

from collections.abc import Mapping
from typing import NamedTuple, cast

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.node_pb2 import Member, Node
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import Service, ServiceRevision
from swarm.api.v1.store_pb2 import (
    TABLE_CLUSTER,
    TABLE_CONFIG,
    TABLE_IMAGE,
    TABLE_MEMBER,
    TABLE_NODE,
    TABLE_SECRET,
    TABLE_SERVICE,
    TABLE_SERVICE_REVISION,
    TABLE_TASK,
    Guard,
    Object,
    Table,
)
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task

StoreObject = Cluster | Node | Service | ServiceRevision | Task | Member | Secret | Config | Image

TABLES: tuple[Table.ValueType, ...] = (
    TABLE_CLUSTER,
    TABLE_NODE,
    TABLE_SERVICE,
    TABLE_SERVICE_REVISION,
    TABLE_TASK,
    TABLE_MEMBER,
    TABLE_SECRET,
    TABLE_CONFIG,
    TABLE_IMAGE,
)

_TABLE_OF_TYPE: Mapping[type[StoreObject], Table.ValueType] = {
    Cluster: TABLE_CLUSTER,
    Node: TABLE_NODE,
    Service: TABLE_SERVICE,
    ServiceRevision: TABLE_SERVICE_REVISION,
    Task: TABLE_TASK,
    Member: TABLE_MEMBER,
    Secret: TABLE_SECRET,
    Config: TABLE_CONFIG,
    Image: TABLE_IMAGE,
}

_TABLE_OF_KIND: Mapping[str, Table.ValueType] = {
    "cluster": TABLE_CLUSTER,
    "node": TABLE_NODE,
    "service": TABLE_SERVICE,
    "service_revision": TABLE_SERVICE_REVISION,
    "task": TABLE_TASK,
    "member": TABLE_MEMBER,
    "secret": TABLE_SECRET,
    "config": TABLE_CONFIG,
    "image": TABLE_IMAGE,
}

_KIND_OF_TABLE: Mapping[int, str] = {table: kind for kind, table in _TABLE_OF_KIND.items()}

_NOUNS: Mapping[int, str] = {
    table: kind.replace("_", " ") for table, kind in _KIND_OF_TABLE.items()
}


class UnknownOperation(Exception):  # noqa: N818  # the contract's name
    """The log or a snapshot holds what this version does not know: the manager must stop.

    Skipping it would make this manager's store differ from the others'.
    """


class SlotKey(NamedTuple):
    """A replica's place: its number, or in a global service (slot 0) its node."""

    service_id: str
    slot: int
    node_id: str


def table_of(obj: StoreObject) -> Table.ValueType:
    return _TABLE_OF_TYPE[type(obj)]


def kind_of(table: int) -> str:
    """The field of `Object` for objects of this table."""
    return _KIND_OF_TABLE[table]


def noun_of(table: int) -> str:
    """How errors name an object of this table."""
    return _NOUNS.get(table, f"object of table {table}")


def wrap(obj: StoreObject) -> Object:
    """The object as it travels in a change or a snapshot; a copy."""
    wrapped = Object()
    getattr(wrapped, kind_of(table_of(obj))).CopyFrom(obj)
    return wrapped


def unwrap(wrapped: Object) -> tuple[Table.ValueType, StoreObject]:
    """A copy of the object inside: a part of a message would keep all of that message alive.

    Raises UnknownOperation for a kind that a newer version made.
    """
    kind = wrapped.WhichOneof("kind")
    if kind is None:
        raise UnknownOperation(
            "an object of a kind that this version does not know: update swarmd on this node"
        )
    inner = cast("StoreObject", getattr(wrapped, kind))
    obj = type(inner)()
    obj.CopyFrom(inner)  # type: ignore[arg-type]  # same type by construction
    return _TABLE_OF_KIND[kind], obj


def revision_id(service_id: str, revision: int) -> str:
    """The key of a row in the service_revisions table."""
    return f"{service_id}.{revision}"


def slot_key(task: Task) -> SlotKey:
    return slot_key_of(task.service_id, task.slot, task.node_id)


def slot_key_of(service_id: str, slot: int, node_id: str) -> SlotKey:
    return SlotKey(service_id, slot, "" if slot else node_id)


def ended(task: Task) -> bool:
    """It ran, or was refused, and will never run again."""
    return task.status.state > TASK_STATE_RUNNING


def wanted(task: Task) -> bool:
    """It runs or shall run: it counts as one of the service's replicas."""
    return task.desired_state <= TASK_STATE_RUNNING


def guard(obj: StoreObject) -> Guard:
    """Holds while the object is there unchanged."""
    return Guard(table=table_of(obj), id=obj.id, version=obj.meta.version)
