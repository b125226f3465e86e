"""Secrets and configs go to the nodes whose tasks need them, once, and are withdrawn."""

import pytest

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.dispatcher_pb2 import SessionHello
from swarm.api.v1.node_pb2 import Node, NodeStatus
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import Service, ServiceRevision, ServiceSpec
from swarm.api.v1.store_pb2 import Change, LogPayload, TaskStatusChange, Transaction
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_COMPLETE,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
    Task,
    TaskStatus,
)
from swarm.manager.core.dispatcher.sessions import Sessions
from swarm.manager.core.store import Draft, Store


class Manager:
    """A store with services `one` (secret k1, config c1), `both` (k1, k2) and `none`."""

    def __init__(self):
        self.store, self.sessions = Store(check_mutation=True), Sessions()
        self.index, self.now = 0, 10.0
        self.create(Cluster(id="c", incarnation=1))
        for name in "ab":
            self.create(Node(id=name, status=NodeStatus(state=2)))
        for key in ("k1", "k2"):
            row = Secret(id=key)
            row.spec.annotations.name, row.spec.data = key, f"bytes of {key}".encode()
            self.create(row)
        row = Config(id="c1")
        row.spec.annotations.name, row.spec.data = "c1", b"x" * 700_000
        self.create(row)
        self.serve("one", ["k1"], ["c1"])
        self.serve("both", ["k1", "k2"], [])
        self.serve("none", [], [])

    def serve(self, name, secrets, configs):
        spec = ServiceSpec()
        for key in secrets:
            spec.task.container.secrets.add(secret_id=key)
        for key in configs:
            spec.task.container.configs.add(config_id=key)
        self.create(Service(id=name, name=name, revision=1, task_revision=1))
        self.create(ServiceRevision(id=f"{name}.1", service_id=name, revision=1, spec=spec))

    def log_in(self, service, login):
        row = Service()
        row.CopyFrom(self.store.service(service))
        row.registry_auth = login
        self.write(lambda draft: draft.replace(row))

    def apply(self, transactions):
        self.index += 1
        applied = self.store.apply(self.index, 1, LogPayload(transactions=transactions))
        self.sessions.changed(applied.changes, self.store, self.now)

    def write(self, change):
        draft = Draft(self.store)
        change(draft)
        self.apply(draft.transactions())

    def create(self, row):
        self.write(lambda draft: draft.create(row))

    def task(self, key, service, node="a"):
        task = Task(id=key, service_id=service, slot=1, node_id=node, revision=1)
        task.desired_state, task.status.state = TASK_STATE_RUNNING, TASK_STATE_ASSIGNED
        self.create(task)

    def ends(self, key):
        status = TaskStatus(state=TASK_STATE_COMPLETE, timestamp_ns=9)
        self.apply(
            [
                Transaction(
                    changes=[Change(task_status=TaskStatusChange(task_id=key, status=status))]
                )
            ]
        )

    def stop(self, key):
        task = Task()
        task.CopyFrom(self.store.task(key))
        task.desired_state = TASK_STATE_SHUTDOWN
        self.write(lambda draft: draft.replace(task))

    def open(self, node="a"):
        self.sessions.opened(f"s-{node}", node, SessionHello(), self.now)

    def flush(self, node="a"):
        """What one node is told: ids that it is given, and ids that it is to forget."""
        self.now += 0.2
        given, gone = [], []
        for session, message in self.sessions.flush(self.store, self.now).messages:
            if session != f"s-{node}":
                continue
            if message.HasField("dependencies"):
                assert not gone, "before the assignments"
                given += [s.id for s in message.dependencies.secrets]
                given += [c.id for c in message.dependencies.configs]
                given += [login.registry_auth for login in message.dependencies.logins]
            elif message.HasField("assignments"):
                gone += message.assignments.removed_secret_ids
                gone += message.assignments.removed_config_ids
                gone += message.assignments.removed_login_ids
        return given, gone


@pytest.fixture
def manager():
    return Manager()


def test_a_node_is_given_what_its_tasks_need_and_no_more(manager):
    manager.task("t1", "one")
    manager.task("t2", "none", node="b")
    manager.open("a")
    manager.open("b")
    assert manager.flush("a") == (["k1", "c1"], [])
    manager.task("t3", "both", node="b")
    assert manager.flush("b") == (["k1", "k2"], [])


def test_each_once_until_nobody_needs_it(manager):
    manager.open()
    manager.task("t1", "one")
    assert manager.flush() == (["k1", "c1"], [])
    manager.task("t2", "both")
    assert manager.flush() == (["k2"], [])
    manager.ends("t1")
    assert manager.flush() == ([], ["c1"])
    manager.stop("t2")
    assert manager.flush() == ([], ["k1", "k2"])
    manager.task("t3", "one")
    assert manager.flush() == (["k1", "c1"], [])


def test_a_replacement_at_the_same_time_keeps_it(manager):
    manager.open()
    manager.task("t1", "one")
    manager.flush()
    manager.ends("t1")
    manager.task("t2", "one")
    assert manager.flush() == ([], [])


def test_another_session_is_given_all_of_it_again(manager):
    manager.task("t1", "one")
    manager.open()
    manager.flush()
    manager.open()
    assert manager.flush() == (["k1", "c1"], [])


def test_what_is_large_goes_in_several_messages(manager):
    row = Config(id="c2")
    row.spec.annotations.name, row.spec.data = "c2", b"x" * 700_000
    manager.create(row)
    manager.serve("large", [], ["c1", "c2"])
    manager.serve("more", ["k1"], [])
    manager.task("t1", "large")
    manager.task("t2", "more")
    manager.open()
    flushed = manager.sessions.flush(manager.store, manager.now + 1).messages
    kinds = [message.WhichOneof("kind") for _, message in flushed]
    assert kinds == ["info", "dependencies", "dependencies", "assignments"]
    assert not [m for _, m in flushed if m.ByteSize() > 2 << 20]


def test_a_login_goes_to_the_nodes_of_its_service_and_a_new_one_with_the_next_task(manager):
    manager.log_in("none", "old login")
    manager.task("t1", "none")
    manager.task("t2", "both", node="b")
    manager.open("a")
    manager.open("b")
    assert manager.flush("a") == (["old login"], [])
    manager.open("b")
    assert manager.flush("b") == (["k1", "k2"], [])
    manager.log_in("none", "new login")
    assert manager.flush("a") == ([], [])
    manager.task("t3", "none")
    assert manager.flush("a") == (["new login"], [])
    manager.ends("t1")
    assert manager.flush("a") == ([], [])
    manager.ends("t3")
    assert manager.flush("a") == ([], ["none"])
