"""Tasks that find no node: why is said once, and they go the moment there is room."""

import pytest

from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_ACTIVE, NODE_AVAILABILITY_DRAIN
from swarm.api.v1.service_pb2 import Placement, ResourceRequirements
from swarm.api.v1.task_pb2 import TASK_STATE_FAILED, TASK_STATE_PENDING
from swarm.api.v1.types_pb2 import Resources
from swarm.manager.core.scheduler import filters, scheduler

CPU = 1_000_000_000


def needing(cpus: float) -> ResourceRequirements:
    return ResourceRequirements(reservations=Resources(nano_cpus=int(cpus * CPU)))


def waiting(cluster, service: str) -> int:
    return sum(t.status.state == TASK_STATE_PENDING for t in cluster.live(service))


def test_as_many_as_fit_are_placed_and_the_reason_is_stored_once(cluster):
    cluster.create_service("big", cluster.spec(8, resources=needing(2)))
    assert cluster.spread("big") == {"": 2, "a": 2, "b": 2, "c": 2}
    assert cluster.pending("big") == "no suitable node (insufficient resources on 3 nodes)"
    assert cluster.store.service("big").pending.revision == 1
    version = cluster.store.service("big").meta.version
    cluster.scale("big", 9)
    cluster.obey()
    cluster.say_goodbye("c")
    assert waiting(cluster, "big") == 5
    assert cluster.run() == 0
    assert cluster.store.service("big").meta.version > version
    assert cluster.brain.rejections("big") == {"not_available": 1, "resources": 2}


def test_a_node_that_joins_takes_them_at_once(cluster):
    cluster.create_service("big", cluster.spec(8, resources=needing(2)))
    cluster.add_node("d")
    assert cluster.spread("big") == {"a": 2, "b": 2, "c": 2, "d": 2}
    assert cluster.pending("big") == ""
    assert cluster.run() == 0


def test_a_task_that_ends_frees_room_for_another_service(cluster):
    """moby#32999: pending tasks were not retried when resources became free."""
    cluster.create_service("first", cluster.spec(6, resources=needing(2)))
    cluster.create_service("second", cluster.spec(1, resources=needing(2)))
    cluster.obey()
    assert waiting(cluster, "second") == 1
    cluster.scale("first", 5)
    assert waiting(cluster, "second") == 1, "the task still stops"
    cluster.obey()
    assert len(cluster.running("second")) == 1
    assert cluster.pending("second") == ""


def test_a_label_that_appears_is_what_they_waited_for(cluster):
    placement = Placement(constraints=["node.labels.gpu==yes"])
    cluster.create_service("ml", cluster.spec(2, placement=placement))
    assert cluster.pending("ml") == (
        "no suitable node (scheduling constraints not satisfied on 3 nodes)"
    )
    cluster.change_node("b", lambda node: node.spec.annotations.labels.update(gpu="yes"))
    assert cluster.spread("ml") == {"b": 2}


def test_a_host_port_is_waited_for_node_by_node(cluster):
    spec = cluster.spec(4)
    spec.endpoint.ports.add(target_port=80, published_port=8080, publish_mode=1)
    cluster.create_service("web", spec)
    cluster.obey()
    assert cluster.spread("web") == {"": 1, "a": 1, "b": 1, "c": 1}
    assert cluster.pending("web") == "no suitable node (host-mode port already in use on 3 nodes)"
    victim = next(task for task in cluster.running("web") if task.node_id == "b")
    cluster.report(victim, TASK_STATE_FAILED)
    assert cluster.spread("web") == {"": 1, "a": 1, "b": 1, "c": 1}
    cluster.pass_time(6)
    assert len(cluster.running("web")) == 3


def test_replicas_per_node_are_limited(cluster):
    placement = Placement(max_replicas_per_node=1)
    cluster.create_service("web", cluster.spec(5, placement=placement))
    assert cluster.spread("web") == {"": 2, "a": 1, "b": 1, "c": 1}
    assert cluster.pending("web") == "no suitable node (max replicas per node limit exceed)"


def test_the_stored_reason_changes_with_its_kind_only(cluster):
    cluster.create_service("big", cluster.spec(1, resources=needing(64)))
    version = cluster.store.service("big").meta.version
    cluster.remove_node("c")
    assert cluster.brain.rejections("big") == {"resources": 2}
    assert cluster.store.service("big").meta.version == version
    for name in "ab":
        cluster.set_availability(name, NODE_AVAILABILITY_DRAIN)
    assert cluster.pending("big") == "no suitable node (2 nodes not available for new tasks)"
    cluster.set_availability("a", NODE_AVAILABILITY_ACTIVE)
    assert "insufficient resources on 1 node" in cluster.pending("big")


def test_a_new_leader_knows_what_waits_and_why(cluster):
    cluster.create_service("big", cluster.spec(8, resources=needing(2)))
    cluster.obey()
    cluster.fail_over()
    assert cluster.run() == 0
    cluster.add_node("d")
    assert waiting(cluster, "big") == 0
    cluster.obey()
    assert cluster.pending("big") == ""


def test_a_reason_that_is_out_of_date_is_cleared_by_the_next_leader(cluster):
    cluster.create_service("big", cluster.spec(1, resources=needing(64)))
    cluster.slow = True
    cluster.scale("big", 0)
    cluster.fail_over()
    cluster.run()
    assert cluster.tasks("big") == []
    assert cluster.pending("big") == ""


def test_what_waits_costs_a_look_at_the_nodes_that_changed(cluster, monkeypatch):
    cluster.create_service("old", cluster.spec(replicas=3, resources=needing(4)))
    cluster.create_service("web", cluster.spec(replicas=3, resources=needing(4)))
    assert cluster.spread("web") == {"": 3}
    looked_at = []
    look = filters.rejection

    def counted(info, *of_what):
        looked_at.append(info.node.id)
        return look(info, *of_what)

    for module in (filters, scheduler):
        monkeypatch.setattr(module, "rejection", counted)
    cluster.scale("old", 2)
    cluster.obey()
    assert len(set(cluster.spread("web"))) == 2
    assert len(set(looked_at)) == 1


def test_without_any_node(new_cluster):
    cluster = new_cluster()
    cluster.create_service("web", cluster.spec(2))
    assert cluster.pending("web") == "no suitable node"
    cluster.add_node("a")
    assert cluster.spread("web") == {"a": 2}


def test_an_update_that_fits_replaces_what_waited(cluster):
    cluster.create_service("big", cluster.spec(2, resources=needing(64)))
    cluster.update_service("big", cluster.spec(2, resources=needing(1)))
    cluster.obey()
    assert len(cluster.running("big")) == 2
    assert cluster.pending("big") == ""


@pytest.mark.parametrize("limit", [3, 300])
def test_reservations_are_respected_over_slices_and_services(new_cluster, limit):
    cluster = new_cluster(pass_changes=limit)
    for name in "abcd":
        cluster.add_node(name)
    for number in range(4):
        cluster.create_service(f"s{number}", cluster.spec(5, resources=needing(1)))
    cluster.obey()
    used = [task for n in range(4) for task in cluster.running(f"s{n}")]
    assert len(used) == 16
    assert {n: sum(t.node_id == n for t in used) for n in "abcd"} == dict.fromkeys("abcd", 4)
