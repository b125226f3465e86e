"""A view plus the changes so far: what the brain and --plan write to.

Each step of the brain thus sees what the steps before it did, and the whole is proposed, or
thrown away (DESIGN, "The brain").
"""

from collections import Counter
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
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
    Guard,
    Table,
    Transaction,
)
from swarm.api.v1.task_pb2 import Task
from swarm.api.v1.types_pb2 import Protocol as PortProtocol
from swarm.manager.core.store.changes import StoreChange
from swarm.manager.core.store.grouping import (
    BATCH_BYTES_MAX,
    BATCH_CHANGES_MAX,
    Groups,
    RowKey,
    batches,
)
from swarm.manager.core.store.objects import (
    TABLES,
    SlotKey,
    StoreObject,
    noun_of,
    revision_id,
    slot_key,
    slot_key_of,
    table_of,
)
from swarm.manager.core.store.retention import needs_pruning
from swarm.manager.core.store.service_index import PortKey, host_ports, ingress_ports
from swarm.manager.core.store.task_index import (
    is_delayed,
    is_ended_wanted,
    is_to_reap,
    is_unassigned,
)
from swarm.manager.core.store.view import View

_Row = TypeVar("_Row", Cluster, Node, Service, ServiceRevision, Task, Member, Secret, Config, Image)


