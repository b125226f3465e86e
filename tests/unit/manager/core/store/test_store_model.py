"""The store against an obvious model: plain dicts, whole copies to undo, scans for indexes."""

import copy
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.node_pb2 import Node
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import (
    UPDATE_STATE_PAUSED,
    UPDATE_STATE_ROLLBACK_STARTED,
    UPDATE_STATE_UPDATING,
    Service,
    ServiceRevision,
)
from swarm.api.v1.store_pb2 import (
    TABLE_CLUSTER,
    TABLE_NODE,
    TABLE_SECRET,
    TABLE_SERVICE,
    TABLE_SERVICE_REVISION,
    TABLE_TASK,
    VERDICT_EXISTS,
    VERDICT_IN_USE,
    VERDICT_NAME_TAKEN,
    VERDICT_NOT_FOUND,
    VERDICT_OK,
    VERDICT_PORT_TAKEN,
    VERDICT_VERSION,
    Change,
    Deletion,
    Guard,
    LogPayload,
    TaskStatusChange,
    Transaction,
)
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task, TaskStatus
from swarm.api.v1.types_pb2 import PUBLISH_MODE_HOST, PUBLISH_MODE_INGRESS, PortConfig
from swarm.manager.core.store import Store, prunable_revisions, slot_key, table_of, wanted, wrap

STATES = (0, 64, 192, 320, 512, 576, 640, 704, 832)
DESIRED = (384, 512, 640, 800)


def some_object(rng: Random) -> Any:
    n = rng.randrange(4)
    match rng.choice("cttttnssrrkk"):
        case "c":
            cluster = Cluster(id="c", incarnation=n)
            cluster.spec.task_history_limit = rng.randint(-1, 3)
            return cluster
        case "t":
            task = Task(
                id=f"t{rng.randrange(12)}",
                service_id=f"s{n}",
                slot=rng.randrange(3),
                node_id=rng.choice(("", "n0", "n1")),
                revision=rng.choice((1, 1, 2)),
                desired_state=rng.choice(DESIRED),
            )
            task.status.state = rng.choice(STATES)
            return task
        case "n":
            node = Node(id=f"n{n}")
            node.description.hostname = rng.choice("ab")
            node.status.state = rng.randrange(4)
            return node
        case "s":
            numbers = rng.sample(range(80, 84), rng.randrange(3))
            ports = [PortConfig(published_port=p, publish_mode=rng.randrange(2)) for p in numbers]
            name = f"name{rng.choice((n, n, rng.randrange(4)))}"
            service = Service(
                id=f"s{n}", name=name, revision=rng.randint(1, 2), task_revision=1, ports=ports
            )
            service.previous_revision = rng.randint(0, 2)
            service.update.state = rng.choice((0, 0, 0, 1, 2, 3, 4))
            return service
        case "k":
            secret = Secret(id=f"k{n}")
            secret.spec.annotations.name = f"key{rng.choice((n, n, rng.randrange(4)))}"
            return secret
        case _:
            number = rng.choice((1, 2, rng.randint(1, 25)))
            row = ServiceRevision(id=f"s{n}.{number}", service_id=f"s{n}", revision=number)
            row.spec.replicated.replicas = rng.randrange(3)
            for secret in rng.sample(range(4), rng.randrange(3)):
                row.spec.task.container.secrets.add(secret_id=f"k{secret}")
            return row


