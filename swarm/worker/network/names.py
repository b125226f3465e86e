"""Names of services, the addresses that they have on this node, and who is behind an address.

Pure: no sockets. An address is virtual and means something on this node alone: its proxy forwards
what is sent there. It follows from the service's id, or the task's, so that it is the same after a
restart of the agent; where two ids want one, the later asked for takes the next free.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from swarm.api.v1.dispatcher_pb2 import IngressBackend, IngressService
from swarm.stacks import NAMES_DOMAIN, NAMES_NETWORK
from swarm.worker.network.ingress import SUSPECT_S

_NETWORK = ipaddress.IPv4Network(NAMES_NETWORK)
_FIRST = 256  # below are the server's own
_COUNT = _NETWORK.num_addresses - _FIRST - 1
_TASKS = "tasks"


@dataclass(frozen=True, slots=True)
class Reach:
    """A task, and the way in to any of its ports."""

    task_id: str
    host: str
    port: int
    key: bytes


@dataclass(slots=True)
class _Service:
    id: str
    stack: str
    each: bool
    reaches: tuple[Reach, ...]
    turn: int = 0


@dataclass(slots=True)
class NameTable:
    """Kept up to date with `update`; asked by the DNS server and the proxy."""

    _services: dict[str, _Service] = field(default_factory=dict[str, _Service])
    # (stack, name) in lower case, and the ids of the services that have it.
    _named: dict[tuple[str, str], dict[str, None]] = field(
        default_factory=dict[tuple[str, str], dict[str, None]]
    )
    _names_of: dict[str, list[tuple[str, str]]] = field(
        default_factory=dict[str, list[tuple[str, str]]]
    )
    _stacks_of: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    _addresses: dict[str, int] = field(default_factory=dict[str, int])
    _holders: dict[int, str] = field(default_factory=dict[int, str])
    _service_of_task: dict[str, str] = field(default_factory=dict[str, str])
    _suspects: dict[str, float] = field(default_factory=dict[str, float])

    def update(self, *, complete: bool, services: Iterable[IngressService]) -> None:
        """Replaces what is known of these services, or with `complete` of all."""
        services = list(services)
        gone: set[str] = set()
        if complete:
            named = {service.service_id for service in services}
            for service_id in [key for key in self._services if key not in named]:
                gone |= self._forget(service_id)
        for service in services:
            turn = self._services[service.service_id].turn if self._knows(service) else 0
            gone |= self._forget(service.service_id)
            if service.names:
                self._learn(service, turn)
        for key in gone - self._services.keys() - self._service_of_task.keys():
            self._release(key)

    def resolve(self, name: str) -> list[str] | None:
        """Addresses of a name, the last dot left away; None: there is no such name.

        NAME.STACK.stack.swarm is what a container asks for that was told to search there; a name
        alone is answered where one stack only has it, STACK_NAME anywhere. tasks.NAME gives an
        address for each running task.
        """
        name = name.lower()
        stack, each = "", False
        if name.endswith(f".{NAMES_DOMAIN}"):
            name, _, stack = name.removesuffix(f".{NAMES_DOMAIN}").rpartition(".")
        if name.startswith(f"{_TASKS}."):
            name, each = name.removeprefix(f"{_TASKS}."), True
        found = self._find(stack, name)
        if found is None:
            return None
        if each or found.each:
            return [self._address(reach.task_id) for reach in found.reaches]
        return [self._address(found.id)]

    def is_ours(self, name: str) -> bool:
        """Whether nobody else is to be asked for it."""
        return name.lower().endswith(f".{NAMES_DOMAIN}") or name.lower() == NAMES_DOMAIN

    def reaches(self, address: str, now: float) -> Iterator[Reach]:
        """For one connection to an address: each task behind it once, the next in turn first,
        those that could not be reached a moment ago last."""
        key = self._holder(address)
        service = self._services.get(self._service_of_task.get(key, key))
        if service is None or not service.reaches:
            return
        if key != service.id:
            yield from (reach for reach in service.reaches if reach.task_id == key)
            return
        count = len(service.reaches)
        service.turn = (service.turn + 1) % count
        ordered = [service.reaches[(service.turn + step) % count] for step in range(count)]
        yield from sorted(ordered, key=lambda reach: self._suspects.get(reach.task_id, 0) > now)

    def failed(self, reach: Reach, now: float) -> None:
        if reach.task_id in self._service_of_task:
            self._suspects[reach.task_id] = now + SUSPECT_S

    def worked(self, reach: Reach) -> None:
        self._suspects.pop(reach.task_id, None)

    def _knows(self, service: IngressService) -> bool:
        return service.service_id in self._services

    def _learn(self, service: IngressService, turn: int) -> None:
        reaches = tuple(_reaches(service.backends))
        stack = service.stack.lower()
        row = _Service(service.service_id, stack, service.each_task, reaches, turn)
        self._services[row.id] = row
        names = [(stack, name.lower()) for name in service.names]
        names.append(("", service.service_name.lower()))
        self._names_of[row.id] = names
        for key in names:
            self._named.setdefault(key, {})[row.id] = None
            if key[0]:
                self._stacks_of.setdefault(key[1], {})[row.id] = None
        for reach in reaches:
            self._service_of_task[reach.task_id] = row.id

    def _forget(self, service_id: str) -> set[str]:
        """The ids that may have no use for an address any more."""
        row = self._services.pop(service_id, None)
        if row is None:
            return set()
        for key in self._names_of.pop(service_id):
            _drop(self._named, key, service_id)
            if key[0]:
                _drop(self._stacks_of, key[1], service_id)
        for reach in row.reaches:
            self._service_of_task.pop(reach.task_id, None)
        return {service_id, *(reach.task_id for reach in row.reaches)}

    def _release(self, key: str) -> None:
        """Tasks come and go for years, and addresses are not without end."""
        self._suspects.pop(key, None)
        number = self._addresses.pop(key, None)
        if number is not None:
            del self._holders[number]

    def _find(self, stack: str, name: str) -> _Service | None:
        for table in (
            self._named.get((stack, name), {}) if stack else {},
            self._named.get(("", name), {}),
        ):
            if table:
                return self._services[next(iter(table))]
        alone = self._stacks_of.get(name, {})
        if not stack and len(alone) == 1:
            return self._services[next(iter(alone))]
        return None

    def _address(self, key: str) -> str:
        number = self._addresses.get(key)
        if number is None:
            number = _wish(key)
            while number in self._holders:
                number = _FIRST + (number + 1 - _FIRST) % _COUNT
            self._addresses[key] = number
            self._holders[number] = key
        return str(_NETWORK[number])

    def _holder(self, address: str) -> str:
        """Who has the address; after a restart, who would have it if it were asked for."""
        number = int(ipaddress.IPv4Address(address)) - int(_NETWORK.network_address)
        if number not in self._holders:
            for key in (*self._services, *self._service_of_task):
                if key not in self._addresses and _wish(key) == number:
                    self._address(key)
                    break
        return self._holders.get(number, "")


def _drop(table: dict[Any, dict[str, None]], key: object, service_id: str) -> None:
    table[key].pop(service_id, None)
    if not table[key]:
        del table[key]


def _wish(key: str) -> int:
    digest = hashlib.sha256(key.encode()).digest()
    return _FIRST + int.from_bytes(digest[:8], "big") % _COUNT


def _reaches(backends: Iterable[IngressBackend]) -> Iterator[Reach]:
    for backend in backends:
        for endpoint in backend.endpoints:
            if not endpoint.target_port and endpoint.key:
                yield Reach(backend.task_id, endpoint.host, endpoint.port, endpoint.key)
                break
