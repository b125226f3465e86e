"""Constraint expressions: what they match, and what is said where they can't be read."""

import pytest

from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, Node
from swarm.manager.core.scheduler.constraint import (
    InvalidConstraint,
    check_spread,
    matches,
    parse,
    parse_all,
)


def node() -> Node:
    found = Node(id="abc", role=NODE_ROLE_MANAGER)
    found.spec.annotations.labels["Zone"] = "North"
    found.description.engine.labels["disk"] = "ssd"
    found.description.hostname = "host-1"
    found.description.platform.os = "linux"
    found.description.platform.architecture = "x86_64"
    found.status.address = "10.1.2.3"
    return found


@pytest.mark.parametrize(
    "expression",
    [
        "node.id==abc",
        "node.hostname == HOST-1",
        "node.hostname!=host-2",
        "node.role==manager",
        "NODE.ROLE!=worker",
        "node.ip==10.1.2.3",
        "node.ip==10.1.0.0/16",
        "node.ip!=10.2.0.0/16",
        "node.platform.os==Linux",
        "node.platform.arch==amd64",
        "node.platform.arch==x86_64",
        "node.labels.Zone==north",
        "node.labels.zone!=north",
        "node.labels.none!=x",
        "engine.labels.disk==ssd",
    ],
)
def test_holds(expression: str) -> None:
    opposite = expression.replace("!=", "==") if "!=" in expression else None
    opposite = opposite or expression.replace("==", "!=")
    assert parse(expression).matches(node())
    assert not parse(opposite).matches(node())


def test_all_must_hold() -> None:
    assert matches(parse_all(["node.role==manager", "node.id==abc"]), node())
    assert not matches(parse_all(["node.role==manager", "node.id==x"]), node())
    assert matches([], node())


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("node.role=manager", "expected KEY==VALUE"),
        ("", "expected KEY==VALUE"),
        ("==x", "key '' is invalid"),
        ("node.role==", "value '' is invalid"),
        ("node.role==boss", "manager or worker"),
        ("node.name==x", "unknown key 'node.name'"),
        ("node.labels.==x", "key 'node.labels.' is invalid"),
        ("node.ip==10.1.2.300", "no address and no network"),
        ("node.id==a;b", "value 'a;b' is invalid"),
    ],
)
def test_what_can_not_be_read(expression: str, why: str) -> None:
    with pytest.raises(InvalidConstraint, match=why):
        parse(expression)


def test_a_spread_is_over_labels() -> None:
    check_spread("node.labels.zone")
    check_spread("engine.labels.disk")
    for descriptor in ("node.id", "node.labels.", "zone"):
        with pytest.raises(InvalidConstraint, match=r"spread over node\.labels\.NAME"):
            check_spread(descriptor)
