"""Services by what must be theirs alone (name, ports), and their revisions' numbers.

A port in ingress mode is one service's alone, as every node listens on it. One in host mode may be
several services', on different nodes, but no service's ingress port.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from swarm.api.v1.service_pb2 import Service, ServiceRevision
from swarm.api.v1.types_pb2 import (
    PUBLISH_MODE_HOST,
    PUBLISH_MODE_INGRESS,
    PortConfig,
    Protocol,
    PublishMode,
)
from swarm.manager.core.store.view import View

PortKey = tuple[Protocol.ValueType, int]


def ingress_ports(service: Service) -> Iterator[PortKey]:
    """(protocol, number) of every port that no other service may publish."""
    return _published(service, PUBLISH_MODE_INGRESS)


def host_ports(service: Service) -> Iterator[PortKey]:
    """(protocol, number) of every port that no other service may publish in ingress mode."""
    return _published(service, PUBLISH_MODE_HOST)


def _published(service: Service, mode: PublishMode.ValueType) -> Iterator[PortKey]:
    for port in service.ports:
        if port.publish_mode == mode and port.published_port:
            yield port_key(port)


def port_key(port: PortConfig) -> PortKey:
    return port.protocol, port.published_port


def name_taken(name: str) -> str:
    return f"service {name} already exists: choose another name, or update that service"


def port_taken(key: PortKey, holder: Service) -> str:
    """Docker's words, and what to do."""
    protocol = Protocol.Name(key[0]).removeprefix("PROTOCOL_").lower()
    how = "an ingress port" if key in ingress_ports(holder) else "a host-published port"
    return (
        f"port '{key[1]}' is already in use by service '{holder.name}' ({holder.id}) "
        f"as {how} ({protocol}): publish another port"
    )


def port_rival(view: View, port: PortConfig, own_id: str) -> str | None:
    """The id of another service that keeps the service `own_id` from publishing the port."""
    if not port.published_port:
        return None
    rivals = [view.port_holder(*port_key(port))]
    if port.publish_mode == PUBLISH_MODE_INGRESS:
        rivals += view.host_port_holders(*port_key(port))
    return next((rival for rival in rivals if rival not in (None, own_id)), None)


class ServiceIndex:
    def __init__(self) -> None:
        self.by_name: dict[str, Service] = {}
        self.port_holders: dict[PortKey, str] = {}
        self.host_port_holders: dict[PortKey, dict[str, None]] = {}
        self.revisions: dict[str, list[int]] = {}

    def move_service(self, old: Service | None, new: Service | None) -> None:
        if old is not None:
            if new is None or new.name != old.name:
                del self.by_name[old.name]
            for port in ingress_ports(old):
                self.port_holders.pop(port, None)
            for port in host_ports(old):
                holders = self.host_port_holders[port]
                del holders[old.id]
                if not holders:
                    del self.host_port_holders[port]
        if new is not None:
            self.by_name[new.name] = new
            for port in ingress_ports(new):
                self.port_holders[port] = new.id
            for port in host_ports(new):
                self.host_port_holders.setdefault(port, {})[new.id] = None

    def move_revision(self, old: ServiceRevision | None, new: ServiceRevision | None) -> None:
        if old is not None:
            numbers = self.revisions[old.service_id]
            del numbers[bisect_left(numbers, old.revision)]
            if not numbers:
                del self.revisions[old.service_id]
        if new is not None:
            insort(self.revisions.setdefault(new.service_id, []), new.revision)
