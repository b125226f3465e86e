"""Puts a container together on disk: root, files of its own, volumes, config.json."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.worker.runtime.demo import is_static
from swarm.worker.runtime.oci import user
from swarm.worker.runtime.oci.container import (
    BindMount,
    Place,
    command_line,
    default_hostname,
    runtime_config,
)
from swarm.worker.runtime.oci.root import copy_up, mount_overlay, read_inside, resolve_inside
from swarm.worker.runtime.port import HOST_GATEWAY, Mount, RuntimeRefused, TaskRun
from swarm.worker.runtime.task_files import LaidFile

INIT_PROGRAMS = ("docker-init", "tini-static", "tini")
VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the bundle of a task is made from, beside the task itself."""

    directory: Path
    volumes: Path
    layers: list[Path]
    image: Mapping[str, Any]
    files: list[LaidFile]
    address: str
    # The node's address on the bridge.
    gateway: str
    netns: str
    cgroup: str


def check(run: TaskRun, image: Mapping[str, Any]) -> None:
    """Raises RuntimeRefused for what this runtime cannot give, before anything is made."""
    command_line(run, image)
    for mount in run.mounts:
        if mount.kind == "bind" and not Path(mount.source).exists():
            raise RuntimeRefused(f"bind source path does not exist: {mount.source}", "mounts")
        if mount.kind == "volume":
            _check_volume(mount)
    if run.init:
        _init_program()


def _check_volume(mount: Mount) -> None:
    if mount.volume_driver not in ("", "local") or mount.volume_options:
        raise RuntimeRefused(
            f"volume {mount.source}: volume drivers and their options need the docker runtime",
            "mounts",
        )
    if mount.source and not VOLUME_NAME.fullmatch(mount.source):
        raise RuntimeRefused(f'"{mount.source}" is not a volume name', "mounts")


def _init_program() -> str:
    for name in INIT_PROGRAMS:
        found = shutil.which(name)
        if found is not None and is_static(Path(found).resolve()):
            return str(Path(found).resolve())
    raise RuntimeRefused("init: there is no static tini on this node: install tini", "init")


def assemble(run: TaskRun, around: Surroundings) -> None:
    """Mounts the root and writes config.json. Blocking. Raises RuntimeRefused or RuntimeFailed."""
    directory = around.directory
    root = directory / "rootfs"
    for name in ("rootfs", "upper", "work"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    mount_overlay(root, around.layers, directory / "upper", directory / "work")
    hostname = run.hostname or default_hostname(run.task_id)
    binds = [
        *_own_files(run, around, hostname),
        *(BindMount(str(file.path), file.target, True) for file in around.files),
        *_binds(run, around, root),
    ]
    if run.init:
        binds.append(BindMount(_init_program(), "/sbin/docker-init", True))
    account = user.resolve(
        run.user or str(around.image.get("User") or ""),
        run.groups,
        read_inside(root, "etc/passwd"),
        read_inside(root, "etc/group"),
    )
    place = Place(str(root), around.cgroup, around.netns, hostname, binds)
    config = runtime_config(run, around.image, account, place)
    (directory / "config.json").write_text(json.dumps(config))


def _binds(run: TaskRun, around: Surroundings, root: Path) -> list[BindMount]:
    """Binds and volumes; a volume that only the image names is the task's own."""
    given = {mount.target.rstrip("/") for mount in run.mounts}
    image_volumes: dict[str, Any] = around.image.get("Volumes") or {}
    own = [Mount("volume", path) for path in image_volumes if path.rstrip("/") not in given]
    binds: list[BindMount] = []
    for number, mount in enumerate([*run.mounts, *own]):
        if mount.kind == "bind":
            propagation = mount.propagation or "rprivate"
            binds.append(BindMount(mount.source, mount.target, mount.read_only, propagation))
        elif mount.kind == "volume":
            anonymous = around.directory / "volumes" / str(number)
            path = around.volumes / mount.source if mount.source else anonymous
            if not path.exists():
                path.mkdir(parents=True, mode=0o755)
                if not mount.no_copy:
                    copy_up(resolve_inside(root, mount.target), path)
            binds.append(BindMount(str(path), mount.target, mount.read_only))
    return binds


def _own_files(run: TaskRun, around: Surroundings, hostname: str) -> list[BindMount]:
    directory = around.directory
    hosts = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    for entry in run.hosts:
        name, _, there = entry.partition(":")
        hosts.append(f"{around.gateway if there == HOST_GATEWAY else there}\t{name}")
    hosts.append(f"{around.address}\t{hostname}")
    contents = {
        "hosts": "\n".join(hosts) + "\n",
        "hostname": f"{hostname}\n",
        "resolv.conf": resolv_conf(run, Path("/etc/resolv.conf")),
    }
    taken = {mount.target for mount in run.mounts}
    binds: list[BindMount] = []
    for name, text in contents.items():
        (directory / name).write_text(text)
        if f"/etc/{name}" not in taken:
            binds.append(BindMount(str(directory / name), f"/etc/{name}", run.read_only))
    return binds


def resolv_conf(run: TaskRun, host: Path) -> str:
    """The task's own, or this machine's without servers that only it can reach."""
    lines = host.read_text(errors="replace").splitlines() if host.exists() else []
    kept: list[str] = []
    for line in lines:
        word, _, value = line.strip().partition(" ")
        local = word == "nameserver" and value.strip().startswith(("127.", "::1"))
        replaced = (
            (word == "nameserver" and run.dns)
            or (word in ("search", "domain") and run.dns_search)
            or (word == "options" and run.dns_options)
        )
        if word and not word.startswith(("#", ";")) and not local and not replaced:
            kept.append(line.strip())
    kept += [f"nameserver {server}" for server in run.dns]
    kept += [f"search {' '.join(run.dns_search)}"] if run.dns_search else []
    kept += [f"options {' '.join(run.dns_options)}"] if run.dns_options else []
    return "\n".join(kept) + "\n"
