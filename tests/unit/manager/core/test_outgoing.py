"""What is told to the leader: the latest of each, again until the store has it."""

from swarm.api.v1.dispatcher_pb2 import TaskStatusUpdate
from swarm.api.v1.node_pb2 import Node, NodeDescription, NodeStatus
from swarm.api.v1.task_pb2 import (
    TASK_STATE_PREPARING,
    TASK_STATE_READY,
    TASK_STATE_RUNNING,
    Task,
    TaskStatus,
)
from swarm.manager.core.outgoing import REPEAT_S, Outgoing


def a_status(task: str, state: int) -> TaskStatusUpdate:
    return TaskStatusUpdate(task_id=task, status=TaskStatus(state=state))  # type: ignore[arg-type]


def test_the_latest_status_and_the_latest_sign_of_life_count() -> None:
    outgoing = Outgoing()
    outgoing.heard("n", 1.0)
    outgoing.described("n", NodeDescription(hostname="h"), "10.0.0.1", None)
    outgoing.heard("n", 3.0)
    outgoing.statuses([a_status("t", TASK_STATE_READY), a_status("t", TASK_STATE_RUNNING)])
    batch = outgoing.take(4.0)
    assert batch is not None
    (node,) = batch.nodes
    assert (node.description.hostname, node.address) == ("h", "10.0.0.1")
    assert node.age_ns == 1_000_000_000
    assert [u.status.state for u in batch.statuses] == [TASK_STATE_RUNNING]
    assert outgoing.take(4.1) is None


def test_a_status_is_told_again_until_the_store_has_it() -> None:
    outgoing = Outgoing()
    outgoing.statuses([a_status("t", TASK_STATE_READY)])
    assert outgoing.take(0.0) is not None
    assert outgoing.take(REPEAT_S / 2) is None
    again = outgoing.take(REPEAT_S)
    assert again is not None
    assert len(again.statuses) == 1
    older = Task(id="t", status=TaskStatus(state=TASK_STATE_PREPARING))
    outgoing.stored("t", older)
    assert outgoing.take(2 * REPEAT_S) is not None
    outgoing.stored("t", Task(id="t", status=TaskStatus(state=TASK_STATE_READY)))
    assert outgoing.take(3 * REPEAT_S) is None


def test_a_new_leader_is_told_everything_at_once() -> None:
    outgoing = Outgoing()
    outgoing.statuses([a_status("t", TASK_STATE_READY)])
    outgoing.take(0.0)
    outgoing.leader_changed()
    batch = outgoing.take(0.1)
    assert batch is not None
    assert len(batch.statuses) == 1


def test_a_description_is_told_again_until_the_store_has_it() -> None:
    outgoing = Outgoing()
    described = Node(description=NodeDescription(hostname="h"), status=NodeStatus(address="a"))
    outgoing.described("n", described.description, "a", Node())

    def told(now: float) -> bool:
        outgoing.heard("n", now)
        batch = outgoing.take(now)
        assert batch is not None
        return batch.nodes[0].HasField("description")

    assert told(0.0)
    assert not told(REPEAT_S / 2)
    outgoing.leader_changed()
    assert told(REPEAT_S / 2)
    assert told(2 * REPEAT_S)
    outgoing.node_stored("n", described)
    assert not told(4 * REPEAT_S)
    outgoing.node_stored("n", Node())
    assert told(5 * REPEAT_S), "an older description was stored over it"


def test_a_description_that_the_store_has_is_not_told() -> None:
    outgoing = Outgoing()
    row = Node(description=NodeDescription(hostname="h"), status=NodeStatus(address="a"))
    outgoing.described("n", row.description, "a", row)
    outgoing.heard("n", 0.0)
    batch = outgoing.take(0.0)
    assert batch is not None
    assert not batch.nodes[0].HasField("description")


def test_a_goodbye_travels() -> None:
    outgoing = Outgoing()
    outgoing.heard("n", 1.0, goodbye=True)
    batch = outgoing.take(1.0)
    assert batch is not None
    assert batch.nodes[0].goodbye
