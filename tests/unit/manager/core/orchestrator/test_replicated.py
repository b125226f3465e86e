"""Replicated services: slots are filled, spread, scaled and emptied."""

from swarm.api.v1.service_pb2 import ResourceRequirements
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_REMOVE,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
)
from swarm.api.v1.types_pb2 import Resources
from swarm.manager.core.orchestrator import replicated, work
from swarm.manager.core.orchestrator.agenda import Agenda


def test_a_new_service_gets_its_tasks_made_and_placed_in_one_proposal(cluster):
    cluster.create_service("web", cluster.spec(replicas=6))
    tasks = cluster.tasks("web")
    assert [task.slot for task in tasks] == [1, 2, 3, 4, 5, 6]
    assert {task.status.state for task in tasks} == {TASK_STATE_ASSIGNED}
    assert {task.desired_state for task in tasks} == {TASK_STATE_RUNNING}
    assert cluster.spread("web") == {"a": 2, "b": 2, "c": 2}
    assert len({task.meta.updated_at_ns for task in tasks}) == 1


def test_quiet_after_the_work_is_done(cluster):
    cluster.create_service("web", cluster.spec(replicas=6))
    cluster.obey()
    assert len(cluster.running("web")) == 6
    assert cluster.run() == 0


def test_scaling_up_takes_the_free_numbers(cluster):
    cluster.create_service("web", cluster.spec(replicas=2))
    cluster.obey()
    before = {task.id for task in cluster.tasks("web")}
    cluster.scale("web", 5)
    assert sorted(task.slot for task in cluster.live("web")) == [1, 2, 3, 4, 5]
    assert before <= {task.id for task in cluster.live("web")}


def test_scaling_down_takes_from_the_nodes_with_most_copies(cluster):
    for name in "bc":
        cluster.set_availability(name, 1)
    cluster.create_service("web", cluster.spec(replicas=4))
    for name in "bc":
        cluster.set_availability(name, 0)
    cluster.scale("web", 6)
    cluster.obey()
    assert cluster.spread("web") == {"a": 4, "b": 1, "c": 1}
    cluster.scale("web", 3)
    assert cluster.spread("web") == {"a": 1, "b": 1, "c": 1}


def test_scaling_down_prefers_tasks_that_do_not_run(cluster):
    cluster.create_service("web", cluster.spec(replicas=6))
    for task in cluster.tasks("web"):
        if task.slot > 3:
            cluster.report(task, TASK_STATE_RUNNING)
    cluster.scale("web", 3)
    assert {task.slot for task in cluster.live("web")} == {4, 5, 6}


def test_removed_tasks_go_once_their_agent_confirms(cluster):
    cluster.create_service("web", cluster.spec(replicas=2))
    for task in cluster.tasks("web"):
        cluster.report(task, TASK_STATE_RUNNING)
    cluster.remove_service("web")
    assert {task.desired_state for task in cluster.tasks("web")} == {TASK_STATE_REMOVE}
    first, second = cluster.tasks("web")
    cluster.report(first, TASK_STATE_SHUTDOWN)
    assert [task.id for task in cluster.tasks("web")] == [second.id]
    assert cluster.store.revision_row("web", 1) is not None
    cluster.report(second, TASK_STATE_SHUTDOWN)
    assert cluster.tasks("web") == []
    assert cluster.store.revision_row("web", 1) is None, "nothing names it any more"


def test_tasks_that_no_agent_ever_had_are_removed_at_once(cluster):
    needs = ResourceRequirements(reservations=Resources(nano_cpus=99_000_000_000))
    cluster.create_service("big", cluster.spec(replicas=3, resources=needs))
    assert len(cluster.tasks("big")) == 3
    cluster.scale("big", 1)
    assert len(cluster.tasks("big")) == 1
    cluster.remove_service("big")
    assert cluster.tasks("big") == []


def test_a_large_service_is_made_in_slices(new_cluster):
    cluster = new_cluster(pass_changes=20)
    for number in range(10):
        cluster.add_node(f"n{number}")
    cluster.create_service("web", cluster.spec(replicas=200))
    assert sorted(task.slot for task in cluster.live("web")) == list(range(1, 201))
    assert set(cluster.spread("web").values()) == {20}
    assert cluster.largest_proposal <= 25


def test_a_large_service_is_compared_with_its_spec_in_slices(cluster, monkeypatch):
    looked_at = []
    monkeypatch.setattr(work, "SLICE", 10)
    monkeypatch.setattr(replicated, "SLICE", 10)
    monkeypatch.setattr(Agenda, "go_on", go_on_counted(looked_at))
    cluster.create_service("web", cluster.spec(replicas=30))
    assert sum(looked_at) == 30
    cluster.scale("web", 12)
    assert sum(looked_at) == 30 + 30 + 18
    assert max(looked_at) == 10
    assert len(cluster.live("web")) == 12
    assert cluster.spread("web") == {"a": 4, "b": 4, "c": 4}


def go_on_counted(looked_at):
    go_on = Agenda.go_on

    def counted(agenda, at):
        count = go_on(agenda, at)
        looked_at.append(count or 0)
        return count

    return counted


def test_an_update_of_the_service_meanwhile_drops_the_slots_of_the_old_one(cluster):
    """The proposal was computed from 5 replicas, but 2 are wanted when it is applied."""
    cluster.slow = True
    cluster.create_service("web", cluster.spec(replicas=5))
    cluster.scale("web", 2)
    assert cluster.tasks("web") == []
    cluster.deliver()
    assert len(cluster.live("web")) == 2
    assert cluster.run() == 0


def test_a_dropped_proposal_is_made_again(cluster):
    cluster.slow = True
    cluster.create_service("web", cluster.spec(replicas=5))
    assert cluster.tasks("web") == []
    cluster.drop()
    assert cluster.spread("web") == {"a": 2, "b": 2, "c": 1}
