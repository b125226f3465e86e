"""Store changes as Docker's events."""

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_DRAIN, NODE_STATE_DOWN, Node
from swarm.api.v1.service_pb2 import UPDATE_STATE_UPDATING, Service, ServiceRevision
from swarm.api.v1.store_pb2 import (
    TABLE_SERVICE,
    Change,
    Deletion,
    LogPayload,
    Object,
    TaskStatusChange,
    Transaction,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_FAILED,
    TASK_STATE_PREPARING,
    TASK_STATE_RUNNING,
    ContainerStatus,
    Task,
    TaskStatus,
)
from swarm.manager.core.cluster_events import events_of
from swarm.manager.core.store import Store


class Log:
    def __init__(self) -> None:
        self.store = Store(check_mutation=True)
        self.index = 0

    def apply(self, *changes: Change) -> list[tuple[str, str, dict[str, str]]]:
        """What the entry is told as."""
        self.index += 1
        payload = LogPayload(
            proposed_at_ns=1_000 + self.index, transactions=[Transaction(changes=changes)]
        )
        applied = self.store.apply(self.index, 1, payload)
        assert not applied.verdicts[0].code, applied.verdicts[0].message
        told = list(events_of(applied.changes, self.store))
        assert all(event.at_ns == 1_000 + self.index for event in told)
        return [(event.kind, event.action, dict(event.attributes)) for event in told]

    def create(self, **rows):
        return self.apply(*(Change(create=Object(**{kind: row})) for kind, row in rows.items()))

    def replace(self, **rows):
        (kind, row), *more = rows.items()
        change = Change(replace=Object(**{kind: row}), expected_version=row.meta.version)
        return self.apply(change, *(Change(create=Object(**{k: r})) for k, r in more))


def revision(number: int, replicas: int, image: str) -> ServiceRevision:
    row = ServiceRevision(id=f"s.{number}", service_id="s", revision=number)
    row.spec.task.container.image = image
    row.spec.replicated.replicas = replicas
    return row


def copy(row):
    made = type(row)()
    made.CopyFrom(row)
    return made


def test_a_services_life() -> None:
    log = Log()
    assert log.create(cluster=Cluster(id="c")) == []
    service = Service(id="s", name="web", revision=1, task_revision=1)
    told = log.create(service=service, service_revision=revision(1, 1, "a"))
    assert told == [("service", "create", {"name": "web"})]
    service = copy(log.store.service("s"))
    service.revision = 2
    assert log.replace(service=service, service_revision=revision(2, 3, "b")) == [
        (
            "service",
            "update",
            {
                "name": "web",
                "revision": "2",
                "replicas.old": "1",
                "replicas.new": "3",
                "image.old": "a",
                "image.new": "b",
            },
        )
    ]
    service = copy(log.store.service("s"))
    service.update.state = UPDATE_STATE_UPDATING
    assert log.replace(service=service) == [
        ("service", "update", {"name": "web", "updatestate.new": "updating"})
    ]
    service = copy(log.store.service("s"))
    service.update.slots = 7
    assert log.replace(service=service) == [], "nothing that a user sees"
    deletion = Deletion(table=TABLE_SERVICE, id="s")
    assert log.apply(Change(delete=deletion)) == [("service", "remove", {"name": "web"})]
    kept = [event.action for event in events_of(log.store.changes_kept(), log.store)]
    assert kept == ["create", "update", "update", "remove"]


def test_a_nodes_and_a_tasks() -> None:
    log = Log()
    node = Node(id="n")
    node.description.hostname = "beta"
    assert log.create(node=node) == [("node", "create", {"name": "beta"})]
    node = copy(log.store.node("n"))
    node.spec.availability = NODE_AVAILABILITY_DRAIN
    node.status.state = NODE_STATE_DOWN
    assert log.replace(node=node) == [
        (
            "node",
            "update",
            {
                "name": "beta",
                "availability.old": "active",
                "availability.new": "drain",
                "state.old": "unknown",
                "state.new": "down",
            },
        )
    ]
    node = copy(log.store.node("n"))
    node.spec.annotations.labels["zone"] = "a"
    assert log.replace(node=node) == [("node", "update", {"name": "beta"})]
    node = copy(log.store.node("n"))
    node.description.resources.nano_cpus = 5
    assert log.replace(node=node) == []
    task = Task(id="t", service_id="s", service_name="web", slot=2, node_id="n")
    about = {"name": "web.2", "service": "web", "node": "beta"}
    assert log.create(task=task) == [("task", "create", about)]

    def report(status: TaskStatus):
        return log.apply(Change(task_status=TaskStatusChange(task_id="t", status=status)))

    assert report(TaskStatus(state=TASK_STATE_PREPARING)) == []
    assert report(TaskStatus(state=TASK_STATE_RUNNING)) == [("task", "running", about)]
    failed = TaskStatus(
        state=TASK_STATE_FAILED,
        err="task: non-zero exit (3)",
        container=ContainerStatus(exit_code=3),
    )
    assert report(failed) == [
        ("task", "failed", about | {"error": "task: non-zero exit (3)", "exitCode": "3"})
    ]