class Draft:
    """Implements `View`. It costs what it changes, however large the view below is."""

    def __init__(self, base: View) -> None:
        self._base = base
        self._rows: dict[int, dict[str, StoreObject | None]] = {table: {} for table in TABLES}
        self._originals: dict[RowKey, StoreObject | None] = {}
        self._groups = Groups()
        self._group: int | None = None
        self._tasks_by: dict[Hashable, dict[str, Task | None]] = {}
        self._names: dict[str, str | None] = {}
        self._ports: dict[PortKey, str | None] = {}
        self._host_ports: dict[PortKey, dict[str, bool]] = {}
        self._revisions_of: dict[str, dict[int, bool]] = {}
        self._uses: Counter[tuple[str, int]] = Counter()
        self._touched_services: dict[str, None] = {}
        self._touched_slots: dict[SlotKey, None] = {}

    @property
    def base(self) -> View:
        """What is stored, without this draft's changes."""
        return self._base

    # Changes

    def create(self, obj: StoreObject) -> None:
        """Raises ValueError where it is there already."""
        table = table_of(obj)
        if self._get(table, obj.id) is not None:
            raise ValueError(f"{noun_of(table)} {obj.id} is there already")
        self._change(table, obj.id, None, obj)

    def replace(self, obj: StoreObject) -> None:
        """Raises ValueError where it is not there."""
        table = table_of(obj)
        self._change(table, obj.id, self._existing(table, obj.id), obj)

    def delete(self, table: Table.ValueType, key: str) -> None:
        """Raises ValueError where it is not there."""
        self._change(table, key, self._existing(table, key), None)

    @contextmanager
    def group(self, name: Hashable, guards: Iterable[Guard] = ()) -> Generator[None]:
        """What is changed inside stands or falls together, with the guards.

        Entered again, a name goes on with its group. An object that is changed in two groups
        makes them one.
        """
        outer = self._group
        self._group = self._groups.named(name, guards)
        try:
            yield
        finally:
            self._group = outer

    def touches(self, obj: StoreObject) -> bool:
        """Is the object changed here?"""
        return obj.id in self._rows[table_of(obj)]

    @property
    def empty(self) -> bool:
        return not self._net()

    def changes(self) -> list[StoreChange]:
        """From the base to this draft, one per object."""
        return [
            StoreChange(self._base.revision, row[0], old, new)
            for row, (old, new) in self._net().items()
        ]

    def transactions(self, who: str = "brain") -> list[Transaction]:
        """To be proposed, one per group. They take effect if what they replace is unchanged."""
        return self._groups.transactions(self._net(), who)

    def split(
        self,
        max_bytes: int = BATCH_BYTES_MAX,
        max_changes: int = BATCH_CHANGES_MAX,
        who: str = "brain",
    ) -> list[list[Transaction]]:
        """The transactions in pieces, each for a log entry of its own, whole groups in each."""
        return batches(self.transactions(who), max_bytes, max_changes)

    def _net(self) -> dict[RowKey, tuple[StoreObject | None, StoreObject | None]]:
        return {
            row: (old, new)
            for row, old in self._originals.items()
            if (new := self._rows[row[0]][row[1]]) is not None or old is not None
        }

    def _existing(self, table: Table.ValueType, key: str) -> StoreObject:
        obj = self._get(table, key)
        if obj is None:
            raise ValueError(f"{noun_of(table)} {key} is not there")
        return obj

    def _change(
        self,
        table: Table.ValueType,
        key: str,
        old: StoreObject | None,
        new: StoreObject | None,
    ) -> None:
        self._originals.setdefault((table, key), old)
        self._groups.add((table, key), self._group)
        self._rows[table][key] = new
        if table == TABLE_TASK:
            self._move_task(key, cast("Task | None", old), cast("Task | None", new))
        elif table == TABLE_SERVICE:
            self._move_service(key, cast("Service | None", old), cast("Service | None", new))
        elif table == TABLE_SERVICE_REVISION:
            row = cast("ServiceRevision", new or old)
            self._revisions_of.setdefault(row.service_id, {})[row.revision] = new is not None
            self._touched_services[row.service_id] = None

    def _move_task(self, key: str, old: Task | None, new: Task | None) -> None:
        for task, sign in ((old, -1), (new, +1)):
            if task is None:
                continue
            for group in _groups_of(task):
                self._tasks_by.setdefault(group, {})[key] = new
            self._uses[task.service_id, task.revision] += sign
            self._touched_services[task.service_id] = None
            self._touched_slots[slot_key(task)] = None

    def _move_service(self, key: str, old: Service | None, new: Service | None) -> None:
        self._touched_services[key] = None
        if old is not None:
            if self._names.get(old.name, key) == key:
                self._names[old.name] = None
            for port in ingress_ports(old):
                if self._ports.get(port, key) == key:
                    self._ports[port] = None
            for port in host_ports(old):
                self._host_ports.setdefault(port, {})[key] = False
        if new is not None:
            self._names[new.name] = key
            for port in ingress_ports(new):
                self._ports[port] = key
            for port in host_ports(new):
                self._host_ports.setdefault(port, {})[key] = True

    # Reads: see View for what they mean.

    @property
    def revision(self) -> int:
        """The base's: a draft has none of its own."""
        return self._base.revision

    def cluster(self) -> Cluster | None:
        changed = self._rows[TABLE_CLUSTER]
        for row in changed.values():
            if row is not None:
                return cast("Cluster", row)
        base = self._base.cluster()
        return base if base is not None and base.id not in changed else None

    def node(self, node_id: str) -> Node | None:
        return self._row(TABLE_NODE, node_id, self._base.node)

    def service(self, service_id: str) -> Service | None:
        return self._row(TABLE_SERVICE, service_id, self._base.service)

    def task(self, task_id: str) -> Task | None:
        return self._row(TABLE_TASK, task_id, self._base.task)

    def member(self, raft_id: int) -> Member | None:
        return self._row(TABLE_MEMBER, str(raft_id), lambda _: self._base.member(raft_id))

    def secret(self, secret_id: str) -> Secret | None:
        return self._row(TABLE_SECRET, secret_id, self._base.secret)

    def config(self, config_id: str) -> Config | None:
        return self._row(TABLE_CONFIG, config_id, self._base.config)

    def image(self, image_id: str) -> Image | None:
        return self._row(TABLE_IMAGE, image_id, self._base.image)

    def revision_row(self, service_id: str, revision: int) -> ServiceRevision | None:
        return self._row(
            TABLE_SERVICE_REVISION,
            revision_id(service_id, revision),
            lambda _: self._base.revision_row(service_id, revision),
        )

    def spec(self, service_id: str, revision: int) -> ServiceSpec | None:
        row = self.revision_row(service_id, revision)
        return row.spec if row is not None else None

    def nodes(self) -> Iterable[Node]:
        return _merged(self._base.nodes(), self._changed(TABLE_NODE, Node))

    def services(self) -> Iterable[Service]:
        return _merged(self._base.services(), self._changed(TABLE_SERVICE, Service))

    def tasks(self) -> Iterable[Task]:
        return _merged(self._base.tasks(), self._changed(TABLE_TASK, Task))

    def members(self) -> Iterable[Member]:
        return _merged(self._base.members(), self._changed(TABLE_MEMBER, Member))

    def secrets(self) -> Iterable[Secret]:
        return _merged(self._base.secrets(), self._changed(TABLE_SECRET, Secret))

    def configs(self) -> Iterable[Config]:
        return _merged(self._base.configs(), self._changed(TABLE_CONFIG, Config))

    def images(self) -> Iterable[Image]:
        return _merged(self._base.images(), self._changed(TABLE_IMAGE, Image))

    def image_by_name(self, name: str) -> Image | None:
        changed = self._changed(TABLE_IMAGE, Image)
        for row in changed.values():
            if row is not None and name in row.names:
                return row
        base = self._base.image_by_name(name)
        return base if base is not None and base.id not in changed else None

    def images_kept_by(self, node_id: str) -> Collection[str]:
        """As the base has it: nodes are told what is committed."""
        return self._base.images_kept_by(node_id)

    def secret_by_name(self, name: str) -> Secret | None:
        base = self._base.secret_by_name(name)
        return _named(name, base, self._changed(TABLE_SECRET, Secret))

    def config_by_name(self, name: str) -> Config | None:
        base = self._base.config_by_name(name)
        return _named(name, base, self._changed(TABLE_CONFIG, Config))

    def services_using(self, table: Table.ValueType, key: str) -> list[str]:
        """As the base has it: who removes a secret or a config asks what is committed."""
        return self._base.services_using(table, key)

    def service_by_name(self, name: str) -> Service | None:
        if name in self._names:
            service_id = self._names[name]
            return self.service(service_id) if service_id is not None else None
        return self._base.service_by_name(name)

    def nodes_by_hostname(self, hostname: str) -> Collection[Node]:
        return _merged(
            self._base.nodes_by_hostname(hostname),
            self._changed(TABLE_NODE, Node),
            lambda node: node.description.hostname == hostname,
        )

    def tasks_of_service(self, service_id: str) -> Collection[Task]:
        return _overlaid(
            self._base.tasks_of_service(service_id),
            self._tasks_by.get(("service", service_id)),
            lambda task: task.service_id == service_id,
        )

    def tasks_of_node(self, node_id: str) -> Collection[Task]:
        return _overlaid(
            self._base.tasks_of_node(node_id),
            self._tasks_by.get(("node", node_id)),
            lambda task: task.node_id == node_id,
        )

    def tasks_of_slot(self, service_id: str, slot: int, node_id: str = "") -> Collection[Task]:
        key = slot_key_of(service_id, slot, node_id)
        return _overlaid(
            self._base.tasks_of_slot(service_id, slot, node_id),
            self._tasks_by.get(key),
            lambda task: slot_key(task) == key,
        )

    def revisions_of_service(self, service_id: str) -> Sequence[int]:
        revisions = self._base.revisions_of_service(service_id)
        changed = self._revisions_of.get(service_id)
        if not changed:
            return revisions
        kept = dict.fromkeys(revisions, True) | changed
        return sorted(revision for revision, there in kept.items() if there)

    def revision_uses(self, service_id: str, revision: int) -> int:
        base = self._base.revision_uses(service_id, revision)
        return base + self._uses[service_id, revision]

    def port_holder(self, protocol: PortProtocol.ValueType, published_port: int) -> str | None:
        key = (protocol, published_port)
        if key in self._ports:
            return self._ports[key]
        return self._base.port_holder(protocol, published_port)

    def host_port_holders(
        self, protocol: PortProtocol.ValueType, published_port: int
    ) -> Collection[str]:
        held = dict.fromkeys(self._base.host_port_holders(protocol, published_port), True)
        held |= self._host_ports.get((protocol, published_port), {})
        return [service_id for service_id, there in held.items() if there]

    def ids_with_prefix(self, table: Table.ValueType, prefix: str, limit: int = 2) -> list[str]:
        changed = self._rows[table]
        ids = self._base.ids_with_prefix(table, prefix, limit + len(changed))
        kept = dict.fromkeys(key for key in ids if key not in changed)
        for key, row in changed.items():
            if row is not None and key.startswith(prefix):
                kept[key] = None
        return sorted(kept)[:limit]

    def tasks_unassigned(self) -> Collection[Task]:
        return self._bucket(self._base.tasks_unassigned(), is_unassigned)

    def tasks_delayed(self) -> Collection[Task]:
        return self._bucket(self._base.tasks_delayed(), is_delayed)

    def tasks_to_reap(self) -> Collection[Task]:
        return self._bucket(self._base.tasks_to_reap(), is_to_reap)

    def tasks_ended_wanted(self) -> Collection[Task]:
        return self._bucket(self._base.tasks_ended_wanted(), is_ended_wanted)

    def unsettled_services(self) -> Collection[str]:
        """Those of the base, and those that this draft touches."""
        return list(dict.fromkeys((*self._base.unsettled_services(), *self._touched_services)))

    def nodes_not_ready(self) -> Collection[Node]:
        return _merged(
            self._base.nodes_not_ready(),
            self._changed(TABLE_NODE, Node),
            lambda node: node.status.state != NODE_STATE_READY,
        )

    def slots_over_history(self) -> Collection[SlotKey]:
        cluster = self.cluster()
        if cluster is None or (limit := cluster.spec.task_history_limit) < 0:
            return []
        slots = [s for s in self._base.slots_over_history() if s not in self._touched_slots]
        slots += [s for s in self._touched_slots if len(self.tasks_of_slot(*s)) > max(limit, 1)]
        return slots

    def services_to_prune(self) -> Collection[str]:
        candidates = dict.fromkeys((*self._base.services_to_prune(), *self._touched_services))
        return [service_id for service_id in candidates if needs_pruning(self, service_id)]

    def _get(self, table: Table.ValueType, key: str) -> StoreObject | None:
        if key in self._rows[table]:
            return self._rows[table][key]
        if table == TABLE_CLUSTER:
            cluster = self._base.cluster()
            return cluster if cluster is not None and cluster.id == key else None
        if table == TABLE_MEMBER:
            return self._base.member(int(key))
        if table == TABLE_SERVICE_REVISION:
            service_id, _, revision = key.rpartition(".")
            return self._base.revision_row(service_id, int(revision))
        if table == TABLE_NODE:
            return self._base.node(key)
        if table == TABLE_SERVICE:
            return self._base.service(key)
        if table == TABLE_SECRET:
            return self._base.secret(key)
        if table == TABLE_CONFIG:
            return self._base.config(key)
        if table == TABLE_IMAGE:
            return self._base.image(key)
        return self._base.task(key)

    def _row(
        self, table: Table.ValueType, key: str, of_base: Callable[[str], _Row | None]
    ) -> _Row | None:
        changed = self._rows[table]
        return cast("_Row | None", changed[key]) if key in changed else of_base(key)

    def _changed(self, table: Table.ValueType, _kind: type[_Row]) -> Mapping[str, _Row | None]:
        return cast("Mapping[str, _Row | None]", self._rows[table])

    def _bucket(
        self, base: Collection[Task], belongs: Callable[[int, int], bool]
    ) -> Collection[Task]:
        return _overlaid(
            base,
            self._changed(TABLE_TASK, Task),
            lambda task: belongs(task.status.state, task.desired_state),
        )


