"""explain: by how much each filter refuses a node, why a task is where it is, why one fails."""

import pytest

from swarm.api.v1.control_pb2 import ExplainRequest
from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_DRAIN
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.service_pb2 import (
    RESTART_CONDITION_ON_FAILURE,
    Placement,
    ResourceRequirements,
    RestartPolicy,
)
from swarm.api.v1.task_pb2 import TASK_STATE_FAILED
from swarm.api.v1.types_pb2 import (
    PUBLISH_MODE_HOST,
    GenericResource,
    Platform,
    PortConfig,
    Resources,
)
from swarm.manager.core.planning.explanation import explain
from swarm.manager.core.store import Store
from swarm.manager.core.validate import InvalidRequest

CPU = 1_000_000_000
GIB = 1 << 30
SECOND = 1_000_000_000


def ask(cluster, **reference: str):
    copy = Store.from_image(cluster.store.snapshot(0, 0, ConfState()))
    return explain(copy, ExplainRequest(**reference), cluster.now_ns)


def reserving(**amounts) -> ResourceRequirements:
    return ResourceRequirements(reservations=Resources(**amounts))


def fill(cluster, node: str, **amounts) -> None:
    """A task that takes so much of one node."""
    placement = Placement(constraints=[f"node.hostname=={node}"])
    name = f"filler{len(list(cluster.store.services()))}"
    cluster.create_service(
        name, cluster.spec(1, resources=reserving(**amounts), placement=placement)
    )
    cluster.obey()


def publishing(cluster, replicas: int):
    spec = cluster.spec(replicas)
    port = PortConfig(target_port=80, published_port=80, publish_mode=PUBLISH_MODE_HOST)
    spec.endpoint.ports.append(port)
    return spec


def free_cpu(cluster) -> None:
    cluster.remove_service("filler0")
    cluster.obey()


def set_platform(cluster) -> None:
    cluster.change_node(
        "a",
        lambda node: node.description.platform.CopyFrom(Platform(os="linux", architecture="arm64")),
    )


