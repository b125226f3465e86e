"""Placement of groups, against a scheduler that is slow and obvious."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.api.v1.node_pb2 import (
    NODE_AVAILABILITY_ACTIVE,
    NODE_AVAILABILITY_DRAIN,
    NODE_STATE_DOWN,
    NODE_STATE_READY,
    Node,
    NodeDescription,
    NodeSpec,
    NodeStatus,
)
from swarm.api.v1.service_pb2 import (
    Placement,
    PlacementPreference,
    ResourceRequirements,
    ServiceSpec,
    TaskSpec,
)
from swarm.api.v1.task_pb2 import (
    TASK_STATE_ASSIGNED,
    TASK_STATE_FAILED,
    TASK_STATE_RUNNING,
    Task,
    TaskStatus,
)
from swarm.api.v1.types_pb2 import (
    PUBLISH_MODE_HOST,
    Annotations,
    GenericResource,
    Platform,
    Resources,
)
from swarm.generic_resources import parse_generic_resources
from swarm.manager.core.scheduler import place
from swarm.manager.core.scheduler.demand import demand_of, spread_value
from swarm.manager.core.scheduler.explain import count_reasons, explain, same_kinds
from swarm.manager.core.scheduler.filters import Reason, rejection
from swarm.manager.core.scheduler.nodes import NodeSet
from swarm.manager.core.scheduler.place import Ranking, Rankings

CPU = 1_000_000_000
MINUTE = 60 * 1_000_000_000


class Specs:
    """All of a View that a NodeSet asks for."""

    def __init__(self, **specs: ServiceSpec) -> None:
        self.specs = specs

    def spec(self, service_id: str, revision: int) -> ServiceSpec | None:
        return self.specs.get(service_id)


def spec_of(
    cpus=0, ports=(), constraints=(), most=0, spread=(), platforms=(), memory=0, generic=()
) -> ServiceSpec:
    reservations = Resources(
        nano_cpus=int(cpus * CPU),
        memory_bytes=memory,
        generic=[GenericResource(kind=kind, count=count) for kind, count in generic],
    )
    placement = Placement(
        constraints=constraints,
        preferences=[PlacementPreference(spread_descriptor=label) for label in spread],
        max_replicas_per_node=most,
        platforms=platforms,
    )
    spec = ServiceSpec(
        task=TaskSpec(
            resources=ResourceRequirements(reservations=reservations), placement=placement
        )
    )
    for port in ports:
        spec.endpoint.ports.add(target_port=80, published_port=port, publish_mode=PUBLISH_MODE_HOST)
    return spec


def node_of(
    name, cpus=4, ready=True, drained=False, labels=None, architecture="x86_64", generic=()
) -> Node:
    availability = NODE_AVAILABILITY_DRAIN if drained else NODE_AVAILABILITY_ACTIVE
    return Node(
        id=name,
        spec=NodeSpec(annotations=Annotations(labels=labels or {}), availability=availability),
        description=NodeDescription(
            resources=Resources(
                nano_cpus=cpus * CPU,
                memory_bytes=1 << 30,
                generic=parse_generic_resources(generic),
            ),
            platform=Platform(os="linux", architecture=architecture),
        ),
        status=NodeStatus(state=NODE_STATE_READY if ready else NODE_STATE_DOWN),
    )


def task_on(node_id, number, service="web", state=TASK_STATE_RUNNING) -> Task:
    return Task(
        id=f"{service}-{number}",
        service_id=service,
        revision=1,
        node_id=node_id,
        desired_state=TASK_STATE_RUNNING,
        status=TaskStatus(state=state),
    )


def build(nodes, tasks=(), **specs) -> tuple[NodeSet, Specs]:
    view = Specs(**specs)
    node_set = NodeSet()
    for node in nodes:
        node_set.put_node(node, [task for task in tasks if task.node_id == node.id], view)
    return node_set, view


def take(node_set, view, task_ids, service="web", now_ns=0, rankings=None) -> list[str]:
    demand = node_set.demand(view, service, 1)
    claim = node_set.claim(view, service, 1, active=True)
    if rankings is None:
        ranking = Ranking(node_set, (service, 1), demand, now_ns)
    else:
        ranking = rankings.of((service, 1), demand, now_ns)
    return ranking.take(task_ids, claim)


def place_group(node_set, view, count, service="web", now_ns=0) -> list[str]:
    ids = [f"{service}-new{number}" for number in range(count)]
    return take(node_set, view, ids, service, now_ns)


def best_nodes(node_set, view, service) -> list[str]:
    """Slow and obvious: those that pass all filters now; of these the ones in the best branches,
    level by level; of these the one with the best rank. More than one where branches are equal."""
    demand = node_set.demand(view, service, 1)
    fitting = [info for info in node_set if rejection(info, service, demand) is None]
    return _best_below(node_set, fitting, service, demand.preferences)


def _best_below(members, fitting, service, preferences) -> list[str]:
    if not fitting:
        return []
    if not preferences:

        def rank(info):
            return info.tasks_of.get(service, 0), info.total, info.number

        return [min(fitting, key=rank).node.id]
    tasks = Counter()
    for info in members:
        tasks[spread_value(info.node, preferences[0])] += info.tasks_of.get(service, 0)
    open_ = {spread_value(info.node, preferences[0]) for info in fitting}
    least = min(tasks[value] for value in open_)
    best: list[str] = []
    for value in open_:
        if tasks[value] == least:
            members_, fitting_ = (
                [info for info in infos if spread_value(info.node, preferences[0]) == value]
                for infos in (members, fitting)
            )
            best += _best_below(members_, fitting_, service, preferences[1:])
    return best


def place_slowly(node_set, view, count, service="web") -> list[str]:
    """Task by task."""
    placed: list[str] = []
    for number in range(count):
        best = best_nodes(node_set, view, service)
        if not best:
            break
        placed.append(best[0])
        new = task_on(best[0], f"new{number}", service, TASK_STATE_ASSIGNED)
        node_set.put(new, view)
    return placed


NODES = st.lists(
    st.builds(
        dict,
        cpus=st.integers(0, 6),
        ready=st.sampled_from([True, True, True, False]),
        drained=st.sampled_from([False, False, True]),
        labels=st.sampled_from([{}, {"zone": "n"}, {"zone": "s"}, {"zone": "n", "disk": "ssd"}]),
        generic=st.sampled_from([(), ("gpu=2",), ("gpu=a", "gpu=b", "gpu=c"), ("gpu=1", "fpga=3")]),
    ),
    min_size=1,
    max_size=8,
)
SPECS = st.builds(
    spec_of,
    cpus=st.sampled_from([0, 0.5, 1, 2]),
    ports=st.sampled_from([(), (), (8080,)]),
    constraints=st.sampled_from([(), ("node.labels.zone==n",), ("node.labels.disk!=ssd",)]),
    most=st.sampled_from([0, 0, 1, 3]),
    generic=st.sampled_from([(), (), (("gpu", 1),), (("gpu", 2), ("fpga", 1))]),
)


@settings(max_examples=150, deadline=None)
@given(NODES, SPECS, SPECS, st.lists(st.integers(0, 7), max_size=12), st.integers(0, 30))
def test_the_same_as_the_slow_and_obvious_scheduler(nodes, web, other, taken, count):
    def fresh():
        rows = [node_of(f"n{number}", **node) for number, node in enumerate(nodes)]
        tasks = [
            task_on(f"n{at % len(rows)}", number, "web" if number % 3 else "other")
            for number, at in enumerate(taken)
        ]
        return build(rows, tasks, web=web, other=other)

    fast = place_group(*fresh(), count)
    slow = place_slowly(*fresh(), count)
    assert Counter(fast) == Counter(slow)


@settings(max_examples=100, deadline=None)
@given(NODES, SPECS, st.integers(1, 40))
def test_filters_hold_and_reservations_are_never_exceeded(nodes, web, count):
    rows = [node_of(f"n{number}", **node) for number, node in enumerate(nodes)]
    node_set, view = build(rows, web=web)
    demand = demand_of(web)
    for node_id in place_group(node_set, view, count):
        info = node_set.get(node_id)
        assert info.available
        assert demand.suits(info.node)
        assert info.free_nano_cpus >= 0
        assert all(free >= 0 for free in info.free_generic.values())
        assert all(held == 1 for held in info.ports.values())
        limit = demand.max_replicas_per_node
        assert not limit or info.tasks_of["web"] <= limit


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.sampled_from(["web", "other"]), st.integers(1, 6)),
        st.tuples(st.just("end"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("node"), st.integers(0, 9), NODES.map(lambda nodes: nodes[0])),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
    ),
    max_size=25,
)
SPREAD_SPECS = st.builds(
    spec_of,
    cpus=st.sampled_from([0, 1]),
    constraints=st.sampled_from([(), ("node.labels.zone!=s",), ("node.labels.disk==ssd",)]),
    most=st.sampled_from([0, 0, 3]),
    generic=st.sampled_from([(), (), (("gpu", 1),)]),
    spread=st.sampled_from(
        [(), (), ("node.labels.zone",), ("node.labels.zone", "node.labels.disk")]
    ),
)


@settings(max_examples=200, deadline=None)
@given(NODES, SPREAD_SPECS, SPREAD_SPECS, STEPS)
def test_a_ranking_that_is_kept_places_like_the_slow_scheduler(nodes, web, other, steps):
    rows = [node_of(f"n{number}", **node) for number, node in enumerate(nodes)]
    fast, view = build(rows, web=web, other=other)
    slow, _ = build(rows, web=web, other=other)
    rankings = Rankings(fast)
    numbers = itertools.count()
    on: dict[str, str] = {}
    for kind, what, more in steps:
        if kind == "place":
            tasks = [task_on("", next(numbers), what) for _ in range(more)]
            chosen = take(fast, view, [task.id for task in tasks], what, rankings=rankings)
            for task, node_id in zip(tasks, chosen, strict=False):
                assert node_id in best_nodes(slow, view, what)
                task.node_id = on[task.id] = node_id
                slow.put(task, view)
            assert len(chosen) == more or not best_nodes(slow, view, what)
        elif kind == "end" and on:
            task_id = list(on)[what % len(on)]
            for node_set in (fast, slow):
                node_set.forget(Task(id=task_id, node_id=on[task_id]))
            del on[task_id]
        elif kind == "node":
            for node_set in (fast, slow):
                node_set.put_node(node_of(f"n{what}", **more), (), view)
        elif kind == "remove":
            for node_set in (fast, slow):
                node_set.remove_node(f"n{what}")
            on = {task: node_id for task, node_id in on.items() if node_id != f"n{what}"}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ns"), st.sampled_from("123")), min_size=1, max_size=9),
    st.integers(1, 40),
)
def test_preferences_even_out_every_level_within_1(places, count):
    rows = [
        node_of(f"n{number}", cpus=99, labels={"zone": zone, "rack": rack})
        for number, (zone, rack) in enumerate(places)
    ]
    web = spec_of(spread=("node.labels.zone", "node.labels.rack"))
    chosen = place_group(*build(rows, web=web), count)
    at = {f"n{number}": place for number, place in enumerate(places)}
    assert len(chosen) == count
    zones = Counter({zone: 0 for zone, _ in places})
    racks = Counter(dict.fromkeys(places, 0))
    on_nodes = Counter(dict.fromkeys(at, 0))
    for node_id in chosen:
        zones[at[node_id][0]] += 1
        racks[at[node_id]] += 1
        on_nodes[node_id] += 1
    assert max(zones.values()) - min(zones.values()) <= 1
    for zone in zones:
        in_zone = [n for place, n in racks.items() if place[0] == zone]
        assert max(in_zone) - min(in_zone) <= 1
    for place_ in racks:
        on_rack = [n for node_id, n in on_nodes.items() if at[node_id] == place_]
        assert max(on_rack) - min(on_rack) <= 1


def test_a_full_branch_leaves_its_share_to_the_others():
    rows = [node_of("n", cpus=1, labels={"zone": "n"}), node_of("s", cpus=9, labels={"zone": "s"})]
    web = spec_of(cpus=1, spread=("node.labels.zone",))
    assert Counter(place_group(*build(rows, web=web), 6)) == {"n": 1, "s": 5}


def test_nodes_without_the_label_are_a_branch_of_their_own():
    rows = [node_of("a", labels={"zone": "n"}), node_of("b", labels={"zone": "n"}), node_of("c")]
    web = spec_of(spread=("node.labels.zone",))
    assert Counter(place_group(*build(rows, web=web), 4)) == {"a": 1, "b": 1, "c": 2}


def test_fewer_tasks_in_all_decide_between_equals():
    tasks = [task_on("a", number, "other") for number in range(2)]
    rows = [node_of("a"), node_of("b")]
    node_set, view = build(rows, tasks, web=spec_of(), other=spec_of())
    assert place_group(node_set, view, 1) == ["b"]


def test_a_node_where_the_revision_keeps_failing_goes_last_for_five_minutes():
    node_set, view = build([node_of("a"), node_of("b")], web=spec_of())
    for number in range(5):
        failed = task_on("a", number, state=TASK_STATE_FAILED)
        failed.status.timestamp_ns = MINUTE
        node_set.failed(failed)
    busy = [task_on("b", number) for number in range(3)]
    for task in busy:
        node_set.put(task, view)
    assert place_group(node_set, view, 2, now_ns=2 * MINUTE) == ["b", "b"]
    assert place_group(node_set, view, 2, now_ns=7 * MINUTE) == ["a", "a"]


def test_platforms():
    rows = [node_of("arm", architecture="aarch64"), node_of("pc", architecture="x86_64")]
    web = spec_of(platforms=[Platform(os="linux", architecture="arm64")])
    assert set(place_group(*build(rows, web=web), 3)) == {"arm"}


def test_what_a_task_holds_is_counted_once_and_given_back():
    node_set, view = build([node_of("a", cpus=2)], web=spec_of(cpus=1, ports=(80,)))
    info = node_set.get("a")
    task = task_on("a", 1, state=TASK_STATE_ASSIGNED)
    for _ in range(2):
        node_set.put(task, view)
    assert (info.free_nano_cpus, info.total, info.ports) == (CPU, 1, {(0, 80): 1})
    task.status.state = TASK_STATE_FAILED
    assert node_set.put(task, view), "room is given back"
    assert not node_set.put(task, view)
    assert (info.free_nano_cpus, info.total, info.ports) == (2 * CPU, 0, {})


def test_named_generic_resources_are_given_one_by_one_and_taken_back():
    node_set, view = build([node_of("a", generic=("gpu=x,gpu=y,gpu=z", "disk=4"))], web=GPUS)
    info = node_set.get("a")
    assert take(node_set, view, ["one", "two"]) == ["a"]
    assert names_in(info.assign("one", demand_of(GPUS))) == {"gpu": ["x", "y"], "disk": 3}
    first = task_on("a", "one", state=TASK_STATE_RUNNING)
    first.id = "one"
    node_set.forget(first)
    first.assigned_generic.add(kind="gpu", names=["x", "z"])
    node_set.put(first, view)
    assert not take(node_set, view, ["two"])
    node_set.forget(first)
    assert take(node_set, view, ["two"]) == ["a"]
    assert names_in(info.assign("two", demand_of(GPUS))) == {"gpu": ["x", "y"], "disk": 3}


def test_a_name_that_a_task_holds_is_not_given_again():
    node_set, view = build([node_of("a", generic=("gpu=x,gpu=y,gpu=z",))], web=GPU)
    held = task_on("a", 1)
    held.assigned_generic.add(kind="gpu", names=["y"])
    node_set.put(held, view)
    info = node_set.get("a")
    assert take(node_set, view, ["two", "three", "four"]) == ["a", "a"]
    given = [info.assign(task, demand_of(GPU))[0].names for task in ("two", "three")]
    assert given == [["x"], ["z"]]


GPUS = spec_of(generic=(("gpu", 2), ("disk", 3)))
GPU = spec_of(generic=(("gpu", 1),))


def names_in(assigned):
    return {generic.kind: list(generic.names) or generic.count for generic in assigned}


def test_explanations_are_swarms():
    assert explain({}) == "no suitable node"
    counts = count_reasons([Reason.CONSTRAINTS, Reason.RESOURCES, Reason.RESOURCES])
    assert explain(counts) == (
        "no suitable node (insufficient resources on 2 nodes; "
        "scheduling constraints not satisfied on 1 node)"
    )
    equal = count_reasons([Reason.HOST_PORT, Reason.NOT_AVAILABLE])
    assert explain(equal) == (
        "no suitable node (1 node not available for new tasks; "
        "host-mode port already in use on 1 node)"
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({Reason.RESOURCES: 1}, {Reason.RESOURCES: 7}, True),
        (
            {Reason.RESOURCES: 1, Reason.PLATFORM: 2},
            {Reason.RESOURCES: 2, Reason.PLATFORM: 1},
            True,
        ),
        ({Reason.RESOURCES: 1}, {Reason.PLATFORM: 1}, False),
        ({Reason.RESOURCES: 1}, {}, False),
        ({Reason.NOT_AVAILABLE: 1}, {Reason.NOT_AVAILABLE: 2}, True),
    ],
)
def test_kinds_of_reasons_are_compared_without_numbers(one, other, same):
    assert same_kinds(explain(one), explain(other)) == same


def test_one_more_task_costs_what_changed_and_not_a_look_at_every_node(monkeypatch):
    node_set, view = build([node_of(f"n{number}") for number in range(1_000)], web=spec_of())
    rankings = Rankings(node_set)
    ids = [f"t{number}" for number in range(1_000)]
    chosen = take(node_set, view, ids, rankings=rankings)
    looked_at = []
    monkeypatch.setattr(place, "has_room", lambda info, *_: looked_at.append(info) or True)
    node_set.forget(Task(id="t7", node_id=chosen[7]))
    assert take(node_set, view, ["again"], rankings=rankings) == [chosen[7]]
    # That it has room, and that it has for one more.
    assert {info.node.id for info in looked_at} == {"n7"}
    assert len(looked_at) == 2
