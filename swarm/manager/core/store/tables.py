"""The committed rows with their indexes, and every read of them.

One way in: `_swap`, which exchanges one row for another, also to undo. What is kept per row
(indexes, digests) changes there, so nothing can be forgotten.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import TypeVar, cast

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.node_pb2 import NODE_STATE_READY, Member, Node
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import Service, ServiceRevision, ServiceSpec
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
    VERDICT_IN_USE,
    VERDICT_NAME_TAKEN,
    VERDICT_PORT_TAKEN,
    Table,
    VerdictCode,
)
from swarm.api.v1.task_pb2 import Task
from swarm.api.v1.types_pb2 import Protocol as PortProtocol
from swarm.manager.core.store.digests import Digests
from swarm.manager.core.store.file_index import (
    FILE_TABLES,
    FileIndex,
    file_in_use,
    file_name_taken,
    revisions_in_use,
)
from swarm.manager.core.store.image_index import ImageIndex, image_name_taken
from swarm.manager.core.store.objects import (
    SlotKey,
    StoreObject,
    revision_id,
    slot_key_of,
    table_of,
)
from swarm.manager.core.store.prefixes import SortedIds
from swarm.manager.core.store.retention import needs_pruning
from swarm.manager.core.store.service_index import (
    ServiceIndex,
    name_taken,
    port_key,
    port_rival,
    port_taken,
)
from swarm.manager.core.store.settling import Settling
from swarm.manager.core.store.task_index import TaskIndex

_Row = TypeVar("_Row")


class Tables:
    def __init__(self, check_mutation: bool = False) -> None:
        self._check_mutation = check_mutation
        self._revision = 0
        self._clusters: dict[str, Cluster] = {}
        self._nodes: dict[str, Node] = {}
        self._services: dict[str, Service] = {}
        self._revisions: dict[str, ServiceRevision] = {}
        self._tasks: dict[str, Task] = {}
        self._members: dict[str, Member] = {}
        self._secrets: dict[str, Secret] = {}
        self._configs: dict[str, Config] = {}
        self._images: dict[str, Image] = {}
        self._rows = {
            table: cast("dict[str, StoreObject]", rows)
            for table, rows in (
                (TABLE_CLUSTER, self._clusters),
                (TABLE_NODE, self._nodes),
                (TABLE_SERVICE, self._services),
                (TABLE_SERVICE_REVISION, self._revisions),
                (TABLE_TASK, self._tasks),
                (TABLE_MEMBER, self._members),
                (TABLE_SECRET, self._secrets),
                (TABLE_CONFIG, self._configs),
                (TABLE_IMAGE, self._images),
            )
        }
        self._digests = Digests(check_mutation)
        self._ids = {table: SortedIds() for table in self._rows}
        self._task_index = TaskIndex()
        self._service_index = ServiceIndex()
        self._file_index = FileIndex()
        self._image_index = ImageIndex()
        self._settling = Settling()
        self._by_hostname: dict[str, dict[str, Node]] = {}
        self._not_ready: dict[str, Node] = {}
        self._to_prune: dict[str, None] = {}

    # Reads: see View for what they mean.

    @property
    def revision(self) -> int:
        return self._revision

    def cluster(self) -> Cluster | None:
        return next(iter(self._clusters.values()), None)

    def node(self, node_id: str) -> Node | None:
        return self._nodes.get(node_id)

    def service(self, service_id: str) -> Service | None:
        return self._services.get(service_id)

    def task(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def member(self, raft_id: int) -> Member | None:
        return self._members.get(str(raft_id))

    def secret(self, secret_id: str) -> Secret | None:
        return self._secrets.get(secret_id)

    def config(self, config_id: str) -> Config | None:
        return self._configs.get(config_id)

    def image(self, image_id: str) -> Image | None:
        return self._images.get(image_id)

    def revision_row(self, service_id: str, revision: int) -> ServiceRevision | None:
        return self._revisions.get(revision_id(service_id, revision))

    def spec(self, service_id: str, revision: int) -> ServiceSpec | None:
        row = self.revision_row(service_id, revision)
        return row.spec if row is not None else None

    def nodes(self) -> Collection[Node]:
        return self._nodes.values()

    def services(self) -> Collection[Service]:
        return self._services.values()

    def tasks(self) -> Collection[Task]:
        return self._tasks.values()

    def members(self) -> Collection[Member]:
        return self._members.values()

    def secrets(self) -> Collection[Secret]:
        return self._secrets.values()

    def configs(self) -> Collection[Config]:
        return self._configs.values()

    def images(self) -> Collection[Image]:
        return self._images.values()

    def image_by_name(self, name: str) -> Image | None:
        return self._images.get(self._image_index.ids_by_image_name.get(name, ""))

    def images_kept_by(self, node_id: str) -> Collection[str]:
        return self._image_index.kept_by.get(node_id, {}).keys()

    def secret_by_name(self, name: str) -> Secret | None:
        return self._secrets.get(self._file_index.ids_by_name.get((TABLE_SECRET, name), ""))

    def config_by_name(self, name: str) -> Config | None:
        return self._configs.get(self._file_index.ids_by_name.get((TABLE_CONFIG, name), ""))

    def services_using(self, table: Table.ValueType, key: str) -> list[str]:
        users: dict[str, None] = {}
        for row in self._file_index.named_in.get((table, key), {}).values():
            service = self._services.get(row.service_id)
            if service is not None and (
                row.revision in revisions_in_use(service)
                or self._settling.wants(row.service_id, row.revision)
            ):
                users[service.name] = None
        return sorted(users)

    def service_by_name(self, name: str) -> Service | None:
        return self._service_index.by_name.get(name)

    def nodes_by_hostname(self, hostname: str) -> Collection[Node]:
        return _values(self._by_hostname.get(hostname))

    def tasks_of_service(self, service_id: str) -> Collection[Task]:
        return _values(self._task_index.of_service.get(service_id))

    def tasks_of_node(self, node_id: str) -> Collection[Task]:
        return _values(self._task_index.of_node.get(node_id))

    def tasks_of_slot(self, service_id: str, slot: int, node_id: str = "") -> Collection[Task]:
        return _values(self._task_index.of_slot.get(slot_key_of(service_id, slot, node_id)))

    def revisions_of_service(self, service_id: str) -> Sequence[int]:
        return self._service_index.revisions.get(service_id, ())

    def revision_uses(self, service_id: str, revision: int) -> int:
        return self._settling.uses(service_id, revision)

    def port_holder(self, protocol: PortProtocol.ValueType, published_port: int) -> str | None:
        return self._service_index.port_holders.get((protocol, published_port))

    def host_port_holders(
        self, protocol: PortProtocol.ValueType, published_port: int
    ) -> Collection[str]:
        return self._service_index.host_port_holders.get((protocol, published_port), ())

    def ids_with_prefix(self, table: Table.ValueType, prefix: str, limit: int = 2) -> list[str]:
        return list(islice(self._ids[table].with_prefix(prefix, self._rows[table]), limit))

    def tasks_unassigned(self) -> Collection[Task]:
        return self._task_index.unassigned.values()

    def tasks_delayed(self) -> Collection[Task]:
        return self._task_index.delayed.values()

    def tasks_to_reap(self) -> Collection[Task]:
        return self._task_index.to_reap.values()

    def tasks_ended_wanted(self) -> Collection[Task]:
        return self._task_index.ended_wanted.values()

    def unsettled_services(self) -> Collection[str]:
        return self._settling.unsettled.keys()

    def nodes_not_ready(self) -> Collection[Node]:
        return self._not_ready.values()

    def slots_over_history(self) -> Collection[SlotKey]:
        return self._task_index.over_history.keys()

    def services_to_prune(self) -> Collection[str]:
        return self._to_prune.keys()

    def digest(self, table: Table.ValueType) -> int:
        """Equal for tables with the same objects, whatever their order."""
        return self._digests.sum(table)

    # Changes

    def _swap(
        self,
        table: Table.ValueType,
        key: str,
        old: StoreObject | None,
        new: StoreObject | None,
    ) -> None:
        """Put `new` where `old` is. Uniqueness was checked: see `_clash`."""
        self._digests.swap(table, key, old, new)
        if new is None:
            del self._rows[table][key]
        else:
            self._rows[table][key] = new
        if old is None or new is None:
            self._ids[table].note(key, new is not None)
        if table == TABLE_TASK:
            old_task, new_task = cast("Task | None", old), cast("Task | None", new)
            self._task_index.move(key, old_task, new_task)
            self._settling.move_task(old_task, new_task)
        elif table == TABLE_SERVICE:
            self._service_index.move_service(
                cast("Service | None", old), cast("Service | None", new)
            )
            self._settling.touch(key)
        elif table == TABLE_SERVICE_REVISION:
            self._move_revision(
                cast("ServiceRevision | None", old), cast("ServiceRevision | None", new)
            )
        elif table in FILE_TABLES:
            self._file_index.move_file(
                table, cast("Secret | Config | None", old), cast("Secret | Config | None", new)
            )
        elif table == TABLE_IMAGE:
            self._image_index.move(cast("Image | None", old), cast("Image | None", new))
        elif table == TABLE_NODE:
            self._move_node(key, cast("Node | None", old), cast("Node | None", new))
        elif table == TABLE_CLUSTER:
            cluster = self.cluster()
            limit = cluster.spec.task_history_limit if cluster is not None else None
            self._task_index.set_history_limit(limit)

    def _settle(self) -> None:
        """Bring what depends on several rows up to date, once for many changes."""
        for service_id in self._settling.settle(self.service, self.spec):
            if needs_pruning(self, service_id):
                self._to_prune[service_id] = None
            else:
                self._to_prune.pop(service_id, None)

    def _file_clash(self, row: Secret | Config) -> tuple[VerdictCode.ValueType, str] | None:
        """Why this row can't be: another has its name."""
        holder = self._file_index.ids_by_name.get((table_of(row), row.spec.annotations.name))
        if holder is None or holder == row.id:
            return None
        return VERDICT_NAME_TAKEN, file_name_taken(row)

    def _image_clash(self, image: Image) -> tuple[VerdictCode.ValueType, str] | None:
        """Why this row can't be: one of its names is another's."""
        for name in image.names:
            if self._image_index.ids_by_image_name.get(name, image.id) != image.id:
                return VERDICT_NAME_TAKEN, image_name_taken(name)
        return None

    def _file_hold(self, row: Secret | Config) -> tuple[VerdictCode.ValueType, str] | None:
        """Why this row can't go: services use it."""
        users = self.services_using(table_of(row), row.id)
        return (VERDICT_IN_USE, file_in_use(row, users)) if users else None

    def _clash(self, service: Service) -> tuple[VerdictCode.ValueType, str] | None:
        """Why this row can't be: another service has its name, or one of its ports."""
        index = self._service_index
        holder = index.by_name.get(service.name)
        if holder is not None and holder.id != service.id:
            return VERDICT_NAME_TAKEN, name_taken(service.name)
        for port in service.ports:
            rival = port_rival(self, port, service.id)
            if rival is not None:
                return VERDICT_PORT_TAKEN, port_taken(port_key(port), self._services[rival])
        return None

    def _move_revision(self, old: ServiceRevision | None, new: ServiceRevision | None) -> None:
        self._service_index.move_revision(old, new)
        self._file_index.move_revision(old, new)
        for row in (old, new):
            if row is not None:
                self._settling.touch(row.service_id)

    def _move_node(self, key: str, old: Node | None, new: Node | None) -> None:
        if old is not None:
            namesakes = self._by_hostname[old.description.hostname]
            del namesakes[key]
            if not namesakes:
                del self._by_hostname[old.description.hostname]
        self._not_ready.pop(key, None)
        if new is not None:
            self._by_hostname.setdefault(new.description.hostname, {})[key] = new
            if new.status.state != NODE_STATE_READY:
                self._not_ready[key] = new

    def _check_against(self, fresh: "Tables") -> None:
        """`fresh` was filled from these rows: whatever differs was not kept up to date."""
        for table, rows in self._rows.items():
            for key, obj in rows.items():
                self._digests.check_unchanged(table, key, obj)
            assert self.digest(table) == fresh.digest(table), f"the digest of table {table}"
            assert self.ids_with_prefix(table, "", len(rows)) == sorted(rows)
        mine, theirs = self.index_contents(), fresh.index_contents()
        for name, contents in mine.items():
            assert contents == theirs[name], f"the index {name} differs from its table"

    def index_contents(self) -> dict[str, object]:
        """All that is derived from the rows, to compare two stores: for `check`."""
        return {
            **vars(self._task_index),
            **vars(self._service_index),
            **vars(self._file_index),
            **vars(self._image_index),
            "unsettled": self._settling.unsettled,
            "tallies": self._settling.tallies,
            "hostnames": self._by_hostname,
            "nodes not ready": self._not_ready,
            "services to prune": self._to_prune,
        }


def _values(group: Mapping[str, _Row] | None) -> Collection[_Row]:
    return group.values() if group is not None else ()
