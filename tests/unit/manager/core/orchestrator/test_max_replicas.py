"""At most so many replicas on a node, whatever comes in between."""

from collections import Counter

from swarm.api.v1.service_pb2 import Placement, UpdateConfig
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING


def spec(cluster, image="nginx", replicas=3, most=1):
    made = cluster.spec(replicas, image, placement=Placement(max_replicas_per_node=most))
    made.update.CopyFrom(UpdateConfig(parallelism=0))
    return made


def test_what_has_no_node_left_waits_and_says_so(cluster):
    cluster.create_service("web", spec(cluster, replicas=5))
    assert cluster.spread("web") == {"": 2, "a": 1, "b": 1, "c": 1}
    assert "max replicas per node limit exceed" in cluster.pending("web")
    cluster.add_node("d")
    assert cluster.spread("web") == {"": 1, "a": 1, "b": 1, "c": 1, "d": 1}
    cluster.update_service("web", spec(cluster, replicas=5, most=2))
    cluster.obey()
    assert "" not in cluster.spread("web")
    assert max(cluster.spread("web").values()) == 2


def test_a_task_that_makes_room_but_is_not_stopped_after_all(cluster):
    """All are replaced at once; one of the old ones says something meanwhile, and so stays a
    while longer. Nothing may have been put in its place."""
    cluster.create_service("web", spec(cluster))
    old = cluster.tasks("web")
    assert [task.node_id for task in old] == ["a", "b", "c"]
    # So that the new ones would go to other nodes than those which they replace.
    only_a = Placement(constraints=["node.id==a"])
    cluster.create_service("other", cluster.spec(2, placement=only_a))
    cluster.slow = True
    cluster.update_service("web", spec(cluster, "nginx:2"))
    cluster.report(old[0], TASK_STATE_RUNNING)
    for transactions in cluster.in_flight:
        cluster.apply(transactions, cluster.term)
        assert max(Counter(task.node_id for task in cluster.live("web")).values()) == 1
