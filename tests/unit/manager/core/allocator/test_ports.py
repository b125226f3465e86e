"""Published ports: picked from Docker's range, kept over updates, refused with the holder."""

import pytest

from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.types_pb2 import PROTOCOL_UDP, PUBLISH_MODE_HOST, PortConfig
from swarm.manager.core.allocator.ports import FIRST, LAST, PortUnavailable, publish
from swarm.manager.core.store import Draft, Store


def view_with(*services: Service) -> Draft:
    draft = Draft(Store())
    for service in services:
        draft.create(service)
    return draft


def service(key: str, *ports: PortConfig) -> Service:
    return Service(id=key, name=f"name-{key}", ports=ports)


def numbers(ports: list[PortConfig]) -> list[int]:
    return [port.published_port for port in ports]


def test_a_port_is_picked_from_the_start_on_and_wraps_around() -> None:
    view = view_with(service("a", PortConfig(published_port=LAST)))
    wanted = [PortConfig(target_port=80), PortConfig(target_port=81)]
    assert numbers(publish(view, wanted, LAST - FIRST)) == [FIRST, FIRST + 1]
    assert numbers(publish(view, wanted, 7)) == [FIRST + 7, FIRST + 8]
    assert numbers(wanted) == [0, 0]


def test_a_picked_port_leaves_asked_ones_alone() -> None:
    wanted = [PortConfig(target_port=80), PortConfig(target_port=81, published_port=FIRST)]
    assert numbers(publish(view_with(), wanted, 0)) == [FIRST + 1, FIRST]


def test_protocols_have_ports_of_their_own() -> None:
    view = view_with(service("a", PortConfig(published_port=FIRST)))
    wanted = [PortConfig(target_port=53, protocol=PROTOCOL_UDP)]
    assert numbers(publish(view, wanted, 0)) == [FIRST]


def test_a_picked_port_stays_over_an_update() -> None:
    current = service("a", PortConfig(target_port=80, published_port=FIRST + 5))
    wanted = [PortConfig(target_port=79), PortConfig(target_port=80)]
    assert numbers(publish(view_with(current), wanted, 5, current)) == [FIRST + 6, FIRST + 5]


def test_a_port_of_the_service_itself_is_free_to_it() -> None:
    current = service("a", PortConfig(target_port=80, published_port=8080))
    wanted = [PortConfig(target_port=81, published_port=8080)]
    assert numbers(publish(view_with(current), wanted, 0, current)) == [8080]


def test_a_port_of_another_is_refused_by_name() -> None:
    view = view_with(service("a", PortConfig(published_port=8080)))
    with pytest.raises(PortUnavailable) as refused:
        publish(view, [PortConfig(target_port=80, published_port=8080)], 0)
    assert str(refused.value).startswith(
        "port '8080' is already in use by service 'name-a' (a) as an ingress port"
    )


def test_host_mode_is_left_to_the_node() -> None:
    held = PortConfig(target_port=80, published_port=8080, publish_mode=PUBLISH_MODE_HOST)
    wanted = [held, PortConfig(target_port=81, publish_mode=PUBLISH_MODE_HOST)]
    assert publish(view_with(service("a", held)), wanted, 0) == wanted


def test_host_mode_can_not_have_what_every_node_listens_on_for_another() -> None:
    view = view_with(service("a", PortConfig(published_port=8080)))
    wanted = PortConfig(target_port=80, published_port=8080, publish_mode=PUBLISH_MODE_HOST)
    with pytest.raises(PortUnavailable, match="in use by service 'name-a'"):
        publish(view, [wanted], 0)


def test_every_node_can_not_listen_on_what_another_has_in_host_mode() -> None:
    held = PortConfig(target_port=80, published_port=8080, publish_mode=PUBLISH_MODE_HOST)
    view = view_with(service("a", held))
    with pytest.raises(PortUnavailable) as refused:
        publish(view, [PortConfig(target_port=80, published_port=8080)], 0)
    assert str(refused.value).startswith(
        "port '8080' is already in use by service 'name-a' (a) as a host-published port (tcp)"
    )


def test_one_port_of_many_nodes_is_for_several_services_in_host_mode() -> None:
    held = PortConfig(target_port=80, published_port=8080, publish_mode=PUBLISH_MODE_HOST)
    assert publish(view_with(service("a", held)), [held], 0) == [held]


def test_a_port_in_host_mode_is_not_picked() -> None:
    held = PortConfig(target_port=80, published_port=FIRST, publish_mode=PUBLISH_MODE_HOST)
    picked = publish(view_with(service("a", held)), [PortConfig(target_port=80)], 0)
    assert numbers(picked) == [FIRST + 1]
    own = PortConfig(target_port=81, published_port=FIRST + 1, publish_mode=PUBLISH_MODE_HOST)
    current = service("b", PortConfig(target_port=80, published_port=FIRST + 1))
    again = publish(view_with(current), [own, PortConfig(target_port=80)], 1, current)
    assert numbers(again) == [FIRST + 1, FIRST + 2]


def test_a_range_that_is_used_up() -> None:
    held = [PortConfig(published_port=number) for number in range(FIRST, LAST + 1)]
    with pytest.raises(PortUnavailable, match="give a published port"):
        publish(view_with(service("a", *held)), [PortConfig(target_port=80)], 3)
