"""--plan and --check-index: what is asked, what is shown, and the exit code."""

import json

import pytest

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_DRAIN, NodeSpec
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import Annotations


def spec(replicas: int = 1) -> ServiceSpec:
    made = ServiceSpec(annotations=Annotations(name="web"))
    made.task.container.image = "nginx:1"
    made.replicated.replicas = replicas
    return made


@pytest.fixture
def web(cluster):
    """Scaled from 1 to 4: two start, one stops, one finds no node."""
    cluster.plan = pb.PlanResponse(
        index=42,
        objects=[pb.PlannedObject(id="x", name="web", old_service=spec(1), new_service=spec(4))],
        started=[
            pb.PlannedTask(service_name="web", slot=2, node_id="m1", hostname="alpha"),
            pb.PlannedTask(service_name="agent", slot=0, node_id="w1", hostname="beta"),
        ],
        stopped=[pb.PlannedTask(service_name="web", slot=1, node_id="w1", hostname="beta")],
        tasks_started=7_001,
        tasks_stopped=1,
        waiting=[
            pb.WaitingTasks(
                service_name="web",
                tasks=9,
                slots=[4, 5, 6, 7, 8, 9],
                refusals=[
                    pb.NodeRefusal(hostname="alpha", reason="needs 2 CPUs, 0.5 free"),
                    pb.NodeRefusal(hostname="beta", reason="is drained"),
                ],
            )
        ],
    )
    return cluster.create(spec())


def test_a_plan_for_people(manager, web, swarmctl) -> None:
    shown = swarmctl("service", "scale", "--plan", "web=4")
    assert (shown.code, shown.err) == (2, "")
    assert shown.out == (
        "update service web\n"
        "  ~ Mode.Replicated.Replicas: 1 -> 4\n"
        "\n"
        "tasks\n"
        "  + web.2  starts on alpha\n"
        "  + agent  starts on beta\n"
        "  + 6999 more start (--format json lists them)\n"
        "  - web.1  stops on beta\n"
        "  ! web.4, web.5, web.6, web.7, web.8 and 4 more fit on no node\n"
        "        alpha: needs 2 CPUs, 0.5 free\n"
        "        beta: is drained\n"
        "\n"
        "Plan: 7001 to start, 1 to stop, 9 without a node. Nothing was changed.\n"
        "To do it unless somebody changes it meanwhile: add --check-index 42\n"
    )
    assert "UpdateService" not in manager.calls


def test_a_plan_for_scripts(manager, web, swarmctl) -> None:
    shown = swarmctl("service", "update", "--plan", "--format", "json", "--image", "b", "web")
    plan = json.loads(shown.out)
    assert (shown.code, plan["Index"], plan["Changes"]) == (2, 42, True)
    assert plan["Objects"][0]["Differences"] == [
        {"Path": "Mode.Replicated.Replicas", "Old": "1", "New": "4"}
    ]
    assert plan["Start"][0] == {"Service": "web", "Slot": 2, "NodeID": "m1", "Node": "alpha"}
    assert plan["Waiting"][0]["Refused"][1]["Reason"] == "is drained"
    asked = manager.requests[-1].changes[0].update_service
    assert (asked.service_id, asked.spec.task.container.image) == (web.id, "b")


def test_nothing_to_do(manager, cluster, web, swarmctl) -> None:
    cluster.plan = pb.PlanResponse(
        index=42, objects=[pb.PlannedObject(name="web", old_service=spec(), new_service=spec())]
    )
    shown = swarmctl("service", "rollback", "--to", "1", "--plan", "web")
    assert (shown.code, shown.out) == (
        0,
        "service web: nothing in its spec changes\n\nNothing to do (index 42).\n",
    )
    assert manager.requests[-1].changes[0].update_service.rollback_to == 1


def test_a_new_service_and_a_node(manager, cluster, swarmctl) -> None:
    cluster.plan = pb.PlanResponse(
        objects=[pb.PlannedObject(name="web", new_service=spec())], tasks_started=1
    )
    shown = swarmctl("service", "create", "--plan", "--name", "web", "nginx:1")
    assert shown.code == 2
    assert shown.out.startswith("create service web\n  + ")
    assert "\n  + ContainerSpec.Image: nginx:1\n" in shown.out
    assert not cluster.services
    drained = NodeSpec(availability=NODE_AVAILABILITY_DRAIN)
    cluster.plan = pb.PlanResponse(
        objects=[pb.PlannedObject(name="beta", old_node=NodeSpec(), new_node=drained)]
    )
    shown = swarmctl("node", "update", "--availability", "drain", "--plan", "beta")
    assert shown.code == 2
    assert "update node beta\n  ~ Availability: active -> drain\n" in shown.out
    assert not cluster.nodes["w1"].node.spec.availability


def test_check_index_goes_with_the_change(manager, cluster, web, swarmctl) -> None:
    assert swarmctl("service", "scale", "--check-index", "42", "-d", "web=2").code == 0
    asked = manager.requests[-1]
    assert (asked.HasField("check_index"), asked.check_index) == (True, 42)
    assert swarmctl("service", "scale", "-d", "web=3").code == 0
    assert not manager.requests[-1].HasField("check_index")
    assert swarmctl("node", "update", "--check-index", "7", "--label-add", "a=b", "beta").code == 0
    assert manager.requests[-1].check_index == 7


_BAD_INDEX = (
    'invalid argument "x" for "--check-index" flag: strconv.ParseUint: parsing "x": invalid syntax'
)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--format", "json"), "--format goes with --plan"),
        (
            ("--plan", "--format", "xml"),
            'invalid argument "xml" for "--format" flag: must be json',
        ),
        (
            ("--check-index", "x"),
            _BAD_INDEX,
        ),
    ],
)
def test_bad_flags_are_not_errors_of_the_plan(manager, web, swarmctl, words, error) -> None:
    shown = swarmctl("service", "update", *words, "web")
    assert (shown.code, shown.err.splitlines()[0]) == (125, error)
    assert swarmctl("service", "scale", "--plan", "nosuch=1").code == 1
