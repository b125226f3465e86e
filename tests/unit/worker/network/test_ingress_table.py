"""Which backend a connection goes to."""

from __future__ import annotations

from swarm.api.v1.dispatcher_pb2 import IngressBackend, IngressService
from swarm.api.v1.task_pb2 import PortEndpoint
from swarm.api.v1.types_pb2 import PROTOCOL_TCP, PROTOCOL_UDP, PortConfig
from swarm.worker.network.ingress import SUSPECT_S, IngressTable, Published

WEB = Published(PROTOCOL_TCP, 8080)


def service(*tasks, service_id="s1", published=8080, target=80):
    return IngressService(
        service_id=service_id,
        service_name=f"name-{service_id}",
        ports=[PortConfig(target_port=target, published_port=published)],
        backends=[
            IngressBackend(
                task_id=task_id,
                endpoints=[
                    PortEndpoint(target_port=443, host="10.0.0.1", port=1),
                    PortEndpoint(target_port=80, protocol=PROTOCOL_UDP, host="10.0.0.1", port=2),
                    PortEndpoint(target_port=80, host="10.0.0.1", port=5000 + n),
                ],
            )
            for n, task_id in enumerate(tasks)
        ],
    )


def order(table, now=0.0):
    return [backend.task_id for backend in table.candidates(WEB, now)]


def test_backends_take_turns():
    table = IngressTable()
    table.update(complete=True, services=[service("a", "b", "c")])
    assert {order(table)[0] for _ in range(3)} == {"a", "b", "c"}
    assert sorted(order(table)) == ["a", "b", "c"]
    assert {b.port for b in table.candidates(WEB, 0)} == {5000, 5001, 5002}


def test_a_backend_that_failed_is_asked_last_for_a_while():
    table = IngressTable()
    table.update(complete=True, services=[service("a", "b")])
    bad = next(b for b in table.candidates(WEB, 0) if b.task_id == "a")
    table.failed(bad, 10.0)
    assert [order(table, 11.0) for _ in range(3)] == [["b", "a"]] * 3
    assert {order(table, 10.0 + SUSPECT_S)[0] for _ in range(2)} == {"a", "b"}
    table.failed(bad, 20.0)
    table.worked(bad)
    assert {order(table, 20.0)[0] for _ in range(2)} == {"a", "b"}


def test_changes_replace_what_was_known_of_a_service():
    table = IngressTable()
    table.update(complete=True, services=[service("a"), service("x", service_id="s2", published=9)])
    table.update(complete=False, services=[service("b")])
    assert order(table) == ["b"]
    assert table.published == {WEB, Published(PROTOCOL_TCP, 9)}
    table.update(complete=False, services=[IngressService(service_id="s2")])
    assert table.published == {WEB}
    table.update(complete=True, services=[])
    assert table.published == set()
    assert order(table) == []


def test_a_service_may_take_over_a_port_in_one_change():
    table = IngressTable()
    table.update(complete=True, services=[service("a")])
    table.update(
        complete=False,
        services=[service("b", service_id="s2"), service("a", published=7070)],
    )
    assert order(table) == ["b"]
    assert table.service_name(WEB) == "name-s2"
