"""`--mount`: Docker's syntax for mounts. Pure but for what "." means.

Source: docker/cli opts/mount.go, whose words the errors have.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from swarm.api.v1.service_pb2 import (
    MOUNT_TYPE_BIND,
    MOUNT_TYPE_TMPFS,
    MOUNT_TYPE_VOLUME,
    Mount,
)
from swarm.cli.flags import parse_bool
from swarm.dockerapi.json_values import ApiError
from swarm.dockerapi.words import MOUNT_TYPE
from swarm.units import parse_bytes

_NOT_YET = (
    "bind-nonrecursive",
    "bind-recursive",
    "volume-subpath",
    "image-subpath",
    "tmpfs-opt",
)
_ALONE = ("readonly", "ro", "volume-nocopy")
_MODE_MAX = 0o7777
_PREFIXES = {
    "bind-": MOUNT_TYPE_BIND,
    "volume-": MOUNT_TYPE_VOLUME,
    "tmpfs-": MOUNT_TYPE_TMPFS,
}


def parse_mount(text: str) -> Mount:
    """One mount: "type=bind,source=/a,target=/b,readonly". Raises ValueError."""
    mount = Mount(type=MOUNT_TYPE_VOLUME)
    prefixes: list[str] = []
    for field in next(csv.reader([text])):
        key, equals, value = field.partition("=")
        if key in _NOT_YET:
            raise ValueError(f"{key} is not supported yet")
        if not equals:
            if key not in _ALONE:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        setter = _SETTERS.get(key)
        if setter is None:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
        try:
            setter(mount, value)
        except ApiError as error:
            raise ValueError(str(error)) from None
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
        prefixes += [prefix for prefix in _PREFIXES if key.startswith(prefix)]
    _check(mount, prefixes)
    return mount


def _check(mount: Mount, prefixes: list[str]) -> None:
    if not mount.target:
        raise ValueError("target is required")
    for prefix in prefixes:
        if _PREFIXES[prefix] != mount.type:
            kind = MOUNT_TYPE.word(mount.type)
            raise ValueError(f"cannot mix '{prefix}*' options with mount type '{kind}'")


def _set_type(mount: Mount, value: str) -> None:
    word = value.lower()
    if word in ("npipe", "cluster", "image"):
        raise ApiError(f"mount type {word} is not supported yet")
    mount.type = MOUNT_TYPE.member(word)


def _set_source(mount: Mount, value: str) -> None:
    is_relative = value == "." or value.startswith("./")
    mount.source = str(Path(value).absolute()) if is_relative else value


def _set_target(mount: Mount, value: str) -> None:
    mount.target = value


def _set_read_only(mount: Mount, value: str) -> None:
    mount.read_only = parse_bool(value)


def _set_propagation(mount: Mount, value: str) -> None:
    mount.bind_propagation = value.lower()


def _set_no_copy(mount: Mount, value: str) -> None:
    mount.volume_no_copy = parse_bool(value)


def _add_volume_label(mount: Mount, value: str) -> None:
    key, _, text = value.partition("=")
    if key:
        mount.volume_labels[key] = text


def _set_volume_driver(mount: Mount, value: str) -> None:
    mount.volume_driver = value


def _add_volume_option(mount: Mount, value: str) -> None:
    key, _, text = value.partition("=")
    if key:
        mount.volume_options[key] = text


def _set_tmpfs_size(mount: Mount, value: str) -> None:
    mount.tmpfs_size_bytes = parse_bytes(value)


def _set_tmpfs_mode(mount: Mount, value: str) -> None:
    mode = int(value, 8)
    if not 0 <= mode <= _MODE_MAX:
        raise ValueError(value)
    mount.tmpfs_mode = mode


def _ignore(mount: Mount, value: str) -> None:
    """`consistency` means something on Docker Desktop only."""


_SETTERS: dict[str, Callable[[Mount, str], None]] = {
    "type": _set_type,
    "source": _set_source,
    "src": _set_source,
    "target": _set_target,
    "dst": _set_target,
    "destination": _set_target,
    "readonly": _set_read_only,
    "ro": _set_read_only,
    "consistency": _ignore,
    "bind-propagation": _set_propagation,
    "volume-nocopy": _set_no_copy,
    "volume-label": _add_volume_label,
    "volume-driver": _set_volume_driver,
    "volume-opt": _add_volume_option,
    "tmpfs-size": _set_tmpfs_size,
    "tmpfs-mode": _set_tmpfs_mode,
}
