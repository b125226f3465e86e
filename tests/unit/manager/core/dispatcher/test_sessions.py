"""What agents are sent, and what becomes of their statuses."""

import pytest

from swarm.api.v1.cluster_pb2 import Cluster, ClusterSpec
from swarm.api.v1.dispatcher_pb2 import SessionHello, TaskStatusUpdate
from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, NODE_STATE_DOWN, Node, NodeStatus
from swarm.api.v1.service_pb2 import ReplicatedService, Service, ServiceRevision, ServiceSpec
from swarm.api.v1.store_pb2 import (
    TABLE_IMAGE,
    TABLE_NODE,
    TABLE_SERVICE,
    TABLE_TASK,
    Change,
    LogPayload,
    TaskStatusChange,
    Transaction,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_FAILED,
    TASK_STATE_PENDING,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    PortEndpoint,
    Task,
    TaskStatus,
)
from swarm.api.v1.types_pb2 import PortConfig
from swarm.manager.core.dispatcher.sessions import UNKNOWN_S, Sessions
from swarm.manager.core.store import Draft, Store


class Manager:
    """A store and the sessions that follow it."""

    def __init__(self):
        self.store = Store(check_mutation=True)
        self.sessions = Sessions()
        self.index = 0
        self.now = 10.0
        self.create(Cluster(id="c", incarnation=3, root_certificate_pem=b"root"))
        for name in "ab":
            self.create(Node(id=name, status=NodeStatus(state=2)))
        spec = ServiceSpec(replicated=ReplicatedService(replicas=2))
        for service in ("web", "db"):
            ports = [PortConfig(target_port=80, published_port=8080)] if service == "web" else []
            self.create(Service(id=service, name=service, revision=1, ports=ports))
            self.create(
                ServiceRevision(id=f"{service}.1", service_id=service, revision=1, spec=spec)
            )

    def apply(self, transactions):
        self.index += 1
        applied = self.store.apply(self.index, 1, LogPayload(transactions=transactions))
        self.sessions.changed(applied.changes, self.store, self.now)

    def write(self, change):
        draft = Draft(self.store)
        change(draft)
        self.apply(draft.transactions())

    def create(self, obj):
        self.write(lambda draft: draft.create(obj))

    def change(self, obj, **fields):
        new = type(obj)()
        new.CopyFrom(obj)
        for field, value in fields.items():
            setattr(new, field, value)
        self.write(lambda draft: draft.replace(new))

    def task(self, key, node="a", service="web", state=TASK_STATE_ASSIGNED):
        task = Task(
            id=key,
            service_id=service,
            slot=1,
            node_id=node,
            revision=1,
            desired_state=TASK_STATE_RUNNING,
            status=TaskStatus(state=state),
        )
        self.create(task)

    def status(self, key, state, at=1, **fields):
        status = TaskStatus(state=state, timestamp_ns=at, **fields)
        change = TaskStatusChange(task_id=key, status=status)
        self.apply([Transaction(changes=[Change(task_status=change)])])

    def open(self, node="a", session="s", incarnation=0, revision=0):
        hello = SessionHello(incarnation=incarnation, revision=revision)
        return self.sessions.opened(session, node, hello, self.now)

    def flush(self, session="s"):
        """Messages to one session that are due, by kind."""
        flushed = self.sessions.flush(self.store, self.now)
        return {
            message.WhichOneof("kind"): getattr(message, message.WhichOneof("kind"))
            for to, message in flushed.messages
            if to == session
        }

    def later(self, session="s"):
        self.now += 0.1
        return self.flush(session)


@pytest.fixture
def manager():
    return Manager()


@pytest.fixture
def opened(manager):
    manager.task("t1")
    manager.open()
    manager.flush()
    return manager


def update(key, state, at=1, **fields):
    return TaskStatusUpdate(task_id=key, status=TaskStatus(state=state, timestamp_ns=at, **fields))


