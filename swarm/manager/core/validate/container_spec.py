"""What a container is asked to be: image, environment, mounts and the like."""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from swarm.api.v1.service_pb2 import (
    MOUNT_TYPE_BIND,
    MOUNT_TYPE_TMPFS,
    ContainerSpec,
    DnsConfig,
    HealthCheck,
    Mount,
    Ulimit,
)
from swarm.manager.core.validate.annotations import check_labels
from swarm.manager.core.validate.errors import InvalidRequest
from swarm.manager.core.validate.reference import InvalidReference, parse

_HOSTNAME_LENGTH_MAX = 63
_HOSTNAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?")
_STOP_SIGNAL = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]*|[0-9]{1,2}", re.IGNORECASE)
_CAPABILITY = re.compile(r"[A-Z0-9_]+", re.IGNORECASE)
_PROPAGATIONS = ("", "rprivate", "private", "rshared", "shared", "rslave", "slave")
_HEALTH_TESTS = ("NONE", "CMD", "CMD-SHELL")
_OOM_SCORE_ADJ_MAX = 1000
# Stands for the address at which a container reaches its node.
_HOST_GATEWAY = "host-gateway"
# Docker's least interval; zero stands for the default.
_HEALTH_DURATION_MIN_NS = 1_000_000
# Written by users for what differs per task: filled in on the node.
_TEMPLATE = "{{"


def check(container: ContainerSpec) -> None:
    """Raises InvalidRequest."""
    _check_image(container.image)
    check_labels("container labels", container.labels)
    _check_env(container.env)
    _check_mounts(container.mounts)
    _check_identity(container)
    _check_stop(container)
    _check_health(container.health_check)
    _check_names(container.hosts, container.dns)
    _check_limits(container)


def _check_image(image: str) -> None:
    if not image:
        raise InvalidRequest("image reference must be provided: name the image to run")
    try:
        parse(image)
    except InvalidReference as error:
        raise InvalidRequest(f"invalid image reference: {error}") from None


def _check_env(env: Iterable[str]) -> None:
    for entry in env:
        name, equals, _ = entry.partition("=")
        if not name or "\0" in entry:
            shown = f"'{name}{equals}…'"
            raise InvalidRequest(f"invalid environment variable {shown}: write NAME=VALUE")


def _check_mounts(mounts: Iterable[Mount]) -> None:
    targets: dict[str, None] = {}
    for mount in mounts:
        _check_mount(mount)
        target = mount.target.rstrip("/") or "/"
        if target in targets:
            raise InvalidRequest(f"duplicate mount point: {mount.target}: mount there once")
        targets[target] = None


def _check_mount(mount: Mount) -> None:
    if not mount.target:
        raise InvalidRequest("a mount needs a target: target=/PATH/IN/CONTAINER")
    if not mount.target.startswith(("/", _TEMPLATE)):
        raise InvalidRequest(
            f"invalid mount target '{mount.target}': it must be an absolute path in the container"
        )
    if mount.target.rstrip("/") == "":
        raise InvalidRequest("invalid mount target '/': mount on a folder below it")
    if mount.type == MOUNT_TYPE_BIND and not mount.source.startswith(("/", _TEMPLATE)):
        raise InvalidRequest(
            f"invalid bind mount source '{mount.source}': it must be an absolute path on the node"
        )
    if mount.type == MOUNT_TYPE_TMPFS and mount.source:
        raise InvalidRequest(f"tmpfs mount {mount.target} has no source: leave source= out")
    if mount.bind_propagation not in _PROPAGATIONS:
        raise InvalidRequest(
            f"mount {mount.target}: bind propagation '{mount.bind_propagation}' is invalid: "
            f"use one of {', '.join(_PROPAGATIONS[1:])}"
        )
    if mount.tmpfs_size_bytes < 0:
        raise InvalidRequest(f"mount {mount.target}: tmpfs-size cannot be negative")


