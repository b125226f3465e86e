"""Services by what must be theirs alone (name, ingress ports), and their revisions' numbers."""

from bisect import bisect_left, insort
from collections.abc import Iterator

from swarm.api.v1.service_pb2 import Service, ServiceRevision
from swarm.api.v1.types_pb2 import PUBLISH_MODE_INGRESS, PortConfig, Protocol

PortKey = tuple[Protocol.ValueType, int]


def ingress_ports(service: Service) -> Iterator[PortKey]:
    """(protocol, number) of every port that no other service may publish."""
    for port in service.ports:
        if port.publish_mode == PUBLISH_MODE_INGRESS and port.published_port:
            yield port_key(port)


def port_key(port: PortConfig) -> PortKey:
    return port.protocol, port.published_port


def name_taken(name: str) -> str:
    return f"service {name} already exists: choose another name, or update that service"


def port_taken(key: PortKey, holder: Service) -> str:
    """Docker's words, and what to do."""
    protocol = Protocol.Name(key[0]).removeprefix("PROTOCOL_").lower()
    return (
        f"port '{key[1]}' is already in use by service '{holder.name}' ({holder.id}) "
        f"as an ingress port ({protocol}): publish another port"
    )


class ServiceIndex:
    def __init__(self) -> None:
        self.by_name: dict[str, Service] = {}
        self.port_holders: dict[PortKey, str] = {}
        self.revisions: dict[str, list[int]] = {}

    def move_service(self, old: Service | None, new: Service | None) -> None:
        if old is not None:
            if new is None or new.name != old.name:
                del self.by_name[old.name]
            for port in ingress_ports(old):
                self.port_holders.pop(port, None)
        if new is not None:
            self.by_name[new.name] = new
            for port in ingress_ports(new):
                self.port_holders[port] = new.id

    def move_revision(self, old: ServiceRevision | None, new: ServiceRevision | None) -> None:
        if old is not None:
            numbers = self.revisions[old.service_id]
            del numbers[bisect_left(numbers, old.revision)]
            if not numbers:
                del self.revisions[old.service_id]
        if new is not None:
            insort(self.revisions.setdefault(new.service_id, []), new.revision)
