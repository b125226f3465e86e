"""The routing table of published ports: which tasks a connection may go to, in which order.

Pure: no sockets, and the time is passed in. Backends take turns; one that could not be reached is
asked last for a while, so a dead node costs a few connections some time, not every connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from swarm.api.v1.dispatcher_pb2 import IngressService
from swarm.api.v1.types_pb2 import PROTOCOL_TCP, PROTOCOL_UDP, Protocol

SUSPECT_S = 3.0

PROTOCOL_NAMES: dict[int, str] = {PROTOCOL_TCP: "tcp", PROTOCOL_UDP: "udp"}


class Published(NamedTuple):
    """A published port of the cluster."""

    protocol: Protocol.ValueType
    port: int

    def __str__(self) -> str:
        return f"{self.port}/{PROTOCOL_NAMES.get(self.protocol, 'sctp')}"


class Backend(NamedTuple):
    """A task's port, and where its node listens for it."""

    task_id: str
    target_port: int
    host: str
    port: int


@dataclass(slots=True)
class _Route:
    service_id: str
    service_name: str
    backends: tuple[Backend, ...]
    turn: int = 0


@dataclass(slots=True)
class IngressTable:
    _routes: dict[Published, _Route] = field(default_factory=dict[Published, _Route])
    _suspects: dict[Backend, float] = field(default_factory=dict[Backend, float])

    def update(self, *, complete: bool, services: Iterable[IngressService]) -> None:
        """Replaces what is known of these services, or with `complete` of all."""
        services = list(services)
        replaced = {service.service_id for service in services}
        turns = {published: route.turn for published, route in self._routes.items()}
        self._routes = {
            published: route
            for published, route in self._routes.items()
            if not complete and route.service_id not in replaced
        }
        for service in services:
            for port in service.ports:
                published = Published(port.protocol, port.published_port)
                self._routes[published] = _Route(
                    service.service_id,
                    service.service_name,
                    tuple(_backends(service, port.target_port, port.protocol)),
                    turns.get(published, 0),
                )

    @property
    def published(self) -> set[Published]:
        return set(self._routes)

    def service_name(self, published: Published) -> str:
        route = self._routes.get(published)
        return route.service_name if route is not None else ""

    def candidates(self, published: Published, now: float) -> Iterator[Backend]:
        """For one connection: every backend once, the next in turn first, suspects last."""
        route = self._routes.get(published)
        if route is None or not route.backends:
            return
        backends = route.backends
        route.turn = (route.turn + 1) % len(backends)
        suspects: list[Backend] = []
        for step in range(len(backends)):
            backend = backends[(route.turn + step) % len(backends)]
            if self._is_suspect(backend, now):
                suspects.append(backend)
            else:
                yield backend
        yield from suspects

    def failed(self, backend: Backend, now: float) -> None:
        self._suspects[backend] = now + SUSPECT_S

    def worked(self, backend: Backend) -> None:
        if self._suspects:
            self._suspects.pop(backend, None)

    def _is_suspect(self, backend: Backend, now: float) -> bool:
        if not self._suspects:
            return False
        until = self._suspects.get(backend)
        if until is not None and until <= now:
            del self._suspects[backend]
            return False
        return until is not None


def _backends(
    service: IngressService, target_port: int, protocol: Protocol.ValueType
) -> Iterator[Backend]:
    for backend in service.backends:
        for endpoint in backend.endpoints:
            if endpoint.target_port == target_port and endpoint.protocol == protocol:
                yield Backend(backend.task_id, target_port, endpoint.host, endpoint.port)
                break
