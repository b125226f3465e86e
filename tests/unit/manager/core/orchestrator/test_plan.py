"""--plan: what would change, where it would run, what would not fit; and that it comes true."""

import random
from collections import Counter

import pytest

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_DRAIN
from swarm.api.v1.raft_pb2 import ConfState
from swarm.api.v1.service_pb2 import (
    UPDATE_ORDER_START_FIRST,
    Placement,
    ResourceRequirements,
    ServiceSpec,
    UpdateConfig,
)
from swarm.api.v1.store_pb2 import VERDICT_OK, Transaction
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_FAILED,
    TASK_STATE_RUNNING,
    Task,
)
from swarm.api.v1.types_pb2 import Resources
from swarm.manager.core.planning.plan import plan
from swarm.manager.core.store import RandomIds, Store, wanted
from swarm.manager.core.validate import InvalidRequest
from swarm.manager.core.validate import node as validate_node
from swarm.manager.core.validate import service as validate
from swarm.manager.core.validate.service_spec import with_defaults

CPU = 1_000_000_000


def plan_of(cluster, *changes: pb.PlannedChange) -> pb.PlanResponse:
    """And nothing is changed by it."""
    digest = cluster.store.snapshot(0, 0, ConfState()).rows
    before = [[row.SerializeToString() for row in rows] for rows in digest]
    copy = Store.from_image(cluster.store.snapshot(0, 0, ConfState()))
    answer = plan(copy, changes, RandomIds(random.Random("plan").getrandbits), cluster.now_ns)
    after = cluster.store.snapshot(0, 0, ConfState()).rows
    assert [[row.SerializeToString() for row in rows] for rows in after] == before
    cluster.store.check()
    return answer


def new(name: str, spec: ServiceSpec) -> pb.PlannedChange:
    spec.annotations.name = name
    return pb.PlannedChange(create_service=pb.CreateServiceRequest(spec=spec))


def make(cluster, name: str, spec: ServiceSpec) -> None:
    """A service as a user's request makes it, with Docker's defaults."""
    spec.annotations.name = name
    cluster.create_service(name, with_defaults(spec))


def changed(cluster, name: str, **fields) -> pb.PlannedChange:
    service = cluster.store.service(name)
    spec = ServiceSpec()
    spec.CopyFrom(cluster.store.spec(name, service.revision))
    spec.annotations.name = service.name
    if "replicas" in fields:
        spec.replicated.replicas = fields["replicas"]
    if "image" in fields:
        spec.task.container.image = fields["image"]
    return pb.PlannedChange(
        update_service=pb.UpdateServiceRequest(
            service_id=name, version=service.meta.version, spec=spec
        )
    )


def drained(cluster, name: str) -> pb.PlannedChange:
    node = cluster.store.node(name)
    request = pb.UpdateNodeRequest(node_id=name, version=node.meta.version, spec=node.spec)
    request.spec.availability = NODE_AVAILABILITY_DRAIN
    return pb.PlannedChange(update_node=request)


def places(tasks) -> Counter:
    return Counter((task.service_name, task.slot, task.hostname) for task in tasks)


def needing(cpus: float, **placement) -> dict:
    reserved = Resources(nano_cpus=int(cpus * CPU))
    return {
        "resources": ResourceRequirements(reservations=reserved),
        "placement": Placement(**placement),
    }


def test_a_new_service(cluster) -> None:
    answer = plan_of(cluster, new("web", cluster.spec(3)))
    assert answer.index == cluster.store.revision
    assert places(answer.started) == Counter([("web", 1, "a"), ("web", 2, "b"), ("web", 3, "c")])
    (planned,) = answer.objects
    assert (planned.id, planned.name, planned.HasField("old_service")) == ("", "web", False)
    assert planned.new_service.task.restart.delay_ns == 5 * CPU, "defaults are filled in"
    assert not answer.stopped
    assert not answer.waiting
    assert not answer.cut_off