class Model:
    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {
            t: {}
            for t in (
                TABLE_CLUSTER,
                TABLE_NODE,
                TABLE_SERVICE,
                TABLE_SERVICE_REVISION,
                TABLE_TASK,
                TABLE_SECRET,
            )
        }
        self.revision = 0
        self.verdicts: dict[str, tuple[int, int]] = {}

    def apply(self, tx: Transaction, at_ns: int) -> tuple[int, int]:
        if tx.request_id in self.verdicts:
            return self.verdicts[tx.request_id]
        before = copy.deepcopy(self.rows)
        code, changed = self.perform(tx, at_ns)
        if code != VERDICT_OK:
            self.rows = before
        elif changed:
            self.revision += 1
        if tx.request_id:
            self.verdicts[tx.request_id] = code, self.revision
        return code, self.revision

    def perform(self, tx: Transaction, at_ns: int) -> tuple[int, bool]:
        for guard in tx.guards:
            row = self.rows[guard.table].get(guard.id)
            if row is None:
                return VERDICT_NOT_FOUND, False
            if row.meta.version != guard.version:
                return VERDICT_VERSION, False
        changed = False
        for change in tx.changes:
            code, effect = self.change(change, at_ns)
            if code != VERDICT_OK:
                return code, False
            changed = changed or effect
        return VERDICT_OK, changed

    def change(self, change: Change, at_ns: int) -> tuple[int, bool]:
        match change.WhichOneof("operation"):
            case "delete":
                row = self.rows[change.delete.table].get(change.delete.id)
                if row is None:
                    return VERDICT_NOT_FOUND, False
                if change.expected_version not in (0, row.meta.version):
                    return VERDICT_VERSION, False
                if isinstance(row, Secret) and self.users(row.id):
                    return VERDICT_IN_USE, False
                del self.rows[change.delete.table][change.delete.id]
                return VERDICT_OK, True
            case "task_status":
                row = self.rows[TABLE_TASK].get(change.task_status.task_id)
                new = change.task_status.status
                if row is None or (new.state, new.timestamp_ns) < (
                    row.status.state,
                    row.status.timestamp_ns if new.state == row.status.state else -1,
                ):
                    return VERDICT_OK, False
                if new == row.status:
                    return VERDICT_OK, False
                row = copy.deepcopy(row)
                row.status.CopyFrom(new)
                if new.state == TASK_STATE_RUNNING:
                    row.running_at_ns = row.running_at_ns or at_ns
                return self.put(row, row.meta.created_at_ns, at_ns)
            case "create":
                obj = inner(change.create)
                if obj.id in self.rows[table_of(obj)]:
                    return VERDICT_EXISTS, False
                return self.put(obj, at_ns, at_ns)
            case _:
                obj = inner(change.replace)
                row = self.rows[table_of(obj)].get(obj.id)
                if row is None:
                    return VERDICT_NOT_FOUND, False
                if change.expected_version != row.meta.version:
                    return VERDICT_VERSION, False
                return self.put(obj, row.meta.created_at_ns, at_ns)

    def put(self, obj: Any, created: int, updated: int) -> tuple[int, bool]:
        if isinstance(obj, Service):
            for other in self.rows[TABLE_SERVICE].values():
                if other.id != obj.id and other.name == obj.name:
                    return VERDICT_NAME_TAKEN, False
            for other in self.rows[TABLE_SERVICE].values():
                if other.id != obj.id and port_clash(other, obj):
                    return VERDICT_PORT_TAKEN, False
        if isinstance(obj, Secret):
            for other in self.rows[TABLE_SECRET].values():
                if other.id != obj.id and name_of(other) == name_of(obj):
                    return VERDICT_NAME_TAKEN, False
        obj.meta.version = self.revision + 1
        obj.meta.created_at_ns, obj.meta.updated_at_ns = created, updated
        self.rows[table_of(obj)][obj.id] = obj
        return VERDICT_OK, True

    def users(self, secret_id: str) -> list[str]:
        """The services that a secret can't be taken from."""
        found: set[str] = set()
        for service in self.rows[TABLE_SERVICE].values():
            used = {service.revision}
            if service.update.state in (UPDATE_STATE_UPDATING, UPDATE_STATE_PAUSED):
                used.add(service.previous_revision)
            for task in self.rows[TABLE_TASK].values():
                if task.service_id == service.id and wanted(task):
                    used.add(task.revision)
            for number in used:
                row = self.rows[TABLE_SERVICE_REVISION].get(f"{service.id}.{number}")
                secrets = row.spec.task.container.secrets if row is not None else ()
                if secret_id in [secret.secret_id for secret in secrets]:
                    found.add(service.name)
        return sorted(found)


def name_of(secret: Secret) -> str:
    return secret.spec.annotations.name


def inner(wrapped: Any) -> Any:
    return copy.deepcopy(getattr(wrapped, wrapped.WhichOneof("kind")))


def published(service: Service, mode: int = PUBLISH_MODE_INGRESS) -> set[int]:
    return {p.published_port for p in service.ports if p.publish_mode == mode}


