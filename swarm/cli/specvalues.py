"""Small values of `docker service`'s flags: labels, variables, hosts, limits, capabilities. Pure.

Parsers raise ValueError with the words of docker/cli's `opts` package.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterable, Mapping

from swarm.api.v1.service_pb2 import Ulimit

_ULIMITS = frozenset(
    [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)
_DOMAIN = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?(\.[a-zA-Z0-9_-]+)*\.?")
ALL_CAPABILITIES = "ALL"
RESET_CAPABILITIES = "RESET"


def parse_env(text: str) -> str:
    """NAME=value, or NAME alone: then its value is the client's own, see `resolve_env`."""
    if not text or text.startswith("="):
        raise ValueError(f"invalid environment variable: {text}")
    return text


def parse_label(text: str) -> str:
    if text.startswith("=") or not text:
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def parse_command(text: str) -> list[str]:
    """Words as a shell splits them."""
    try:
        return shlex.split(text)
    except ValueError:
        raise ValueError("EOF found when expecting closing quote") from None


def parse_spread(text: str) -> str:
    """The descriptor of "spread=node.labels.zone"."""
    fields = text.split("=")
    if len(fields) != 2:
        raise ValueError('placement preference must be of the format "<strategy>=<arg>"')
    if fields[0] != "spread":
        raise ValueError(f"unsupported placement preference {fields[0]} (only spread is supported)")
    return fields[1]


def parse_ulimit(text: str) -> Ulimit:
    """NAME=SOFT[:HARD]."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = limits.partition(":")
    try:
        soft = int(soft_text)
        hard = int(hard_text) if colon else soft
    except ValueError:
        raise ValueError(f"invalid ulimit argument: {text}") from None
    if hard != -1 and (soft > hard or soft == -1):
        raise ValueError(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return Ulimit(name=name, soft=soft, hard=hard)


def parse_host(text: str) -> str:
    """HOST:IP or HOST=IP, as a line of /etc/hosts: "IP HOST"."""
    name, address = re.split("[:=]", text, maxsplit=1) if re.search("[:=]", text) else (text, "")
    if not name or not address:
        raise ValueError(f'bad format for add-host: "{text}"')
    address = address.removeprefix("[").removesuffix("]")
    if not _is_address(address):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{address} {name}"


def parse_host_name(text: str) -> str:
    """The name in HOST or HOST:IP, for `--host-rm`."""
    return re.split("[:=]", text, maxsplit=1)[0]


def parse_address(text: str) -> str:
    if not _is_address(text.strip()):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def parse_domain(text: str) -> str:
    stripped = text.strip()
    if stripped != "." and not _DOMAIN.fullmatch(stripped):
        raise ValueError(f"{text} is not a valid domain")
    return stripped


def parse_capability(text: str) -> str:
    """CAP_NET_ADMIN of "net_admin"; ALL and RESET as they are."""
    name = text.strip().upper()
    if name in (ALL_CAPABILITIES, RESET_CAPABILITIES) or name.startswith("CAP_"):
        return name
    return f"CAP_{name}"


def to_map(pairs: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE texts; a KEY alone has the empty value."""
    return {pair.partition("=")[0]: pair.partition("=")[2] for pair in pairs}


def merge_env(variables: Iterable[str]) -> list[str]:
    """The last of each name, in the order in which those were given."""
    merged: dict[str, str] = {}
    for variable in variables:
        name = variable.partition("=")[0]
        if merged.get(name) != variable:
            merged.pop(name, None)
        merged[name] = variable
    return list(merged.values())


def resolve_env(variables: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Names without a value take the client's own, if it has one."""
    return [
        f"{variable}={environment[variable]}"
        if "=" not in variable and variable in environment
        else variable
        for variable in variables
    ]


def parse_env_file(text: str, environment: Mapping[str, str]) -> list[str]:
    """Variables of a file: a NAME=value a line, `#` starts a comment line. Raises ValueError."""
    variables: list[str] = []
    for line in text.lstrip("\ufeff").splitlines():
        entry = line.lstrip()
        if not entry or entry.startswith("#"):
            continue
        name, equals, _ = entry.partition("=")
        if not name:
            raise ValueError(f"no variable name on line '{entry}'")
        if any(character.isspace() for character in name.rstrip() if equals) or " " in name:
            raise ValueError(f"variable '{name}' contains whitespaces")
        if equals:
            variables.append(entry)
        elif name in environment:
            variables.append(f"{name}={environment[name]}")
    return variables


def effective_capabilities(add: Iterable[str], drop: Iterable[str]) -> tuple[list[str], list[str]]:
    """What to add and to drop; adding wins, ALL stands for every other."""
    added, dropped = _without_needless(add), _without_needless(drop)
    return sorted(added), sorted(dropped - added)


def updated_capabilities(
    old_add: Iterable[str], old_drop: Iterable[str], add: Iterable[str], drop: Iterable[str]
) -> tuple[list[str], list[str]]:
    """The lists after `--cap-add` and `--cap-drop` of an update.

    Adding what was dropped takes it off that list only, and the other way round; RESET empties a
    list (docker/cli, updateCapabilities).
    """
    adding, dropping = set(add), set(drop)
    added = set[str]() if RESET_CAPABILITIES in adding else set(old_add)
    dropped = set[str]() if RESET_CAPABILITIES in dropping else set(old_drop)
    adding.discard(RESET_CAPABILITIES)
    dropping.discard(RESET_CAPABILITIES)
    dropping -= adding
    new_add = (added - dropping) | (adding - dropped)
    new_drop = (dropped - adding) | (dropping - added)
    return effective_capabilities(new_add, new_drop)


def _without_needless(capabilities: Iterable[str]) -> set[str]:
    found = set(capabilities)
    return {ALL_CAPABILITIES} if ALL_CAPABILITIES in found else found - {RESET_CAPABILITIES}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
