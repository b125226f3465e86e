"""A task as the Docker Engine's container configuration (Engine API, POST /containers/create)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarm.worker.runtime.port import (
    CLUSTER_LABEL,
    NODE_LABEL,
    TASK_LABEL,
    Healthcheck,
    Identity,
    Mount,
    TaskRun,
)
from swarm.worker.runtime.task_files import LaidFile

NANOSECONDS = 1_000_000_000


def container_config(
    run: TaskRun, identity: Identity, files: Sequence[LaidFile], image: str
) -> dict[str, Any]:
    """What to create, with the labels by which this node finds it again."""
    config: dict[str, Any] = {
        "Image": image,
        "Entrypoint": list(run.command) or None,
        "Cmd": list(run.args) or None,
        "Env": list(run.env),
        "Labels": container_labels(run, identity),
        "Tty": run.tty,
        "OpenStdin": run.open_stdin,
        "StopTimeout": -(-run.stop_grace_period_ns // NANOSECONDS),
        "ExposedPorts": {f"{port.target}/{port.protocol}": {} for port in run.ports},
        "HostConfig": host_config(run, files),
    }
    optional = {
        "WorkingDir": run.working_dir,
        "User": run.user,
        "Hostname": run.hostname,
        "StopSignal": run.stop_signal,
    }
    config.update({key: value for key, value in optional.items() if value})
    if run.healthcheck is not None:
        config["Healthcheck"] = healthcheck_config(run.healthcheck)
    return config


def container_labels(run: TaskRun, identity: Identity) -> dict[str, str]:
    return {
        **run.labels,
        CLUSTER_LABEL: identity.cluster_id,
        NODE_LABEL: identity.node_id,
        TASK_LABEL: run.task_id,
    }


def host_config(run: TaskRun, files: Sequence[LaidFile]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "AutoRemove": False,
        "RestartPolicy": {"Name": ""},
        "ReadonlyRootfs": run.read_only,
        "Mounts": [mount_config(mount) for mount in run.mounts]
        + [
            {"Type": "bind", "Source": str(file.path), "Target": file.target, "ReadOnly": True}
            for file in files
        ],
        "NanoCpus": run.limits.nano_cpus,
        "Memory": run.limits.memory_bytes,
        "MemoryReservation": run.limits.memory_reservation_bytes,
        "OomScoreAdj": run.oom_score_adj,
    }
    optional: dict[str, Any] = {
        "Init": run.init,
        "PidsLimit": run.limits.pids,
        "Ulimits": [
            {"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in run.ulimits
        ],
        "Sysctls": dict(run.sysctls),
        "CapAdd": list(run.cap_add),
        "CapDrop": list(run.cap_drop),
        "GroupAdd": list(run.groups),
        "ExtraHosts": list(run.hosts),
        "Dns": list(run.dns),
        "DnsSearch": list(run.dns_search),
        "DnsOptions": list(run.dns_options),
    }
    config.update({key: value for key, value in optional.items() if value})
    if run.limits.memory_and_swap_bytes is not None:
        config["MemorySwap"] = run.limits.memory_and_swap_bytes
    if run.limits.swappiness is not None:
        config["MemorySwappiness"] = run.limits.swappiness
    if run.log_driver or run.log_options:
        config["LogConfig"] = {"Type": run.log_driver, "Config": dict(run.log_options)}
    return config


def mount_config(mount: Mount) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Type": mount.kind,
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if mount.kind == "bind" and mount.propagation:
        config["BindOptions"] = {"Propagation": mount.propagation}
    if mount.kind == "volume":
        options: dict[str, Any] = {"NoCopy": mount.no_copy, "Labels": dict(mount.volume_labels)}
        if mount.volume_driver or mount.volume_options:
            options["DriverConfig"] = {
                "Name": mount.volume_driver or "local",
                "Options": dict(mount.volume_options),
            }
        config["VolumeOptions"] = options
    if mount.kind == "tmpfs":
        config["TmpfsOptions"] = {"SizeBytes": mount.tmpfs_size_bytes, "Mode": mount.tmpfs_mode}
    return config


def healthcheck_config(check: Healthcheck) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Interval": check.interval_ns,
        "Timeout": check.timeout_ns,
        "Retries": check.retries,
        "StartPeriod": check.start_period_ns,
        "StartInterval": check.start_interval_ns,
    }
    config = {key: value for key, value in config.items() if value}
    if check.test:
        config["Test"] = list(check.test)
    return config
