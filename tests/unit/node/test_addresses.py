"""HOST, HOST:PORT and interface names."""

import pytest

from swarm.node.addresses import (
    AddressError,
    Addresses,
    address_towards,
    join_host_port,
    resolve,
    split,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", 2377)),
        ("10.0.0.1:99", ("10.0.0.1", 99)),
        ("[::1]:99", ("::1", 99)),
        ("::1", ("::1", 2377)),
        ("manager", ("manager", 2377)),
    ],
)
def test_split(text: str, expected: tuple[str, int]) -> None:
    assert split(text, 2377) == expected


@pytest.mark.parametrize("text", ["10.0.0.1:x", "10.0.0.1:0", "10.0.0.1:65535"])
def test_an_impossible_port_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="port"):
        split(text, 2377)


def test_a_listen_address_is_advertised_unless_told_otherwise() -> None:
    assert resolve("127.0.0.9:3000", "") == Addresses("127.0.0.9", "127.0.0.9", 3000)
    assert resolve("0.0.0.0", "127.0.0.9").advertise_host == "127.0.0.9"


def test_the_two_ports_are_neighbours() -> None:
    addresses = Addresses("0.0.0.0", "10.0.0.1", 2377)
    assert addresses.join_address == "10.0.0.1:2377"
    assert addresses.node_address == "10.0.0.1:2378"
    assert join_host_port("::1", 1) == "[::1]:1"


def test_an_interface_is_its_address() -> None:
    assert resolve("lo", "").listen_host == "127.0.0.1"


def test_unreachable_and_unknown_addresses_are_refused() -> None:
    with pytest.raises(AddressError, match="advertise"):
        resolve("127.0.0.1", "0.0.0.0")
    with pytest.raises(AddressError, match="neither"):
        resolve("no-such-host.invalid", "")


def test_the_address_on_the_way_to_another_machine() -> None:
    assert address_towards(["no-such-host.invalid", "127.0.0.7:2377"]) == "127.0.0.1"
    assert address_towards(["no-such-host.invalid:1"]) == ""
