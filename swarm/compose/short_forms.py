"""Docker's one-line forms of ports and volumes, as the mappings that they stand for."""

from __future__ import annotations

import re

from swarm.compose.errors import ComposeError, Place
from swarm.compose.tree import Mapping, Node, Scalar

_PORT_MAX = 65_535
_PROTOCOLS = ("tcp", "udp", "sctp")
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]")
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def port_mappings(written: str, place: Place) -> list[Mapping]:
    """[[IP:]PUBLISHED:]TARGET[/PROTOCOL], each a number or FIRST-LAST. Raises ComposeError."""
    ports, slash, protocol = written.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise ComposeError(place, f"port {written}: the protocol is tcp, udp or sctp")
    address, _, target_text = ports.rpartition(":")
    host_ip, _, published_text = address.rpartition(":")
    targets = _range(target_text, written, place)
    published = _range(published_text, written, place) if published_text else None
    if published is None:
        pairs = [(str(target), "") for target in targets]
    elif len(published) == len(targets):
        pairs = [(str(t), str(p)) for t, p in zip(targets, published, strict=True)]
    elif len(targets) == 1:
        # One of them is picked in Docker; the whole range is named here.
        pairs = [(str(targets[0]), f"{published[0]}-{published[-1]}")]
    else:
        raise ComposeError(place, f"port {written}: the two ranges differ in length")
    return [_port(target, number, protocol, host_ip.strip("[]"), place) for target, number in pairs]


def _port(target: str, published: str, protocol: str, host_ip: str, place: Place) -> Mapping:
    entries: dict[str, Node] = {
        "target": Scalar(int(target), place),
        "protocol": Scalar(protocol, place),
    }
    if published:
        entries["published"] = Scalar(published, place)
    if host_ip:
        entries["host_ip"] = Scalar(host_ip, place)
    return Mapping(entries, place)


def _range(text: str, written: str, place: Place) -> range:
    first, dash, last = text.partition("-")
    numbers = [first, last] if dash else [first, first]
    if not all(n.isascii() and n.isdigit() and 0 < int(n) <= _PORT_MAX for n in numbers):
        raise ComposeError(place, f"port {written}: {text or 'nothing'} is not a port's number")
    if int(numbers[0]) > int(numbers[1]):
        raise ComposeError(place, f"port {written}: {text} runs backwards")
    return range(int(numbers[0]), int(numbers[1]) + 1)


def volume_mapping(written: str, place: Place) -> Mapping:
    """[SOURCE:]TARGET[:OPTIONS]. Raises ComposeError."""
    drive, rest = (written[:2], written[2:]) if _WINDOWS_PATH.match(written) else ("", written)
    parts = rest.split(":")
    parts[0] = drive + parts[0]
    if not all(parts) or len(parts) > 3:
        raise ComposeError(place, f"invalid volume {written}: write [SOURCE:]TARGET[:OPTIONS]")
    entries: dict[str, Node] = {}
    if len(parts) == 1:
        entries["type"] = Scalar("volume", place)
        entries["target"] = Scalar(parts[0], place)
        return Mapping(entries, place)
    is_bind = parts[0].startswith((".", "/", "~")) or bool(drive)
    entries["type"] = Scalar("bind" if is_bind else "volume", place)
    entries["source"] = Scalar(parts[0], place)
    entries["target"] = Scalar(parts[1], place)
    for option in parts[2].split(",") if len(parts) == 3 else ():
        _apply(option, entries, is_bind, written, place)
    return Mapping(entries, place)


def _apply(
    option: str, entries: dict[str, Node], is_bind: bool, written: str, place: Place
) -> None:
    if option == "ro":
        entries["read_only"] = Scalar(value=True, place=place)
    elif option in ("rw", ""):
        pass
    elif option in ("z", "Z") and is_bind:
        _set(entries, "bind", "selinux", option, place)
    elif option in _PROPAGATIONS and is_bind:
        _set(entries, "bind", "propagation", option, place)
    elif option == "nocopy":
        _set(entries, "volume", "nocopy", True, place)
    elif option in ("z", "Z", "cached", "delegated", "consistent"):
        entries["consistency"] = Scalar(option, place)
    else:
        raise ComposeError(place, f"volume {written}: the option {option} is not known")


def _set(entries: dict[str, Node], group: str, key: str, value: str | bool, place: Place) -> None:
    known = entries.get(group)
    before = known.entries if isinstance(known, Mapping) else {}
    entries[group] = Mapping(before | {key: Scalar(value, place)}, place)
