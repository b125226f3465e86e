"""What the simulator found: updates that overtake each other, clocks that differ, refusals."""

from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_DRAIN, Node
from swarm.api.v1.service_pb2 import RestartPolicy, Service, UpdateConfig
from swarm.api.v1.task_pb2 import (
    TASK_STATE_FAILED,
    TASK_STATE_PREPARING,
    TASK_STATE_READY,
    TASK_STATE_RUNNING,
    TASK_STATE_SHUTDOWN,
)

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
START_FIRST = UpdateConfig(parallelism=1, order=1)


def update(cluster, image, replicas=1):
    spec = cluster.spec(replicas=replicas, image=image)
    spec.update.CopyFrom(START_FIRST)
    cluster.update_service("web", spec)


def start(cluster, replicas=1):
    spec = cluster.spec(replicas=replicas)
    spec.update.CopyFrom(START_FIRST)
    cluster.create_service("web", spec)
    cluster.obey()


def test_a_start_first_update_taken_back_keeps_the_old_task(cluster):
    start(cluster)
    (old,) = cluster.running("web")
    update(cluster, "nginx:2")
    assert [task.revision for task in cluster.live("web")] == [1, 2]
    service = Service()
    service.CopyFrom(cluster.store.service("web"))
    service.revision = service.task_revision = 1
    cluster.propose(lambda draft: draft.replace(service))
    cluster.obey()
    assert [task.id for task in cluster.live("web")] == [old.id]
    assert cluster.run() == 0


def test_start_first_updates_in_a_row_keep_one_old_task(cluster):
    start(cluster)
    (first,) = cluster.running("web")
    update(cluster, "nginx:2")
    (second,) = [task for task in cluster.live("web") if task.revision == 2]
    cluster.report(second, TASK_STATE_PREPARING)
    update(cluster, "nginx:3")
    live = cluster.live("web")
    assert [task.revision for task in live] == [1, 3], "of the two old ones, the one that runs"
    assert live[0].id == first.id


def test_an_update_does_not_wait_for_a_workers_clock(cluster):
    start(cluster, replicas=2)
    spec = cluster.spec(replicas=2, image="nginx:2")
    spec.update.CopyFrom(UpdateConfig(parallelism=1, delay_ns=SECOND))
    cluster.update_service("web", spec)
    (old,) = [task for task in cluster.tasks("web") if task.desired_state == TASK_STATE_SHUTDOWN]
    cluster.report(old, TASK_STATE_SHUTDOWN)
    (new,) = [task for task in cluster.live("web") if task.revision == 2]
    cluster.report(new, TASK_STATE_RUNNING, at_ns=cluster.now_ns + HOUR)
    cluster.pass_time(10)
    assert [task.revision for task in cluster.running("web")] == [2, 2]


def test_a_restart_does_not_wait_for_the_clock_of_an_earlier_leader(cluster):
    spec = cluster.spec(replicas=1, restart=RestartPolicy(delay_ns=SECOND))
    cluster.create_service("web", spec)
    cluster.obey()
    cluster.now += 3600
    for name in "abc":
        cluster.revive(name)
    (task,) = cluster.running("web")
    cluster.report(task, TASK_STATE_FAILED)
    (waiting,) = cluster.live("web")
    assert waiting.desired_state == TASK_STATE_READY
    cluster.now -= 3600
    cluster.fail_over()
    cluster.pass_time(10)
    assert [running.id for running in cluster.running("web")] == [waiting.id]


def test_a_slots_removal_outlives_two_refusals(cluster):
    start(cluster, replicas=2)
    cluster.slow = True
    cluster.scale("web", 1)
    for _ in range(2):
        (victim,) = {
            change.replace.task.id
            for transactions in cluster.in_flight
            for transaction in transactions
            for change in transaction.changes
        }
        task = cluster.store.task(victim)
        cluster.report(task, TASK_STATE_RUNNING, at_ns=task.status.timestamp_ns + 1)
        entries, cluster.in_flight = cluster.in_flight, []
        for transactions in entries:
            applied = cluster.apply(transactions, cluster.term)
            assert all(verdict.code for verdict in applied.verdicts), "its task has changed"
            cluster.brain.settled(transactions, applied.verdicts, cluster.store)
            cluster.commit(cluster.handle(applied.changes))
    cluster.deliver()
    cluster.obey()
    assert len(cluster.running("web")) == 1


def test_a_node_that_goes_while_an_update_is_taken_back_makes_no_second_task(cluster):
    start(cluster)
    (old,) = cluster.running("web")
    update(cluster, "nginx:2")
    (new,) = [task for task in cluster.live("web") if task.revision == 2]
    assert new.node_id != old.node_id
    service = Service()
    service.CopyFrom(cluster.store.service("web"))
    service.revision = service.task_revision = 1

    def both(draft):
        draft.replace(service)
        node = Node()
        node.CopyFrom(draft.node(new.node_id))
        node.spec.availability = NODE_AVAILABILITY_DRAIN
        draft.replace(node)

    cluster.propose(both)
    assert [task.id for task in cluster.live("web")] == [old.id]
    cluster.obey()
    assert [task.id for task in cluster.live("web")] == [old.id]
