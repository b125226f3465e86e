"""Placement constraints: "node.labels.zone == north". Docker's syntax and meaning.

A key, `==` or `!=`, a value. Values are compared without regard to case, label keys with it;
node.ip takes an address or a network. Source: swarmkit manager/constraint/constraint.go.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from swarm.api.v1.node_pb2 import NODE_ROLE_MANAGER, Node

_NODE_LABEL = "node.labels."
_ENGINE_LABEL = "engine.labels."
_PLAIN_KEYS = (
    "node.id",
    "node.hostname",
    "node.ip",
    "node.role",
    "node.platform.os",
    "node.platform.arch",
)
_KEY = re.compile(r"[a-z0-9](?:[a-z0-9_.\-]*[a-z0-9])?", re.IGNORECASE)
_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE)
# Docker takes the machine's own name for the architecture, and Go's.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class InvalidConstraint(ValueError):  # noqa: N818  # what it is, as InvalidRequest
    """The expression can't be read; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Constraint:
    key: str
    # True for ==, False for !=.
    equal: bool
    value: str
    # Of node.ip alone.
    network: IPv4Network | IPv6Network | None = None

    def matches(self, node: Node) -> bool:
        return self.allows(value_of(self.key, node))

    def allows(self, value: str | None) -> bool:
        """May a node have this value of the key? None: it has none, and so not this one."""
        return self._is(value) == self.equal

    def __str__(self) -> str:
        return f"{self.key}{'==' if self.equal else '!='}{self.value}"

    def _is(self, value: str | None) -> bool:
        if value is None:
            return False
        if self.key == "node.ip":
            return self._contains(value)
        if self.key == "node.platform.arch":
            return _architecture(value) == _architecture(self.value)
        return value.lower() == self.value.lower()

    def _contains(self, address: str) -> bool:
        try:
            return self.network is not None and ip_address(address) in self.network
        except ValueError:
            return False  # a node known by a name has no address to compare


def parse(expression: str) -> Constraint:
    """Raises InvalidConstraint."""
    position, equal = _find_operator(expression)
    key, value = expression[:position].strip(), expression[position + 2 :].strip()
    if not _KEY.fullmatch(key):
        raise InvalidConstraint(f"constraint '{expression}': key '{key}' is invalid")
    if not _VALUE.fullmatch(value):
        raise InvalidConstraint(f"constraint '{expression}': value '{value}' is invalid")
    key = _known_key(key, expression)
    network = _network(value, expression) if key == "node.ip" else None
    if key == "node.role" and value.lower() not in ("manager", "worker"):
        raise InvalidConstraint(f"constraint '{expression}': node.role is manager or worker")
    return Constraint(key, equal, value, network)


def parse_all(expressions: Iterable[str]) -> list[Constraint]:
    """All must hold. Raises InvalidConstraint for the first that can't be read."""
    return [parse(expression) for expression in expressions]


def matches(constraints: Iterable[Constraint], node: Node) -> bool:
    """Do all of them hold on the node?"""
    return all(constraint.matches(node) for constraint in constraints)


def check_spread(descriptor: str) -> None:
    """A preference can spread over labels. Raises InvalidConstraint."""
    for prefix in (_NODE_LABEL, _ENGINE_LABEL):
        if descriptor.startswith(prefix) and len(descriptor) > len(prefix):
            return
    raise InvalidConstraint(
        f"placement preference 'spread={descriptor}': spread over node.labels.NAME or "
        "engine.labels.NAME"
    )


def _find_operator(expression: str) -> tuple[int, bool]:
    found = [
        (position, operator == "==")
        for operator in ("==", "!=")
        if (position := expression.find(operator)) >= 0
    ]
    if not found:
        raise InvalidConstraint(
            f"constraint '{expression}': expected KEY==VALUE or KEY!=VALUE, such as "
            "node.role==worker"
        )
    return min(found)


def _known_key(key: str, expression: str) -> str:
    lowered = key.lower()
    for prefix in (_NODE_LABEL, _ENGINE_LABEL):
        if lowered.startswith(prefix) and len(key) > len(prefix):
            return prefix + key[len(prefix) :]
    if lowered in _PLAIN_KEYS:
        return lowered
    raise InvalidConstraint(
        f"constraint '{expression}': unknown key '{key}'; keys are {', '.join(_PLAIN_KEYS)}, "
        "node.labels.NAME and engine.labels.NAME"
    )


def _network(value: str, expression: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(value, strict=False)
    except ValueError:
        raise InvalidConstraint(
            f"constraint '{expression}': '{value}' is no address and no network (10.0.0.0/8)"
        ) from None


def value_of(key: str, node: Node) -> str | None:
    """What a constraint with this key compares."""
    if key.startswith(_NODE_LABEL):
        return node.spec.annotations.labels.get(key[len(_NODE_LABEL) :])
    if key.startswith(_ENGINE_LABEL):
        return node.description.engine.labels.get(key[len(_ENGINE_LABEL) :])
    match key:
        case "node.id":
            return node.id
        case "node.hostname":
            return node.description.hostname
        case "node.ip":
            return node.status.address
        case "node.role":
            return "manager" if node.role == NODE_ROLE_MANAGER else "worker"
        case "node.platform.os":
            return node.description.platform.os
        case _:
            return node.description.platform.architecture


def _architecture(name: str) -> str:
    return _ARCHITECTURES.get(name.lower(), name.lower())
