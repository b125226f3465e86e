"""`swarmctl events`: Docker's lines, filters and formats."""

import json

import pytest

from swarm.api.v1 import control_pb2 as pb


def event(kind: str, action: str, key: str, **attributes: str) -> pb.ClusterEvent:
    at_ns = 1_700_000_000_000_000_005
    return pb.ClusterEvent(kind=kind, action=action, id=key, at_ns=at_ns, attributes=attributes)


@pytest.fixture
def told(cluster):
    cluster.event_answers = [
        pb.EventsResponse(missed=True),
        pb.EventsResponse(
            events=[
                event(
                    "service",
                    "update",
                    "s1",
                    name="web",
                    **{"replicas.old": "1", "replicas.new": "2"},
                ),
                event("task", "running", "t1", name="web.1", service="web", node="beta"),
                event("node", "update", "w1", name="beta", **{"state.new": "down"}),
            ]
        ),
        pb.EventsResponse(revision=9),
    ]


def test_lines(manager, cluster, told, swarmctl) -> None:
    shown = swarmctl("events", "--since", "1h")
    assert (shown.code, shown.err) == (0, "warning: earlier events are not kept any more\n")
    assert shown.out == (
        "2023-11-14T22:13:20.000000005Z service update s1 "
        "(name=web, replicas.new=2, replicas.old=1)\n"
        "2023-11-14T22:13:20.000000005Z task running t1 (name=web.1, node=beta, service=web)\n"
        "2023-11-14T22:13:20.000000005Z node update w1 (name=beta, state.new=down)\n"
    )
    assert manager.requests[0].since_ns > 0
    assert not manager.requests[0].until_ns


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        (["event=running"], ["t1"]),
        (["event=running", "event=update"], ["s1", "t1", "w1"]),
        (["service=web"], ["s1", "t1"]),
        (["service=s1"], ["s1"]),
        (["node=beta"], ["t1", "w1"]),
        (["node=beta", "event=update"], ["w1"]),
        (["scope=local"], []),
        (["label=a"], []),
    ],
)
def test_filters(manager, told, swarmctl, filters, ids) -> None:
    words = [word for text in filters for word in ("--filter", text)]
    assert swarmctl("events", *words, "--format", "{{.Actor.ID}}").out.split() == ids


def test_formats(manager, told, swarmctl) -> None:
    first = json.loads(swarmctl("events", "--format", "json").out.splitlines()[1])
    assert first == {
        "Type": "task",
        "Action": "running",
        "Actor": {"ID": "t1", "Attributes": {"name": "web.1", "service": "web", "node": "beta"}},
        "scope": "swarm",
        "time": 1_700_000_000,
        "timeNano": 1_700_000_000_000_000_005,
    }
    shown = swarmctl("events", "--format", "{{.Type}} {{.Actor.Attributes.name}}").out
    assert shown.splitlines()[0] == "service web"
    bad = swarmctl("events", "--format", "{{.Nope")
    assert (bad.code, bad.out) == (64, "")
    kind = swarmctl("events", "--filter", "type=volume")
    assert (kind.code, kind.err) == (
        1,
        "invalid filter 'type=volume': choose from config, node, secret, service, task\n",
    )
    assert swarmctl("events", "--filter", "type=task").code == 0
    assert manager.requests[-1].kinds == ["task"]
