"""Published ports: those a service asks for must be free, the others are picked.

The range is Docker's, 30000 to 32767. Uniqueness is settled where the transaction is applied;
this is what tells a user early, and what picks numbers that will hardly clash.
"""

from collections.abc import Collection, Sequence

from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.types_pb2 import PUBLISH_MODE_INGRESS, PortConfig, Protocol
from swarm.manager.core.store import View
from swarm.manager.core.store.service_index import PortKey, port_key, port_rival, port_taken

FIRST = 30_000
LAST = 32_767
_COUNT = LAST - FIRST + 1


class PortUnavailable(Exception):  # noqa: N818  # an outcome, not a fault
    """The message names the holder, or says that the range is used up."""


def publish(
    view: View,
    wanted: Sequence[PortConfig],
    start: int,
    current: Service | None = None,
) -> list[PortConfig]:
    """The ports as `Service.ports` has them, every published ingress port filled in.

    A picked port stays with its target port when the service (`current`) is updated. The
    search begins at `start`, any number: those of two services should differ, so that services
    created at once do not pick the same. A port in host mode with no number stays so: its node
    picks one; with a number it can't be another's ingress port, which every node listens on, nor
    the other way round. Raises PortUnavailable.
    """
    own_id = current.id if current is not None else ""
    taken: dict[PortKey, None] = {}
    for port in wanted:
        if not port.published_port:
            continue
        _check_free(view, port, own_id)
        taken[port_key(port)] = None
    picked_before = _picked_before(current, taken)
    ports: list[PortConfig] = []
    for port in wanted:
        filled = PortConfig()
        filled.CopyFrom(port)
        if port.publish_mode == PUBLISH_MODE_INGRESS and not port.published_port:
            number = picked_before.pop((port.protocol, port.target_port), 0)
            filled.published_port = number or _pick(view, port.protocol, start, taken)
            taken[port_key(filled)] = None
        ports.append(filled)
    return ports


def _check_free(view: View, port: PortConfig, own_id: str) -> None:
    rival = port_rival(view, port, own_id)
    if rival is None:
        return
    holder = view.service(rival)
    assert holder is not None, "a port is held by a service that is there"
    raise PortUnavailable(port_taken(port_key(port), holder))


def _picked_before(current: Service | None, taken: Collection[PortKey]) -> dict[PortKey, int]:
    """The numbers that the service has from the range, by protocol and target port."""
    if current is None:
        return {}
    return {
        (port.protocol, port.target_port): port.published_port
        for port in current.ports
        if port.publish_mode == PUBLISH_MODE_INGRESS
        and FIRST <= port.published_port <= LAST
        and port_key(port) not in taken
    }


def _pick(view: View, protocol: Protocol.ValueType, start: int, taken: Collection[PortKey]) -> int:
    for step in range(_COUNT):
        number = FIRST + (start + step) % _COUNT
        free = PortConfig(protocol=protocol, published_port=number)
        if port_key(free) not in taken and port_rival(view, free, "") is None:
            return number
    raise PortUnavailable(
        f"all ports from {FIRST} to {LAST} are published already: give a published port"
    )