def test_what_does_not_fit_is_said_for_every_node(cluster) -> None:
    make(cluster, "db", cluster.spec(1, **needing(3.5, constraints=["node.hostname==b"])))
    cluster.obey()
    cluster.change_node("c", lambda node: setattr(node.spec, "availability", 1))
    answer = plan_of(cluster, new("web", cluster.spec(4, **needing(2))))
    assert places(answer.started) == Counter([("web", 1, "a"), ("web", 2, "a")])
    (waiting,) = answer.waiting
    assert (waiting.service_name, waiting.tasks, waiting.slots[:]) == ("web", 2, [3, 4])
    assert [(refusal.hostname, refusal.reason) for refusal in waiting.refusals] == [
        ("a", "needs 2 CPUs, 0 free"),
        ("b", "needs 2 CPUs, 0.5 free"),
        ("c", "is paused"),
    ]


def test_an_update_is_rolled_to_its_end(cluster) -> None:
    make(cluster, "web", cluster.spec(3))
    cluster.obey()
    answer = plan_of(cluster, changed(cluster, "web", image="nginx:2"))
    assert (answer.tasks_started, answer.tasks_stopped) == (3, 3)
    assert answer.objects[0].old_service.task.container.image == "nginx"
    assert answer.objects[0].new_service.task.container.image == "nginx:2"


def test_the_same_again_is_nothing_to_do(cluster) -> None:
    make(cluster, "web", cluster.spec(3))
    cluster.obey()
    answer = plan_of(cluster, changed(cluster, "web"))
    assert answer.objects[0].old_service == answer.objects[0].new_service
    assert (answer.tasks_started, answer.tasks_stopped, len(answer.waiting)) == (0, 0, 0)


def test_several_at_once_see_each_other(cluster) -> None:
    first = new("one", cluster.spec(3, **needing(3)))
    second = new("two", cluster.spec(1, **needing(3)))
    answer = plan_of(cluster, first, second)
    assert [waiting.service_name for waiting in answer.waiting] == ["two"]
    with pytest.raises(InvalidRequest, match="one"):
        plan_of(cluster, first, new("one", cluster.spec(1)))


def test_what_a_change_frees_goes_to_those_that_wait(cluster) -> None:
    make(cluster, "big", cluster.spec(3, **needing(4)))
    make(cluster, "late", cluster.spec(1, **needing(2)))
    cluster.obey()
    answer = plan_of(cluster, changed(cluster, "big", replicas=2))
    assert places(answer.stopped) == Counter([("big", 3, "c")])
    assert places(answer.started) == Counter([("late", 1, "c")])
    remove = pb.PlannedChange(remove_service=pb.RemoveServiceRequest(reference="big"))
    answer = plan_of(cluster, remove)
    assert answer.tasks_stopped == 3
    assert not answer.objects[0].HasField("new_service")


def test_what_is_under_way_is_no_part_of_it(cluster) -> None:
    make(cluster, "other", cluster.spec(2))
    cluster.obey()
    cluster.update_service("other", cluster.spec(2, image="nginx:2"))
    make(cluster, "flaky", cluster.spec(1))
    cluster.obey(1)
    for task in cluster.tasks("flaky"):
        cluster.report(task, TASK_STATE_FAILED)
    answer = plan_of(cluster, new("web", cluster.spec(1)))
    assert {task.service_name for task in answer.started} == {"web"}
    assert not answer.stopped


def test_a_job_is_planned_to_its_last_completion(cluster) -> None:
    spec = cluster.spec()
    spec.replicated_job.total_completions = 5
    spec.replicated_job.max_concurrent = 2
    answer = plan_of(cluster, new("job", spec))
    assert answer.tasks_started == 5


def test_a_read_that_is_out_of_date_is_refused(cluster) -> None:
    make(cluster, "web", cluster.spec(1))
    change = changed(cluster, "web", replicas=2)
    seen = cluster.store.revision
    cluster.scale("web", 3)
    with pytest.raises(InvalidRequest, match="was changed meanwhile"):
        plan_of(cluster, change)
    change = changed(cluster, "web", replicas=2)
    change.update_service.check_index = seen
    with pytest.raises(InvalidRequest, match=f"after --check-index {seen}"):
        plan_of(cluster, change)


