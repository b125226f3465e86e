"""Published ports of a compose service."""

from __future__ import annotations

from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import (
    PROTOCOL_SCTP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    PUBLISH_MODE_HOST,
    PUBLISH_MODE_INGRESS,
    PortConfig,
)
from swarm.compose.fields import Fields
from swarm.compose.project import Note

_PROTOCOLS = {"tcp": PROTOCOL_TCP, "udp": PROTOCOL_UDP, "sctp": PROTOCOL_SCTP}
_MODES = {"ingress": PUBLISH_MODE_INGRESS, "host": PUBLISH_MODE_HOST}
_PORT_MAX = 65_535


def apply_ports(spec: ServiceSpec, fields: Fields, notes: list[Note]) -> None:
    """Raises ComposeError."""
    fields.take("expose")  # every port of a service is open to the others
    for port in fields.each("ports"):
        if port.text("host_ip"):
            notes.append(port.note("host_ip", "is not used: a port is published on every node"))
        target = port.integer("target")
        if target is None or not 0 < target <= _PORT_MAX:
            raise port.error("target" if target is not None else "published", "needs a target port")
        config = PortConfig(name=port.text("name"), target_port=target)
        config.protocol = port.word("protocol", _PROTOCOLS) or PROTOCOL_TCP
        config.publish_mode = port.word("mode", _MODES) or PUBLISH_MODE_INGRESS
        for published in _published(port):
            config.published_port = published
            spec.endpoint.ports.append(config)


def _published(port: Fields) -> list[int]:
    """0: one is picked."""
    written = port.text("published")
    if not written:
        return [0]
    first, dash, last = written.partition("-")
    ends = [first, last] if dash else [first, first]
    if not all(end.isdigit() and int(end) <= _PORT_MAX for end in ends):
        raise port.error("published", f"is {written}: it is a port's number, or FIRST-LAST")
    return list(range(int(ends[0]), int(ends[1]) + 1))
