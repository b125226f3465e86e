"""swarmd's settings: flags over environment over configuration file over defaults.

The file is TOML with the flags' names (`listen-addr = "10.0.0.1"`, `label = ["zone=a"]`), the
variables are SWARMD_LISTEN_ADDR and so on.
"""

import os
import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from swarm.generic_resources import parse_generic_resources
from swarm.node.addresses import JOIN_PORT, AddressError, split

_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RUNTIMES = ("auto", "docker", "oci", "process")
# Settings that are given again and again; parted by commas in the environment.
_LISTS = ("label", "node_generic_resource")


class ConfigError(Exception):
    """One line: which setting, what is wrong with it, what it takes."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Addresses are HOST, HOST:PORT or an interface's name; see `addresses`."""

    state_dir: Path
    socket: Path
    # Whose members may use the socket, besides root; "" for this process's own group.
    group: str = ""
    listen_addr: str = "0.0.0.0:2377"
    advertise_addr: str = ""
    hostname: str = ""
    runtime: str = "auto"
    label: tuple[str, ...] = ()
    log_level: str = "info"
    # Raft's clock, in ticks of 100 ms.
    election_ticks: int = 7
    heartbeat_ticks: int = 1
    # What to report instead of what the machine has; 0 for what it has.
    cpus: float = 0.0
    memory_bytes: int = 0
    # KIND=COUNT, or KIND=NAME for each distinct one.
    node_generic_resource: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


def default_state_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/swarm")
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "swarm"


def default_socket() -> Path:
    if os.geteuid() == 0:
        return Path("/var/run/swarm/swarmd.sock")
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(runtime_dir) / "swarm" if runtime_dir else default_state_dir()) / "swarmd.sock"


def load(flags: Mapping[str, Any], environment: Mapping[str, str]) -> NodeConfig:
    """Merge the sources. `flags` holds those that were given. ConfigError, OSError."""
    names = {f.name for f in fields(NodeConfig)} - {"labels"}
    values: dict[str, Any] = {}
    path = flags.get("config") or environment.get("SWARMD_CONFIG")
    if path:
        values |= _read_file(Path(path), names)
    for name in names:
        text = environment.get(f"SWARMD_{name.upper()}")
        if text is not None:
            values[name] = text.split(",") if name in _LISTS else text
    values |= {name: value for name, value in flags.items() if name in names}
    return _checked(values)


def _read_file(path: Path, names: set[str]) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} is not there") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    values = {key.replace("-", "_"): value for key, value in content.items()}
    unknown = sorted(set(values) - names)
    if unknown:
        raise ConfigError(f"{path}: unknown setting '{unknown[0].replace('_', '-')}'")
    return values


def _checked(values: dict[str, Any]) -> NodeConfig:
    runtime = str(values.get("runtime", "auto"))
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime '{runtime}': takes one of {', '.join(RUNTIMES)}")
    level = str(values.get("log_level", "info"))
    if level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"log-level '{level}': takes debug, info, warning or error")
    election = _number(values, "election_ticks", 7)
    heartbeat = _number(values, "heartbeat_ticks", 1)
    if not 1 <= heartbeat < election:
        raise ConfigError("heartbeat-ticks must be at least 1 and below election-ticks")
    hostname = str(values.get("hostname") or "")
    if hostname and not _HOSTNAME.fullmatch(hostname):
        raise ConfigError(
            f"hostname {hostname!r}: takes 1 to 64 letters, digits, '.', '-' and '_', the first a "
            "letter or a digit"
        )
    labels = _texts(values, "label")
    generic = _texts(values, "node_generic_resource")
    try:
        parse_generic_resources(generic)
    except ValueError as error:
        raise ConfigError(f"node-generic-resource: {error}") from None
    for name in ("listen_addr", "advertise_addr"):
        try:
            split(str(values.get(name) or ""), JOIN_PORT)
        except AddressError as error:
            raise ConfigError(f"{name.replace('_', '-')}: {error}") from None
    return NodeConfig(
        state_dir=Path(str(values.get("state_dir") or default_state_dir())).absolute(),
        socket=Path(str(values.get("socket") or default_socket())).absolute(),
        group=str(values.get("group") or ""),
        listen_addr=str(values.get("listen_addr") or "0.0.0.0:2377"),
        advertise_addr=str(values.get("advertise_addr") or ""),
        hostname=hostname or socket.gethostname(),
        runtime=runtime,
        label=labels,
        log_level=level,
        election_ticks=election,
        heartbeat_ticks=heartbeat,
        cpus=_not_negative(values, "cpus", float),
        memory_bytes=int(_not_negative(values, "memory_bytes", int)),
        node_generic_resource=generic,
        labels=_labels(labels),
    )


def _number(values: Mapping[str, Any], name: str, default: int) -> int:
    try:
        return int(values.get(name, default))
    except (TypeError, ValueError):
        flag = name.replace("_", "-")
        raise ConfigError(f"{flag} '{values[name]}': takes a whole number") from None


def _not_negative(values: Mapping[str, Any], name: str, kind: type[int] | type[float]) -> float:
    """0 where it is not given: what the machine has."""
    try:
        number = kind(values.get(name) or 0)
        if 0 <= number < float("inf"):
            return number
    except (TypeError, ValueError):
        pass
    flag = name.replace("_", "-")
    raise ConfigError(f"{flag} '{values[name]}': takes a number above 0")


def _texts(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    given = values.get(name, ())
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigError(f'{name.replace("_", "-")}: takes a list of "KEY=VALUE"')
    return tuple(str(text) for text in cast("Sequence[object]", given))


def _labels(texts: tuple[str, ...]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise ConfigError(f"label '{text}': takes KEY=VALUE")
        labels[key] = value
    return labels