def test_a_large_update_takes_few_turns(new_cluster) -> None:
    cluster = new_cluster()
    for number in range(10):
        cluster.add_node(f"n{number}", cpus=100)
    make(cluster, "web", cluster.spec(120))
    cluster.obey()
    answer = plan_of(cluster, changed(cluster, "web", image="nginx:2"))
    assert (answer.tasks_started, answer.tasks_stopped, answer.cut_off) == (120, 120, False)


@pytest.mark.parametrize("seed", range(40))
def test_plans_come_true(new_cluster, seed: int) -> None:
    """What was planned is then done, by a cluster whose workers act one at a time. (Of updates that
    do several at once, which node a task comes to depends on who is quicker.)"""
    chance = random.Random(seed)
    cluster = new_cluster(seed)
    for name in "abcde"[: chance.randint(2, 5)]:
        cluster.add_node(name, cpus=chance.choice([8, 12]))
    for name in ("web", "db", "log"):
        replicas = chance.choice([1, 2, 4, 6]) if name != "log" else None
        spec = cluster.spec(replicas, **needing(chance.choice([0, 0.5, 1])))
        order = chance.choice([0, UPDATE_ORDER_START_FIRST])
        spec.update.CopyFrom(UpdateConfig(parallelism=1, order=order))
        make(cluster, name, spec)
    cluster.pass_time(10)
    match chance.randrange(4):
        case 0:
            change = changed(cluster, "web", replicas=chance.randint(0, 9))
        case 1:
            change = changed(cluster, chance.choice(["web", "log"]), image="nginx:2")
        case 2:
            change = drained(cluster, "a")
        case _:
            change = new("more", cluster.spec(chance.randint(1, 9), **needing(3)))
    assert not cluster.store.tasks_unassigned()
    answer = plan_of(cluster, change)
    before = {task.id: task for task in cluster.store.tasks()}
    commit(cluster, change)
    seen: dict = {}
    for _ in range(60):
        cluster.pass_time(1)
        seen |= {task.id: task for task in cluster.store.tasks() if is_placed(task)}
    started = Counter(
        (t.service_name, t.slot, t.node_id)
        for key, t in seen.items()
        if key not in before or not is_placed(before[key])
    )
    assert places(answer.started) == started
    live = {task.id for service in cluster.store.services() for task in cluster.running(service.id)}
    stopped = Counter(
        (t.service_name, t.slot, t.node_id)
        for key, t in before.items()
        if key not in live and wanted(t) and t.status.state == TASK_STATE_RUNNING
    )
    assert places(answer.stopped) == stopped
    waiting: Counter = Counter()
    for group in answer.waiting:
        waiting[group.service_name] += group.tasks
    assert waiting == Counter(
        task.service_name
        for task in cluster.store.tasks_unassigned()
        if task.id not in before or task.service_id == change.update_service.service_id
    )


def is_placed(task: Task) -> bool:
    return task.status.state >= TASK_STATE_ASSIGNED


def commit(cluster, change: pb.PlannedChange) -> None:
    store = cluster.store
    match change.WhichOneof("kind"):
        case "create_service":
            transaction = validate.create(
                store, change.create_service.spec, cluster.ids, cluster.now_ns, "user"
            )
        case "update_service":
            asked = change.update_service
            transaction = validate.update(
                store, asked.service_id, asked.version, asked.spec, cluster.now_ns, "user"
            )
        case _:
            asked = change.update_node
            transaction = validate_node.update(
                store, asked.node_id, asked.version, asked.spec, (), cluster.now_ns, "user"
            )
    assert isinstance(transaction, Transaction)
    applied = cluster.apply([transaction])
    assert applied.verdicts[0].code == VERDICT_OK
    cluster.commit(cluster.handle(applied.changes))