def _check_identity(container: ContainerSpec) -> None:
    hostname = container.hostname
    valid = len(hostname) <= _HOSTNAME_LENGTH_MAX and _HOSTNAME.fullmatch(hostname)
    if hostname and _TEMPLATE not in hostname and not valid:
        raise InvalidRequest(
            f"invalid hostname '{hostname}': letters, digits, '-' and '.', "
            f"at most {_HOSTNAME_LENGTH_MAX} characters"
        )
    for what, value in (("user", container.user), *(("group", g) for g in container.groups)):
        if any(character.isspace() or character == "\0" for character in value):
            raise InvalidRequest(f"invalid {what} '{value}': it must have no spaces")
    if "" in container.groups:
        raise InvalidRequest("an empty group: name the group, or leave it out")
    if container.dir and not container.dir.startswith(("/", _TEMPLATE)):
        raise InvalidRequest(
            f"the working directory '{container.dir}' is invalid, it needs to be an absolute path"
        )


def _check_stop(container: ContainerSpec) -> None:
    if container.stop_signal and not _STOP_SIGNAL.fullmatch(container.stop_signal):
        raise InvalidRequest(
            f"invalid stop signal '{container.stop_signal}': use a name such as SIGTERM, or its "
            "number"
        )
    if container.stop_grace_period_ns < 0:
        raise InvalidRequest("stop-grace-period cannot be negative")


def _check_health(health: HealthCheck) -> None:
    if health.test and health.test[0] not in _HEALTH_TESTS:
        raise InvalidRequest(
            f"unknown type of health check '{health.test[0]}': use {', '.join(_HEALTH_TESTS)}"
        )
    if len(health.test) == 1 and health.test[0] != "NONE":
        raise InvalidRequest(f"health check {health.test[0]} needs a command")
    for name, duration_ns in (
        ("interval", health.interval_ns),
        ("timeout", health.timeout_ns),
        ("start-period", health.start_period_ns),
        ("start-interval", health.start_interval_ns),
    ):
        if duration_ns and duration_ns < _HEALTH_DURATION_MIN_NS:
            raise InvalidRequest(f"health-{name} cannot be less than 1ms")


def _check_names(hosts: Iterable[str], dns: DnsConfig) -> None:
    for entry in hosts:
        address, *names = entry.split() or [""]
        if not names or not (_is_address(address) or address == _HOST_GATEWAY):
            raise InvalidRequest(f"invalid host entry '{entry}': write IP NAME [NAME...]")
    for nameserver in dns.nameservers:
        if not _is_address(nameserver):
            raise InvalidRequest(f"invalid DNS server '{nameserver}': it must be an IP address")


def _check_limits(container: ContainerSpec) -> None:
    for capability in (*container.capability_add, *container.capability_drop):
        if not _CAPABILITY.fullmatch(capability):
            raise InvalidRequest(f"invalid capability '{capability}': use a name such as NET_ADMIN")
    if "" in container.sysctls:
        raise InvalidRequest("a sysctl has no name: write NAME=VALUE")
    for ulimit in container.ulimits:
        _check_ulimit(ulimit)
    if abs(container.oom_score_adj) > _OOM_SCORE_ADJ_MAX:
        raise InvalidRequest(
            f"oom-score-adj {container.oom_score_adj} is out of range: "
            f"-{_OOM_SCORE_ADJ_MAX} to {_OOM_SCORE_ADJ_MAX}"
        )


def _check_ulimit(ulimit: Ulimit) -> None:
    if not ulimit.name:
        raise InvalidRequest("a ulimit has no name: write NAME=SOFT[:HARD]")
    unlimited = -1
    if ulimit.hard != unlimited and (ulimit.soft > ulimit.hard or ulimit.soft == unlimited):
        raise InvalidRequest(
            f"ulimit {ulimit.name}: soft limit must be less than or equal to hard limit: "
            f"{ulimit.soft} > {ulimit.hard}"
        )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
