"""`--publish`: Docker's short and long syntax for ports. Pure.

Source: docker/cli opts/port.go and docker/go-connections nat, whose words the errors have.
"""

from __future__ import annotations

import csv
import re

from swarm.api.v1.types_pb2 import (
    PROTOCOL_TCP,
    PUBLISH_MODE_INGRESS,
    PortConfig,
    Protocol,
    PublishMode,
)
from swarm.dockerapi.json_values import ApiError
from swarm.dockerapi.words import PROTOCOL, PUBLISH_MODE

_PORT_MAX = 65_535
_LONG_SYNTAX = re.compile(r"\w+=\w+(,\w+=\w+)*")


def parse_publish(text: str) -> list[PortConfig]:
    """The ports of one flag: "8080:80/tcp", "8000-8002:80-82", "target=80,mode=host".

    Raises ValueError.
    """
    return [_parse_long(text)] if _LONG_SYNTAX.search(text) else _parse_short(text)


def _parse_long(text: str) -> PortConfig:
    port = PortConfig(protocol=PROTOCOL_TCP, publish_mode=PUBLISH_MODE_INGRESS)
    for field in next(csv.reader([text])):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid field: {field}")
        match key:
            case "protocol":
                port.protocol = _protocol(value, f"invalid protocol value '{value}'")
            case "mode":
                port.publish_mode = _mode(value)
            case "target":
                port.target_port = _long_number("target", value)
            case "published":
                port.published_port = _long_number("published", value)
            case _:
                raise ValueError(f"invalid field key: {key}")
    if not port.target_port:
        raise ValueError("missing mandatory field 'target'")
    return port


def _protocol(word: str, complaint: str) -> Protocol.ValueType:
    try:
        return PROTOCOL.member(word)
    except ApiError:
        raise ValueError(complaint) from None


def _mode(word: str) -> PublishMode.ValueType:
    try:
        return PUBLISH_MODE.member(word)
    except ApiError:
        raise ValueError(
            f"invalid publish mode value ({word}): must be either 'ingress' or 'host'"
        ) from None


def _long_number(name: str, text: str) -> int:
    number = _number(text)
    if number is None:
        reason = "value out of range" if _is_digits(text) else "invalid syntax"
        raise ValueError(f"invalid {name} port ({text}): value must be an integer: {reason}")
    return number


def _parse_short(text: str) -> list[PortConfig]:
    ports, slash, protocol_word = text.partition("/")
    address, _, rest = ports.rpartition(":")
    host_ip, _, published_text = address.rpartition(":")
    target_text = rest
    protocol = _protocol(
        protocol_word.lower() if slash else "tcp", f"invalid proto: {protocol_word}"
    )
    if host_ip:
        if not re.fullmatch(r"[0-9a-fA-F.:\[\]]*[.:][0-9a-fA-F.:\[\]]*", host_ip):
            raise ValueError(f"invalid IP address: {host_ip}")
        raise ValueError("hostip is not supported")
    if not target_text:
        raise ValueError(f"no port specified: {text}<empty>")
    targets = _range("containerPort", target_text)
    published = _range("hostPort", published_text) if published_text else range(0)
    return [
        PortConfig(
            protocol=protocol,
            target_port=target,
            published_port=number,
            publish_mode=PUBLISH_MODE_INGRESS,
        )
        for target, number in _paired(targets, published, target_text, published_text)
    ]


def _paired(
    targets: range, published: range, target_text: str, published_text: str
) -> list[tuple[int, int]]:
    if not published:
        return [(target, 0) for target in targets]
    if len(targets) == len(published):
        return list(zip(targets, published, strict=True))
    if len(targets) == 1:
        return [(targets[0], number) for number in published]
    raise ValueError(
        f"invalid ranges specified for container and host Ports: {target_text} and {published_text}"
    )


def _range(name: str, text: str) -> range:
    first_text, dash, last_text = text.partition("-")
    first = _number(first_text)
    last = _number(last_text) if dash else first
    if first is None or last is None or last < first:
        raise ValueError(f"invalid {name}: {text}")
    return range(first, last + 1)


def _number(text: str) -> int | None:
    if not _is_digits(text) or len(text) > 5:
        return None
    number = int(text)
    return number if number <= _PORT_MAX else None


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