# Each filter: how it is come by, what it says of node a, and what the task waits for.
FILTERS = {
    "drained": (
        lambda c: c.set_availability("a", NODE_AVAILABILITY_DRAIN),
        lambda c: c.spec(1),
        "is drained",
        lambda c: c.set_availability("a", 0),
    ),
    "paused": (
        lambda c: c.set_availability("a", 1),
        lambda c: c.spec(1),
        "is paused",
        lambda c: c.set_availability("a", 0),
    ),
    "down": (
        lambda c: c.say_goodbye("a"),
        lambda c: c.spec(1),
        "is down",
        lambda c: c.revive("a"),
    ),
    "cpus": (
        lambda c: fill(c, "a", nano_cpus=int(3.5 * CPU)),
        lambda c: c.spec(1, resources=reserving(nano_cpus=2 * CPU)),
        "needs 2 CPUs, 0.5 free",
        free_cpu,
    ),
    "memory": (
        lambda c: fill(c, "a", memory_bytes=7 * GIB),
        lambda c: c.spec(1, resources=reserving(nano_cpus=5 * CPU, memory_bytes=2 * GIB)),
        "needs 5 CPUs, 4 free; needs 2GiB of memory, 1GiB free",
        None,
    ),
    "generic": (
        lambda c: None,
        lambda c: c.spec(1, resources=reserving(generic=[GenericResource(kind="gpu", count=2)])),
        "needs 2 gpu, 0 free",
        lambda c: c.change_node(
            "a",
            lambda node: node.description.resources.generic.add(kind="gpu", count=2),
        ),
    ),
    "label": (
        lambda c: c.change_node(
            "a", lambda node: node.spec.annotations.labels.update(zone="south")
        ),
        lambda c: c.spec(1, placement=Placement(constraints=["node.labels.zone == north"])),
        "node.labels.zone==north does not hold: node.labels.zone is south",
        lambda c: c.change_node(
            "a", lambda node: node.spec.annotations.labels.update(zone="north")
        ),
    ),
    "no label": (
        lambda c: None,
        lambda c: c.spec(1, placement=Placement(constraints=["engine.labels.disk==ssd"])),
        "engine.labels.disk==ssd does not hold: it has no engine.labels.disk",
        lambda c: c.change_node(
            "a", lambda node: node.description.engine.labels.update(disk="ssd")
        ),
    ),
    "platform": (
        lambda c: c.change_node(
            "a",
            lambda node: node.description.platform.CopyFrom(
                Platform(os="linux", architecture="x86_64")
            ),
        ),
        lambda c: c.spec(
            1, placement=Placement(platforms=[Platform(os="linux", architecture="arm64")])
        ),
        "is linux/x86_64, the image is for linux/aarch64",
        set_platform,
    ),
    "port": (
        lambda c: c.create_service("filler0", publishing(c, 1)) or c.obey(),
        lambda c: publishing(c, 1),
        "port 80/tcp of the node is in use",
        free_cpu,
    ),
    "max replicas": (
        lambda c: None,
        lambda c: c.spec(2, placement=Placement(max_replicas_per_node=1)),
        "has 1 of at most 1 tasks of the service",
        lambda c: c.add_node("b"),
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_says_by_how_much_and_wakes_what_waits(new_cluster, name: str) -> None:
    arrange, make_spec, reason, appear = FILTERS[name]
    cluster = new_cluster()
    cluster.add_node("a")
    arrange(cluster)
    spec = make_spec(cluster)
    cluster.create_service("web", spec)
    cluster.obey()
    (waiting,) = ask(cluster, service="web").waiting
    assert (waiting.tasks, [(r.hostname, r.reason) for r in waiting.refusals]) == (
        1,
        [("a", reason)],
    )
    assert ask(cluster, node="a").waiting[0].refusals[0].reason == reason
    if appear is not None:
        appear(cluster)
        # Not after some time: in the very pass that saw it.
        assert not cluster.store.tasks_unassigned()
        assert not ask(cluster, service="web").waiting


def test_why_there(cluster) -> None:
    cluster.create_service("web", cluster.spec(4))
    cluster.obey()
    placed = ask(cluster, service="web").placed
    assert [(p.task.slot, p.hostname) for p in placed] == [(1, "a"), (2, "b"), (3, "c"), (4, "a")]
    assert placed[1].reason == (
        "3 of 3 nodes take it; other tasks on it: 0, of the service: 0; the best of them"
    )
    assert "b would be first today" not in placed[3].reason
    cluster.scale("web", 3)
    cluster.obey()
    cluster.add_node("d")
    placed = ask(cluster, task="web.1").placed
    assert len(placed) == 1
    fill(cluster, "a", nano_cpus=CPU)
    (moved,) = ask(cluster, task="web.1").placed
    assert moved.reason.startswith("4 of 4 nodes take it; other tasks on it: 1, of the service: 0")
    assert "d would be first today" in moved.reason
    assert moved.reason.endswith("but tasks do not move once they are placed")
    cluster.change_node("a", lambda node: setattr(node.spec, "availability", 1))
    (paused,) = ask(cluster, task="web.1").placed
    assert paused.reason == "today it would not be placed there: the node is paused"


def test_a_global_service_and_an_only_node(cluster) -> None:
    cluster.create_service("agent", cluster.spec(None))
    only = Placement(constraints=["node.hostname==b"])
    cluster.create_service("web", cluster.spec(1, placement=only))
    cluster.obey()
    assert {p.reason for p in ask(cluster, service="agent").placed} == {
        "the service has a task on every node that takes it"
    }
    (placed,) = ask(cluster, task="web.1").placed
    assert placed.reason == "no other node takes it"
    assert [r.hostname for r in placed.refusals] == ["a", "c"]


def test_a_failing_slot_says_when_it_tries_next(cluster) -> None:
    policy = RestartPolicy(
        condition=RESTART_CONDITION_ON_FAILURE, delay_ns=7 * SECOND, max_attempts=2
    )
    cluster.create_service("web", cluster.spec(1, restart=policy))
    cluster.obey()
    cluster.report(cluster.running("web")[0], TASK_STATE_FAILED)
    (failing,) = ask(cluster, service="web").failing
    assert (failing.slot, len(failing.attempts)) == (1, 1)
    assert failing.next_attempt_at_ns == cluster.now_ns + 7 * SECOND
    cluster.pass_time(8)
    (failing,) = ask(cluster, service="web").failing
    assert (failing.outlook, failing.next_attempt_at_ns) == ("it runs again", 0)
    for _ in range(2):
        cluster.report(cluster.running("web")[0], TASK_STATE_FAILED)
        cluster.pass_time(8)
    (failing,) = ask(cluster, service="web").failing
    assert failing.outlook == "it is not tried again: 2 restarts were allowed"
    assert [attempt.status.state for attempt in failing.attempts] == [TASK_STATE_FAILED] * 3


def test_what_a_node_has(cluster) -> None:
    fill(cluster, "a", nano_cpus=CPU, memory_bytes=2 * GIB)
    answer = ask(cluster, node="a")
    assert [(u.kind, u.total, u.reserved) for u in answer.node.resources] == [
        ("CPUs", 4 * CPU, CPU),
        ("memory", 8 * GIB, 2 * GIB),
    ]
    (placed,) = answer.placed
    assert placed.reason == "reserves 1 CPU, 2GiB of memory"
    assert not answer.node.refusal
    cluster.set_availability("b", NODE_AVAILABILITY_DRAIN)
    assert ask(cluster, node="b").node.refusal == "is drained"
    with pytest.raises(InvalidRequest, match="node z not found"):
        ask(cluster, node="z")
