"""KIND=COUNT and KIND=NAME, as swarmd and services are given them."""

import pytest

from swarm.api.v1.types_pb2 import GenericResource
from swarm.generic_resources import parse_generic_resources, parse_reservation


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([], []),
        (["gpu=4"], [GenericResource(kind="gpu", count=4)]),
        (
            ["gpu=a", "gpu=b", "ssd=1"],
            [GenericResource(kind="gpu", names=["a", "b"]), GenericResource(kind="ssd", count=1)],
        ),
        (["gpu=a,gpu=b"], [GenericResource(kind="gpu", names=["a", "b"])]),
    ],
)
def test_what_a_node_has(texts, found):
    assert parse_generic_resources(texts) == found


@pytest.mark.parametrize("text", ["gpu", "gpu=", "=1", "gpu=1,gpu=2", "gpu=1,gpu=a", "gpu=-1"])
def test_what_no_node_can_have(text):
    with pytest.raises(ValueError, match="generic resource"):
        parse_generic_resources([text])


def test_a_service_reserves_a_count():
    assert parse_reservation("gpu=2") == GenericResource(kind="gpu", count=2)


@pytest.mark.parametrize("text", ["gpu", "gpu=0", "gpu=-1", "gpu=a", "=2"])
def test_what_no_service_can_reserve(text):
    with pytest.raises(ValueError, match="takes KIND=COUNT"):
        parse_reservation(text)