def port_clash(one: Service, other: Service) -> bool:
    """One service's ingress port is published by nobody else, in whatever mode."""
    mine, theirs = published(one), published(other)
    host, their_host = (published(s, PUBLISH_MODE_HOST) for s in (one, other))
    return bool(mine & (theirs | their_host) or theirs & host)


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.store = Store(check_mutation=True)
        self.model = Model()
        self.index = 0
        self.now_ns = 10**18

    def transaction(self, rng: Random) -> Transaction:
        """Mostly one that takes effect, or that fails at its last change."""
        tx = Transaction(request_id=f"r{rng.randrange(40)}" if rng.random() < 0.2 else "")
        for _ in range(rng.randint(1, 4)):
            obj = some_object(rng)
            table = table_of(obj)
            present = self.model.rows[table].get(obj.id)
            version = present.meta.version if present is not None else 0
            if rng.random() < 0.1:
                version = rng.randrange(30)
            kind = rng.choice(("replace", "replace", "delete", "status"))
            if present is None and rng.random() < 0.9:
                kind = "create"
            tx.changes.append(self.change(kind, obj, version, rng))
            if rng.random() < 0.1:
                tx.guards.append(Guard(table=table, id=obj.id, version=version))
        return tx

    def change(self, kind: str, obj: Any, version: int, rng: Random) -> Change:
        match kind:
            case "create":
                return Change(create=wrap(obj))
            case "replace":
                return Change(replace=wrap(obj), expected_version=version)
            case "delete":
                deletion = Deletion(table=table_of(obj), id=obj.id)
                return Change(delete=deletion, expected_version=version)
            case _:
                status = TaskStatus(state=rng.choice(STATES), timestamp_ns=rng.randrange(4))
                task_id = f"t{rng.randrange(12)}"
                return Change(task_status=TaskStatusChange(task_id=task_id, status=status))

    @rule(seed=st.integers(0, 2**32))
    def apply(self, seed: int) -> None:
        rng = Random(seed)
        self.index += 1
        self.now_ns += 1
        payload = LogPayload(
            proposed_at_ns=self.now_ns,
            transactions=[self.transaction(rng) for _ in range(rng.randint(1, 4))],
        )
        before = self.store.revision
        applied = self.store.apply(self.index, 1, payload)
        expected = [self.model.apply(tx, self.now_ns) for tx in payload.transactions]
        assert [(v.code, v.revision) for v in applied.verdicts] == expected
        assert self.store.changes_since(before) == list(applied.changes)

    @rule()
    def through_a_snapshot(self) -> None:
        pieces = list(self.store.snapshot(self.index, 1, ConfState()).pieces())
        restored = Store.restore(pieces, check_mutation=True)
        for table in self.model.rows:
            assert restored.digest(table) == self.store.digest(table)
        self.store = restored

    @invariant()
    def same_rows(self) -> None:
        rows, store = self.model.rows, self.store
        assert store.revision == self.model.revision
        assert by_id(store.nodes()) == rows[TABLE_NODE]
        assert by_id(store.services()) == rows[TABLE_SERVICE]
        assert by_id(store.tasks()) == rows[TABLE_TASK]
        assert by_id(store.secrets()) == rows[TABLE_SECRET]
        assert store.cluster() == rows[TABLE_CLUSTER].get("c")
        store.check()

    @invariant()
    def same_indexes(self) -> None:
        check_indexes(self.store)
        for n in range(4):
            key = f"k{n}"
            assert self.store.services_using(TABLE_SECRET, key) == self.model.users(key)


def by_id(rows: Any) -> dict[str, Any]:
    return {row.id: row for row in rows}


def ids(rows: Any) -> set[str]:
    found = [row if isinstance(row, str) else row.id for row in rows]
    assert len(found) == len(set(found))
    return set(found)


