"""How a service is reached: its ports, checked against each other."""

from swarm.api.v1.service_pb2 import ENDPOINT_MODE_DNSRR, EndpointSpec
from swarm.api.v1.types_pb2 import PROTOCOL_TCP, PUBLISH_MODE_INGRESS, PortConfig, Protocol
from swarm.manager.core.validate.errors import InvalidRequest

_PORT_MAX = 65_535


def check(endpoint: EndpointSpec) -> None:
    """Raises InvalidRequest. Clashes with other services: `allocator.ports`."""
    published: dict[tuple[int, int], None] = {}
    for port in endpoint.ports:
        _check_numbers(port)
        _check_protocol(port)
        ingress = port.publish_mode == PUBLISH_MODE_INGRESS
        if ingress and endpoint.mode == ENDPOINT_MODE_DNSRR:
            raise InvalidRequest(
                "port published with ingress mode can't be used with dnsrr mode: "
                "use mode=host for the port, or --endpoint-mode vip"
            )
        if not port.published_port:
            continue
        key = (port.protocol, port.published_port)
        if key in published:
            raise InvalidRequest(
                f"duplicate published ports provided: {port.published_port}/{_name(port)} "
                "is there twice"
            )
        published[key] = None


def _check_numbers(port: PortConfig) -> None:
    if not 1 <= port.target_port <= _PORT_MAX:
        raise InvalidRequest(
            f"invalid target port {port.target_port}: it must be between 1 and {_PORT_MAX}"
        )
    if port.published_port > _PORT_MAX:
        raise InvalidRequest(
            f"invalid published port {port.published_port}: it must be between 1 and {_PORT_MAX}, "
            "or left out"
        )


def _check_protocol(port: PortConfig) -> None:
    if port.protocol != PROTOCOL_TCP:
        raise InvalidRequest(
            f"publishing a {_name(port)} port ({port.target_port}) is not supported yet: "
            "only tcp ports can be published"
        )


def _name(port: PortConfig) -> str:
    return Protocol.Name(port.protocol).removeprefix("PROTOCOL_").lower()