def test_first_the_info_then_everything(manager):
    manager.task("t1")
    manager.task("t2", service="db")
    manager.task("other", node="b")
    manager.task("waits", state=TASK_STATE_PENDING)
    manager.open()
    messages = manager.flush()
    assert list(messages) == ["info", "assignments"]
    info = messages["info"]
    assert (info.session_id, info.heartbeat_period_ns, info.node.id) == ("s", 1_000_000_000, "a")
    assert info.root_certificate_pem == b"root"
    assignments = messages["assignments"]
    assert assignments.complete
    assert (assignments.incarnation, assignments.revision) == (3, manager.store.revision)
    assert [task.id for task in assignments.tasks] == ["t1", "t2"]
    assert [row.id for row in assignments.revisions] == ["web.1", "db.1"]
    assert [entry.service_id for entry in assignments.ingress] == ["web"]
    assert manager.sessions.next_flush() is None


def test_then_only_what_changed(opened):
    opened.task("t2", service="db")
    opened.change(opened.store.task("t1"), desired_state=TASK_STATE_SHUTDOWN)
    assignments = opened.later()["assignments"]
    assert not assignments.complete
    assert [task.id for task in assignments.tasks] == ["t2", "t1"]
    assert [row.id for row in assignments.revisions] == ["db.1"], "web.1 was sent before"
    opened.write(lambda draft: draft.delete(TABLE_TASK, "t1"))
    assignments = opened.later()["assignments"]
    assert (list(assignments.tasks), list(assignments.removed_task_ids)) == ([], ["t1"])


def test_a_status_is_no_news_to_its_agent(opened):
    opened.status("t1", TASK_STATE_FAILED)
    assert opened.sessions.next_flush() is None
    assert opened.later() == {}


def test_changes_are_collected_but_the_first_goes_at_once(opened):
    opened.now += 5
    opened.task("t2")
    assert [task.id for task in opened.flush()["assignments"].tasks] == ["t2"]
    opened.task("t3")
    opened.task("t4")
    assert opened.flush() == {}
    assert opened.sessions.next_flush() == opened.now + 0.1
    assert [task.id for task in opened.later()["assignments"].tasks] == ["t3", "t4"]


def test_a_manager_that_lags_waits_until_it_has_what_the_agent_has_seen(manager):
    manager.open(incarnation=3, revision=manager.store.revision + 2)
    assert manager.flush() == {}
    assert manager.sessions.next_flush() is None
    manager.task("t1")
    assert manager.flush() == {}
    manager.task("t2")
    assert [task.id for task in manager.flush()["assignments"].tasks] == ["t1", "t2"]


def test_an_older_incarnations_revision_means_nothing_and_a_newer_one_is_waited_for(manager):
    manager.open(incarnation=2, revision=10_000)
    assert "assignments" in manager.flush()
    manager.open(node="b", session="s2", incarnation=4)
    assert manager.flush("s2") == {}
    manager.change(manager.store.cluster(), incarnation=4)
    assert manager.flush("s2")["assignments"].incarnation == 4


def test_a_second_session_of_a_node_replaces_the_first(opened):
    assert opened.open(session="s2") == "s"
    opened.sessions.closed("s")
    opened.task("t2")
    flushed = opened.sessions.flush(opened.store, opened.now).messages
    assert {session for session, _ in flushed} == {"s2"}
    assert [m.assignments.complete for _, m in flushed] == [False, True]
    assert opened.sessions.session_of("a") == "s2"
    assert opened.sessions.node_of("s") is None


def test_info_again_when_something_in_it_changes(opened):
    node = Node()
    node.CopyFrom(opened.store.node("a"))
    node.spec.annotations.labels["zone"] = "north"
    opened.write(lambda draft: draft.replace(node))
    assert opened.later()["info"].node.spec.annotations.labels["zone"] == "north"
    opened.change(opened.store.node("a"), role=NODE_ROLE_MANAGER)
    assert opened.later()["info"].node.role == NODE_ROLE_MANAGER
    opened.change(opened.store.node("b"), role=NODE_ROLE_MANAGER)
    assert opened.later() == {}, "another node's row is none of its business"
    opened.change(opened.store.cluster(), root_certificate_pem=b"root2")
    assert opened.later()["info"].root_certificate_pem == b"root2"
    cluster = Cluster()
    cluster.CopyFrom(opened.store.cluster())
    cluster.spec.CopyFrom(ClusterSpec(heartbeat_period_ns=7))
    opened.write(lambda draft: draft.replace(cluster))
    assert opened.later()["info"].heartbeat_period_ns == 7


