"""References: an id before a name before a prefix of an id."""

from collections.abc import Callable

import pytest

from swarm.api.v1.node_pb2 import Node, NodeDescription
from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.store import Draft, Store
from swarm.manager.core.validate import ErrorCode, InvalidRequest, resolve


@pytest.fixture
def view() -> Draft:
    draft = Draft(Store())
    for key, hostname in (("abc1", "one"), ("abd2", "twin"), ("xyz3", "twin"), ("twin0", "b")):
        draft.create(Node(id=key, description=NodeDescription(hostname=hostname)))
    draft.create(Service(id="s1", name="web.app"))
    draft.create(Service(id="s2", name="s1x"))
    for key, slot, node, desired in (
        ("t1", 1, "", 640),
        ("t2", 1, "", 512),
        ("t3", 2, "", 512),
        ("t4", 2, "", 512),
        ("t5", 0, "abc1", 512),
    ):
        draft.create(
            Task(
                id=key,
                service_id="s1",
                service_name="web.app",
                slot=slot,
                node_id=node,
                desired_state=desired,
            )
        )
    return draft


@pytest.mark.parametrize(
    ("find", "reference", "key"),
    [
        (resolve.node, "abc1", "abc1"),
        (resolve.node, "one", "abc1"),
        (resolve.node, "abd", "abd2"),
        (resolve.node, "x", "xyz3"),
        (resolve.service, "web.app", "s1"),
        (resolve.service, "s1x", "s2"),
        (resolve.service, "s1", "s1"),
        (resolve.task, "t3", "t3"),
        (resolve.task, "web.app.1", "t2"),
        (resolve.task, "web.app.1.t1", "t1"),
        (resolve.task, "web.app.abc1", "t5"),
    ],
)
def test_found(view: Draft, find: Callable[..., object], reference: str, key: str) -> None:
    assert find(view, reference).id == key  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("find", "reference", "message", "code"),
    [
        (resolve.node, "zz", "node zz not found", ErrorCode.NOT_FOUND),
        (resolve.service, "web", "service web not found", ErrorCode.NOT_FOUND),
        (resolve.task, "other.1.t1", "task other.1.t1 not found", ErrorCode.NOT_FOUND),
        (resolve.task, "web.app.9", "task web.app.9 not found", ErrorCode.NOT_FOUND),
        (
            resolve.node,
            "twin",
            "node twin is ambiguous (2 matches found based on name): use the id",
            ErrorCode.INVALID,
        ),
        (
            resolve.node,
            "ab",
            "node ab is ambiguous (2 matches found based on ID prefix): use the id",
            ErrorCode.INVALID,
        ),
        (
            resolve.task,
            "web.app.2",
            "task web.app.2 is ambiguous (2 matches found based on name): use the id",
            ErrorCode.INVALID,
        ),
        (
            resolve.service,
            "",
            "which service? Give its id, its name, or the beginning of its id",
            ErrorCode.INVALID,
        ),
    ],
)
def test_not_found(
    view: Draft, find: Callable[..., object], reference: str, message: str, code: ErrorCode
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        find(view, reference)
    assert (refused.value.message, refused.value.code) == (message, code)
