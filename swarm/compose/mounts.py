"""Volumes and tmpfs of a compose service."""

from __future__ import annotations

from swarm.api.v1.service_pb2 import (
    MOUNT_TYPE_BIND,
    MOUNT_TYPE_TMPFS,
    MOUNT_TYPE_VOLUME,
    ContainerSpec,
    Mount,
)
from swarm.compose.fields import Fields
from swarm.compose.names import Names
from swarm.compose.project import Note, Project
from swarm.units import parse_bytes

_TYPES = {"bind": MOUNT_TYPE_BIND, "volume": MOUNT_TYPE_VOLUME, "tmpfs": MOUNT_TYPE_TMPFS}


def apply_mounts(
    container: ContainerSpec, fields: Fields, project: Project, names: Names, notes: list[Note]
) -> None:
    """Raises ComposeError."""
    for volume in fields.each("volumes"):
        container.mounts.append(_mount(volume, project, names, notes))
    for line in fields.texts("tmpfs"):
        container.mounts.append(_tmpfs(line, fields, notes))


def _mount(volume: Fields, project: Project, names: Names, notes: list[Note]) -> Mount:
    kind = volume.word("type", _TYPES)
    mount = Mount(
        source=volume.text("source"),
        target=volume.text("target"),
        read_only=bool(volume.boolean("read_only")),
    )
    mount.type = MOUNT_TYPE_VOLUME if kind is None else kind
    if not mount.target:
        raise volume.error("type", "needs a target")
    if (bind := volume.fields("bind")) is not None:
        mount.bind_propagation = bind.text("propagation")
        bind.take("create_host_path")  # a folder that is not there is an error on the node
    if (options := volume.fields("volume")) is not None:
        mount.volume_no_copy = bool(options.boolean("nocopy"))
    if (tmpfs := volume.fields("tmpfs")) is not None:
        mount.tmpfs_size_bytes = tmpfs.size("size") or 0
        mount.tmpfs_mode = tmpfs.mode("mode") or 0
    if mount.type == MOUNT_TYPE_VOLUME and mount.source:
        _apply_volume(mount, project, names, notes)
    return mount


def _apply_volume(mount: Mount, project: Project, names: Names, notes: list[Note]) -> None:
    name = mount.source
    fields = Fields(project.volumes[name], f"volumes.{name}")
    mount.source, _ = names.of_resource(name, fields)
    mount.volume_driver = fields.text("driver")
    mount.volume_options.update(fields.pairs("driver_opts"))
    mount.volume_labels.update(fields.pairs("labels"))
    notes += [note for note in fields.unread({}) if note not in notes]


def _tmpfs(line: str, fields: Fields, notes: list[Note]) -> Mount:
    """TARGET[:OPTION,…]: size and mode are taken."""
    target, _, options = line.partition(":")
    mount = Mount(type=MOUNT_TYPE_TMPFS, target=target)
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        try:
            if key == "size":
                mount.tmpfs_size_bytes = parse_bytes(value)
            elif key == "mode":
                mount.tmpfs_mode = int(value, 8)
            elif key == "ro":
                mount.read_only = True
            elif key != "rw":
                notes.append(fields.note("tmpfs", f"has the option {option}, which is not used"))
        except ValueError:
            raise fields.error("tmpfs", f"has {option}, which is no {key}") from None
    return mount