def test_a_removed_nodes_session_is_to_be_closed(opened):
    opened.now += 1
    opened.write(lambda draft: draft.delete(TABLE_NODE, "a"))
    assert opened.sessions.flush(opened.store, opened.now).close == ["s"]


def test_the_ingress_table_follows_tasks_and_is_sent_to_all(opened):
    opened.open(node="b", session="s2")
    opened.flush("s2")
    endpoint = PortEndpoint(target_port=80, host="10.0.0.1", port=31000)
    opened.status("t1", TASK_STATE_RUNNING, endpoints=[endpoint])
    opened.now += 0.1
    flushed = opened.sessions.flush(opened.store, opened.now).messages
    assert [session for session, _ in flushed] == ["s", "s2"]
    for _, message in flushed:
        (entry,) = message.assignments.ingress
        assert (entry.service_id, entry.ports[0].published_port) == ("web", 8080)
        assert [(b.task_id, b.endpoints[0].port) for b in entry.backends] == [("t1", 31000)]
    opened.change(opened.store.task("t1"), desired_state=TASK_STATE_SHUTDOWN)
    (entry,) = opened.later("s2")["assignments"].ingress
    assert list(entry.backends) == []


def test_backends_on_a_node_that_is_down_are_left_out_and_come_back(opened):
    opened.status("t1", TASK_STATE_RUNNING)
    opened.later()
    node = Node()
    node.CopyFrom(opened.store.node("a"))
    node.status.state = NODE_STATE_DOWN
    opened.write(lambda draft: draft.replace(node))
    assert len(opened.later()["assignments"].ingress[0].backends) == 0
    node.CopyFrom(opened.store.node("a"))
    node.status.state = 2
    opened.write(lambda draft: draft.replace(node))
    assert len(opened.later()["assignments"].ingress[0].backends) == 1


def test_a_service_that_publishes_nothing_any_more_is_said_so_once(opened):
    opened.write(lambda draft: draft.delete(TABLE_SERVICE, "web"))
    (entry,) = opened.later()["assignments"].ingress
    assert (entry.service_id, len(entry.ports)) == ("web", 0)
    opened.open(session="s2")
    assert list(opened.flush("s2")["assignments"].ingress) == []


def test_a_status_is_relayed_until_the_store_has_it_and_then_acknowledged(opened):
    first = update("t1", TASK_STATE_RUNNING)
    reported = opened.sessions.reported("s", [first], opened.store, opened.now)
    assert reported.relay == [first]
    assert opened.sessions.outstanding() == [first]
    assert opened.later() == {}
    opened.status("t1", TASK_STATE_RUNNING)
    assert list(opened.later()["acknowledged"].updates) == [first]
    assert opened.sessions.outstanding() == []


def test_only_the_latest_status_of_a_task_is_outstanding(opened):
    opened.sessions.reported("s", [update("t1", TASK_STATE_RUNNING)], opened.store, opened.now)
    last = update("t1", TASK_STATE_FAILED, at=2)
    opened.sessions.reported("s", [last], opened.store, opened.now)
    assert opened.sessions.outstanding() == [last]
    opened.status("t1", TASK_STATE_RUNNING)
    assert "acknowledged" not in opened.later()


def test_what_the_store_has_already_is_acknowledged_and_not_relayed(opened):
    opened.status("t1", TASK_STATE_FAILED, at=9)
    for known in (update("t1", TASK_STATE_FAILED, at=9), update("t1", TASK_STATE_RUNNING)):
        reported = opened.sessions.reported("s", [known], opened.store, opened.now)
        assert reported.relay == []
        assert list(opened.later()["acknowledged"].updates) == [known]


