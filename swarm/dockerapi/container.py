"""ContainerSpec: what a task's container is asked to be."""

from __future__ import annotations

from swarm.api.v1.service_pb2 import (
    MOUNT_TYPE_VOLUME,
    ContainerSpec,
    DnsConfig,
    HealthCheck,
    Mount,
    Ulimit,
)
from swarm.dockerapi.file import (
    config_reference_from_json,
    config_reference_to_json,
    secret_reference_from_json,
    secret_reference_to_json,
)
from swarm.dockerapi.json_values import (
    ApiError,
    Json,
    get_bool,
    get_int,
    get_map,
    get_object,
    get_objects,
    get_text,
    get_texts,
    refuse,
    without_empty,
)
from swarm.dockerapi.words import MOUNT_TYPE

_UNSUPPORTED = ("Privileges",)


def container_to_json(spec: ContainerSpec) -> Json:
    health = _health_to_json(spec.health_check) if spec.HasField("health_check") else None
    fields: Json = {
        "Image": spec.image,
        "Labels": dict(spec.labels) or None,
        "Command": list(spec.command),
        "Args": list(spec.args),
        "Hostname": spec.hostname,
        "Env": list(spec.env),
        "Dir": spec.dir,
        "User": spec.user,
        "Groups": list(spec.groups),
        "Init": None,
        "StopSignal": spec.stop_signal,
        "TTY": spec.tty,
        "OpenStdin": spec.open_stdin,
        "ReadOnly": spec.read_only,
        "Mounts": [mount_to_json(mount) for mount in spec.mounts],
        "StopGracePeriod": None,
        "Healthcheck": health,
        "Hosts": list(spec.hosts),
        "DNSConfig": _dns_to_json(spec.dns) if spec.HasField("dns") else None,
        "Secrets": [secret_reference_to_json(secret) for secret in spec.secrets],
        "Configs": [config_reference_to_json(config) for config in spec.configs],
        "Isolation": "default",
        "Sysctls": dict(spec.sysctls) or None,
        "CapabilityAdd": list(spec.capability_add),
        "CapabilityDrop": list(spec.capability_drop),
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in spec.ulimits],
        "OomScoreAdj": None,
    }
    shown = without_empty(fields) | _pointers_to_json(spec)
    return {key: shown[key] for key in fields if key in shown}


def _pointers_to_json(spec: ContainerSpec) -> Json:
    """Fields that are pointers in Go: there even when zero, if they were given."""
    pointers: Json = {}
    if spec.HasField("init"):
        pointers["Init"] = spec.init
    if spec.HasField("stop_grace_period_ns"):
        pointers["StopGracePeriod"] = spec.stop_grace_period_ns
    if spec.HasField("oom_score_adj"):
        pointers["OomScoreAdj"] = spec.oom_score_adj
    return pointers


def container_from_json(source: Json) -> ContainerSpec:
    """Raises ApiError."""
    refuse(source, _UNSUPPORTED)
    if get_text(source, "Isolation") not in ("", "default"):
        raise ApiError("Isolation is not supported yet")
    spec = ContainerSpec(
        image=get_text(source, "Image"),
        labels=get_map(source, "Labels"),
        command=get_texts(source, "Command"),
        args=get_texts(source, "Args"),
        hostname=get_text(source, "Hostname"),
        env=get_texts(source, "Env"),
        dir=get_text(source, "Dir"),
        user=get_text(source, "User"),
        groups=get_texts(source, "Groups"),
        stop_signal=get_text(source, "StopSignal"),
        tty=get_bool(source, "TTY"),
        open_stdin=get_bool(source, "OpenStdin"),
        read_only=get_bool(source, "ReadOnly"),
        mounts=[mount_from_json(mount) for mount in get_objects(source, "Mounts")],
        hosts=get_texts(source, "Hosts"),
        secrets=[secret_reference_from_json(s) for s in get_objects(source, "Secrets")],
        configs=[config_reference_from_json(c) for c in get_objects(source, "Configs")],
        sysctls=get_map(source, "Sysctls"),
        capability_add=get_texts(source, "CapabilityAdd"),
        capability_drop=get_texts(source, "CapabilityDrop"),
        ulimits=[_ulimit_from_json(ulimit) for ulimit in get_objects(source, "Ulimits")],
    )
    _pointers_from_json(source, spec)
    return spec