_File = TypeVar("_File", Secret, Config)


def _named(name: str, base: _File | None, changed: Mapping[str, _File | None]) -> _File | None:
    """The one with that name, where `base` had it before the changes."""
    for row in changed.values():
        if row is not None and row.spec.annotations.name == name:
            return row
    return base if base is not None and base.id not in changed else None


def _groups_of(task: Task) -> list[Hashable]:
    groups: list[Hashable] = [("service", task.service_id), slot_key(task)]
    if task.node_id:
        groups.append(("node", task.node_id))
    return groups


def _overlaid(
    base: Collection[_Row],
    changed: Mapping[str, _Row | None] | None,
    belongs: Callable[[_Row], bool],
) -> Collection[_Row]:
    """The base's own collection where nothing in it changed."""
    return _merged(base, changed, belongs) if changed else base


def _merged(
    base: Iterable[_Row],
    changed: Mapping[str, _Row | None],
    belongs: Callable[[_Row], bool] = lambda _: True,
) -> list[_Row]:
    """The base's rows in their order, each as it is now, then those that came."""
    rows: list[_Row] = []
    replaced: dict[str, None] = {}
    for row in base:
        now: _Row | None = row
        if row.id in changed:
            replaced[row.id] = None
            now = changed[row.id]
        if now is not None and belongs(now):
            rows.append(now)
    rows.extend(
        row
        for key, row in changed.items()
        if row is not None and key not in replaced and belongs(row)
    )
    return rows
