"""Which addresses a local cluster takes, and that two never take the same."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from swarm.local import addresses
from swarm.local.addresses import SHARED_HOST, claim
from swarm.local.errors import LocalError


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(held: ExitStack, host: str, port: int) -> None:
    one = held.enter_context(socket.socket())
    one.bind((host, port))
    one.listen()


def test_nodes_have_addresses_in_one_block(held: ExitStack, tmp_path: Path) -> None:
    made = claim(tmp_path, 5)
    held.callback(made.release)
    network = made.block.removesuffix(".0/24")
    assert [a.host for a in made.addresses] == [f"{network}.{number}" for number in range(1, 6)]
    assert len({a.port for a in made.addresses}) == 1
    assert not made.shared
    assert not network.startswith("127.0.")


def test_a_folder_gets_its_block_again(tmp_path: Path) -> None:
    blocks = set()
    for _ in range(2):
        made = claim(tmp_path, 1)
        blocks.add(made.block)
        made.release()
    assert len(blocks) == 1


def test_a_block_in_use_is_passed_over(held: ExitStack, tmp_path: Path) -> None:
    starting = claim(tmp_path, 3)
    held.callback(starting.release)
    while_starting = claim(tmp_path, 3)
    held.callback(while_starting.release)
    assert while_starting.block != starting.block
    starting.release()
    listen(held, starting.addresses[0].host, starting.addresses[0].port)
    while_running = claim(tmp_path, 3)
    held.callback(while_running.release)
    assert while_running.block not in (starting.block, while_starting.block)


def test_a_port_taken_on_every_address_is_not_used(
    held: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere = held.enter_context(socket.socket())
    everywhere.bind(("0.0.0.0", 0))
    everywhere.listen()
    taken = everywhere.getsockname()[1]
    monkeypatch.setattr(addresses, "_JOIN_PORTS", (taken, taken - 1, 52377))
    made = claim(tmp_path, 1)
    held.callback(made.release)
    assert made.addresses[0].port == 52377


def test_where_there_is_one_address_nodes_differ_in_ports(
    held: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_PROBE_HOST", "192.0.2.1")  # no address of this machine
    made = claim(tmp_path, 4)
    held.callback(made.release)
    assert made.shared
    assert made.block == ""
    assert {a.host for a in made.addresses} == {SHARED_HOST}
    ports = [port for a in made.addresses for port in (a.port, a.port + 1)]
    assert len(set(ports)) == 8
    with pytest.raises(OSError, match="in use"):
        listen(held, SHARED_HOST, ports[0])
    made.free_ports()
    for port in ports:
        listen(held, SHARED_HOST, port)


def test_too_many_nodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="at most 200"):
        claim(tmp_path, 201)