def _pointers_from_json(source: Json, spec: ContainerSpec) -> None:
    if source.get("Init") is not None:
        spec.init = get_bool(source, "Init")
    if source.get("StopGracePeriod") is not None:
        spec.stop_grace_period_ns = get_int(source, "StopGracePeriod")
    if source.get("OomScoreAdj") is not None:
        spec.oom_score_adj = get_int(source, "OomScoreAdj", low=-1000)
    health = get_object(source, "Healthcheck")
    if health is not None:
        spec.health_check.CopyFrom(_health_from_json(health))
    dns = get_object(source, "DNSConfig")
    if dns is not None:
        spec.dns.CopyFrom(
            DnsConfig(
                nameservers=get_texts(dns, "Nameservers"),
                search=get_texts(dns, "Search"),
                options=get_texts(dns, "Options"),
            )
        )


def mount_to_json(mount: Mount) -> Json:
    return without_empty(
        {
            "Type": MOUNT_TYPE.word(mount.type),
            "Source": mount.source,
            "Target": mount.target,
            "ReadOnly": mount.read_only,
            "BindOptions": {"Propagation": mount.bind_propagation}
            if mount.bind_propagation
            else None,
            "VolumeOptions": _volume_options_to_json(mount),
            "TmpfsOptions": without_empty(
                {"SizeBytes": mount.tmpfs_size_bytes, "Mode": mount.tmpfs_mode}
            )
            or None,
        }
    )


def _volume_options_to_json(mount: Mount) -> Json | None:
    driver = without_empty(
        {"Name": mount.volume_driver, "Options": dict(mount.volume_options) or None}
    )
    options = without_empty(
        {
            "NoCopy": mount.volume_no_copy,
            "Labels": dict(mount.volume_labels) or None,
            "DriverConfig": driver or None,
        }
    )
    return options or None


def mount_from_json(source: Json) -> Mount:
    """Raises ApiError."""
    bind = get_object(source, "BindOptions") or {}
    volume = get_object(source, "VolumeOptions") or {}
    tmpfs = get_object(source, "TmpfsOptions") or {}
    refuse(source, ("ClusterOptions", "ImageOptions"))
    refuse(bind, ("NonRecursive", "ReadOnlyNonRecursive", "ReadOnlyForceRecursive"))
    refuse(volume, ("Subpath",))
    refuse(tmpfs, ("Options",))
    driver = get_object(volume, "DriverConfig") or {}
    return Mount(
        type=MOUNT_TYPE.member(get_text(source, "Type"), MOUNT_TYPE_VOLUME),
        source=get_text(source, "Source"),
        target=get_text(source, "Target"),
        read_only=get_bool(source, "ReadOnly"),
        bind_propagation=get_text(bind, "Propagation"),
        volume_labels=get_map(volume, "Labels"),
        volume_driver=get_text(driver, "Name"),
        volume_options=get_map(driver, "Options"),
        volume_no_copy=get_bool(volume, "NoCopy"),
        tmpfs_size_bytes=get_int(tmpfs, "SizeBytes"),
        tmpfs_mode=get_int(tmpfs, "Mode"),
    )


def _health_to_json(health: HealthCheck) -> Json:
    return without_empty(
        {
            "Test": list(health.test),
            "Interval": health.interval_ns,
            "Timeout": health.timeout_ns,
            "StartPeriod": health.start_period_ns,
            "StartInterval": health.start_interval_ns,
            "Retries": health.retries,
        }
    )


def _health_from_json(source: Json) -> HealthCheck:
    return HealthCheck(
        test=get_texts(source, "Test"),
        interval_ns=get_int(source, "Interval"),
        timeout_ns=get_int(source, "Timeout"),
        start_period_ns=get_int(source, "StartPeriod"),
        start_interval_ns=get_int(source, "StartInterval"),
        retries=get_int(source, "Retries"),
    )


def _dns_to_json(dns: DnsConfig) -> Json:
    return without_empty(
        {
            "Nameservers": list(dns.nameservers),
            "Search": list(dns.search),
            "Options": list(dns.options),
        }
    )


def _ulimit_from_json(source: Json) -> Ulimit:
    return Ulimit(
        name=get_text(source, "Name"),
        soft=get_int(source, "Soft", low=-1),
        hard=get_int(source, "Hard", low=-1),
    )