def check_indexes(view: Any) -> None:
    """Every index of a view against a scan of its tables."""
    tasks, services, nodes = list(view.tasks()), by_id(view.services()), list(view.nodes())
    for n in range(4):
        service = f"s{n}"
        mine = [t for t in tasks if t.service_id == service]
        assert ids(view.tasks_of_service(service)) == ids(mine)
        assert ids(view.tasks_of_node(f"n{n}")) == ids(t for t in tasks if t.node_id == f"n{n}")
        for slot in range(3):
            for node in ("", "n0", "n1"):
                key = (service, slot, "" if slot else node)
                assert ids(view.tasks_of_slot(service, slot, node)) == ids(
                    t for t in mine if slot_key(t) == key
                )
        for revision in (1, 2):
            uses = [t for t in mine if t.revision == revision]
            assert view.revision_uses(service, revision) == len(uses)
        secrets = [s for s in view.secrets() if name_of(s) == f"key{n}"]
        assert view.secret_by_name(f"key{n}") == (secrets[0] if secrets else None)
        named = [s for s in services.values() if s.name == f"name{n}"]
        assert view.service_by_name(f"name{n}") == (named[0] if named else None)
        holders = [s.id for s in services.values() if 80 + n in published(s)]
        assert view.port_holder(0, 80 + n) == (holders[0] if holders else None)
        on_hosts = [s.id for s in services.values() if 80 + n in published(s, PUBLISH_MODE_HOST)]
        assert sorted(view.host_port_holders(0, 80 + n)) == sorted(on_hosts)
        assert list(view.revisions_of_service(service)) == [
            number for number in range(26) if view.revision_row(service, number) is not None
        ]
    for hostname in ("a", "b"):
        assert ids(view.nodes_by_hostname(hostname)) == ids(
            node for node in nodes if node.description.hostname == hostname
        )
    assert ids(view.nodes_not_ready()) == ids(node for node in nodes if node.status.state != 2)
    assert view.ids_with_prefix(TABLE_TASK, "t", 99) == sorted(t.id for t in tasks)
    assert view.ids_with_prefix(TABLE_TASK, "t", 1) == sorted(t.id for t in tasks)[:1]
    check_unsettled(view, tasks, services)


def check_unsettled(view: Any, tasks: list[Task], services: dict[str, Service]) -> None:
    def bucket(belongs: Any) -> set[str]:
        return {t.id for t in tasks if belongs(t.status.state, t.desired_state)}

    assert ids(view.tasks_unassigned()) == bucket(lambda s, d: s < 192 and d <= 512)
    assert ids(view.tasks_delayed()) == bucket(lambda s, d: d == 384 and s <= 512)
    assert ids(view.tasks_ended_wanted()) == bucket(lambda s, d: s > 512 and d <= 512)
    assert ids(view.tasks_to_reap()) == bucket(
        lambda s, d: (d == 800 and s > 512) or (d >= 640 and s < 192)
    )
    cluster = view.cluster()
    limit = cluster.spec.task_history_limit if cluster is not None else -1
    slots = [slot_key(t) for t in tasks]
    over = {s for s in slots if limit >= 0 and slots.count(s) > max(limit, 1)}
    assert set(view.slots_over_history()) == over
    rows = [len(view.revisions_of_service(f"s{n}")) for n in range(4)]
    prune = {f"s{n}" for n in range(4) if rows[n] > (20 if f"s{n}" in services else 0)}
    assert set(view.services_to_prune()) == prune
    for service_id in prune:
        pruned = prunable_revisions(view, service_id)
        assert not any(view.revision_uses(service_id, number) for number in pruned)
    unsettled = {f"s{n}" for n in range(4) if is_unsettled(view, f"s{n}", tasks, services)}
    if isinstance(view, Store):
        assert set(view.unsettled_services()) == unsettled
    else:
        assert set(view.unsettled_services()) >= unsettled


def is_unsettled(
    view: Any, service_id: str, tasks: list[Task], services: dict[str, Service]
) -> bool:
    mine = [t for t in tasks if t.service_id == service_id]
    service = services.get(service_id)
    if service is None:
        return any(t.desired_state < 800 for t in mine)
    spec = view.spec(service_id, service.revision)
    if spec is None or service.update.state in (
        UPDATE_STATE_UPDATING,
        UPDATE_STATE_ROLLBACK_STARTED,
    ):
        return True
    live = [t for t in mine if wanted(t)]
    slots = {slot_key(t) for t in live}
    same = all(t.revision == service.task_revision for t in live)
    return not (len(live) == len(slots) == spec.replicated.replicas and same)


StoreMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, derandomize=True
)
TestStore = StoreMachine.TestCase