def test_statuses_of_tasks_that_are_gone_are_acknowledged(opened):
    waiting = update("t1", TASK_STATE_RUNNING)
    opened.sessions.reported("s", [waiting], opened.store, opened.now)
    opened.write(lambda draft: draft.delete(TABLE_TASK, "t1"))
    assert list(opened.later()["acknowledged"].updates) == [waiting]
    gone = update("nobody", TASK_STATE_RUNNING)
    assert opened.sessions.reported("s", [gone], opened.store, opened.now).relay == []
    assert list(opened.later()["acknowledged"].updates) == [gone]


def test_a_node_can_speak_for_itself_alone(opened):
    opened.task("foreign", node="b")
    reported = opened.sessions.reported(
        "s", [update("foreign", TASK_STATE_FAILED)], opened.store, opened.now
    )
    assert (reported.relay, reported.refused) == ([], ["foreign"])
    assert opened.sessions.outstanding() == []


def test_new_endpoints_of_a_running_task_are_news(opened):
    opened.status("t1", TASK_STATE_RUNNING, at=1)
    moved = update("t1", TASK_STATE_RUNNING, at=2, endpoints=[PortEndpoint(port=5)])
    assert opened.sessions.reported("s", [moved], opened.store, opened.now).relay == [moved]
    opened.status("t1", TASK_STATE_RUNNING, at=2, endpoints=[PortEndpoint(port=5)])
    assert list(opened.later()["acknowledged"].updates) == [moved]


def test_another_store_makes_everything_complete_again(opened):
    opened.sessions.reported("s", [update("t1", TASK_STATE_RUNNING)], opened.store, opened.now)
    other = Manager()
    other.task("t9")
    opened.store = other.store
    opened.sessions.restored(opened.store, opened.now)
    messages = opened.later()
    assignments = messages["assignments"]
    assert assignments.complete
    assert [task.id for task in assignments.tasks] == ["t9"]
    assert [row.id for row in assignments.revisions] == ["web.1"]
    assert [entry.service_id for entry in assignments.ingress] == ["web"]
    assert [u.task_id for u in messages["acknowledged"].updates] == ["t1"]


def takes_in(manager, digest):
    """The agent of node a says that it has the image."""
    node = Node()
    node.CopyFrom(manager.store.node("a"))
    node.description.images.digests.append(digest)
    manager.write(lambda draft: draft.replace(node))


def test_an_image_that_is_made_known_in_a_moment_is_not_forgotten(opened):
    takes_in(opened, "sha256:1")
    assert "image_duties" not in opened.later()
    opened.now += UNKNOWN_S / 2
    assert "image_duties" not in opened.flush()
    opened.create(Image(id="sha256:1", keeper_node_ids=["a"]))
    duties = opened.later()["image_duties"]
    assert (duties.keep, duties.forget) == (["sha256:1"], [])
    opened.now += UNKNOWN_S
    assert "image_duties" not in opened.flush()


def test_an_image_that_is_never_made_known_is_forgotten_in_the_end(opened):
    takes_in(opened, "sha256:1")
    opened.later()
    opened.status("t1", TASK_STATE_RUNNING)  # what is owed at once is not kept back by it
    assert opened.sessions.next_flush() <= opened.now + 0.1
    opened.later()
    opened.now = opened.sessions.next_flush()
    assert opened.flush()["image_duties"].forget == ["sha256:1"]
    assert opened.sessions.next_flush() is None


def test_an_image_that_is_removed_is_forgotten_at_once(opened):
    opened.create(Image(id="sha256:1", keeper_node_ids=["b"]))
    takes_in(opened, "sha256:1")
    opened.later()
    opened.write(lambda draft: draft.delete(TABLE_IMAGE, "sha256:1"))
    assert opened.later()["image_duties"].forget == ["sha256:1"]
