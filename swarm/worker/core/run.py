"""From a task, its service's spec and the node to what a runtime driver is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from swarm.api.v1.service_pb2 import (
    MOUNT_TYPE_BIND,
    MOUNT_TYPE_TMPFS,
    MOUNT_TYPE_VOLUME,
    ContainerSpec,
    HealthCheck,
    ServiceSpec,
)
from swarm.api.v1.service_pb2 import Mount as MountSpec
from swarm.api.v1.task_pb2 import Task
from swarm.api.v1.types_pb2 import (
    PROTOCOL_SCTP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    PUBLISH_MODE_HOST,
    Protocol,
)
from swarm.stacks import NAMES_SERVER, search_domain, stack_of
from swarm.worker.core.dependencies import Dependencies
from swarm.worker.core.files import task_files
from swarm.worker.core.template import TemplateError, Values, expand
from swarm.worker.runtime.demo import is_demo
from swarm.worker.runtime.port import (
    Healthcheck,
    Limits,
    Mount,
    Port,
    RuntimeRefused,
    TaskRun,
    Ulimit,
    task_labels,
)

DEFAULT_STOP_GRACE_NS = 10_000_000_000

_MOUNT_KINDS: dict[int, Literal["bind", "volume", "tmpfs"]] = {
    MOUNT_TYPE_BIND: "bind",
    MOUNT_TYPE_VOLUME: "volume",
    MOUNT_TYPE_TMPFS: "tmpfs",
}
_PROTOCOL_NAMES: dict[int, Literal["tcp", "udp", "sctp"]] = {
    PROTOCOL_TCP: "tcp",
    PROTOCOL_UDP: "udp",
    PROTOCOL_SCTP: "sctp",
}
_PROTOCOLS: dict[str, Protocol.ValueType] = {
    "tcp": PROTOCOL_TCP,
    "udp": PROTOCOL_UDP,
    "sctp": PROTOCOL_SCTP,
}


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What placeholders and labels say of the node."""

    id: str
    hostname: str = ""
    architecture: str = ""
    os: str = ""
    # Its containers may ask it for names of services.
    names: bool = False


def task_name(task: Task) -> str:
    """Docker Swarm's name of a task and of its container."""
    slot = str(task.slot) if task.slot else task.node_id
    return f"{task.service_name}.{slot}.{task.id}"


def stop_grace_s(spec: ServiceSpec) -> float:
    """Seconds between the stop signal and the kill; 10 unless set."""
    container = spec.task.container
    if container.HasField("stop_grace_period_ns"):
        return container.stop_grace_period_ns / 1e9
    return DEFAULT_STOP_GRACE_NS / 1e9


def published_ports(spec: ServiceSpec) -> list[tuple[Port, int | None]]:
    """Every target port once per way it is published: its host port, or None for ingress."""
    ports: dict[tuple[Port, int | None], None] = {}
    for config in spec.endpoint.ports:
        port = Port(config.target_port, _PROTOCOL_NAMES[config.protocol])
        host = config.published_port if config.publish_mode == PUBLISH_MODE_HOST else None
        ports[port, host] = None
    return list(ports)


def protocol_number(port: Port) -> Protocol.ValueType:
    return _PROTOCOLS[port.protocol]


def task_run(
    task: Task, spec: ServiceSpec, node: NodeFacts, dependencies: Dependencies | None = None
) -> TaskRun:
    """What to run. Raises RuntimeRefused for a placeholder that cannot be expanded, and for a
    secret or a config that is not among the `dependencies`."""
    container = spec.task.container
    dependencies = dependencies or Dependencies()
    values = _values(task, spec, node)
    name = task_name(task)
    try:
        env = tuple(expand(line, values) for line in container.env)
        hostname = expand(container.hostname, values)
        mounts = tuple(_mount(mount, values) for mount in container.mounts)
    except TemplateError as error:
        raise RuntimeRefused(str(error), "template") from None
    resources = spec.task.resources
    dns = _dns(container, stack_of(spec.annotations.labels) if node.names else "")
    return TaskRun(
        task_id=task.id,
        name=name,
        image=container.image,
        registry_auth=dependencies.logins.get(task.service_id, ""),
        command=tuple(container.command),
        args=tuple(container.args),
        env=env + _generic_env(task) + _demo_env(task, container, node),
        labels=task_labels(
            dict(container.labels),
            node_id=node.id,
            service_id=task.service_id,
            service_name=task.service_name,
            task_id=task.id,
            task_name=name,
        ),
        working_dir=container.dir,
        user=container.user,
        groups=tuple(container.groups),
        hostname=hostname,
        tty=container.tty,
        open_stdin=container.open_stdin,
        init=container.init,
        read_only=container.read_only,
        stop_signal=container.stop_signal,
        stop_grace_period_ns=int(stop_grace_s(spec) * 1e9),
        mounts=mounts,
        files=task_files(container, dependencies, values, env),
        limits=Limits(
            nano_cpus=resources.limits.nano_cpus,
            memory_bytes=resources.limits.memory_bytes,
            memory_reservation_bytes=resources.reservations.memory_bytes,
            pids=resources.pids_limit,
            swap_bytes=resources.swap_bytes if resources.HasField("swap_bytes") else None,
            swappiness=(
                resources.memory_swappiness if resources.HasField("memory_swappiness") else None
            ),
        ),
        ulimits=tuple(Ulimit(u.name, u.soft, u.hard) for u in container.ulimits),
        sysctls=dict(container.sysctls),
        cap_add=tuple(container.capability_add),
        cap_drop=tuple(container.capability_drop),
        oom_score_adj=container.oom_score_adj,
        healthcheck=_healthcheck(container),
        hosts=tuple(_hosts(container.hosts)),
        dns=dns.nameservers,
        dns_search=dns.search,
        dns_options=dns.options,
        ports=tuple(dict.fromkeys(port for port, _ in published_ports(spec))),
        log_driver=spec.task.log_driver.name,
        log_options=dict(spec.task.log_driver.options),
    )


class _Dns(NamedTuple):
    nameservers: tuple[str, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]


def _dns(container: ContainerSpec, stack: str) -> _Dns:
    """Of a stack: the node's server first, and the names of the stack before all others."""
    servers, search = tuple(container.dns.nameservers), tuple(container.dns.search)
    options = tuple(container.dns.options)
    if stack:
        servers, search = (NAMES_SERVER, *servers), (search_domain(stack), *search)
        if not any(option.startswith("ndots:") for option in options):
            # So that tasks.NAME is looked for in the stack first, too.
            options = (*options, "ndots:2")
    return _Dns(servers, search, options)


def _values(task: Task, spec: ServiceSpec, node: NodeFacts) -> Values:
    return {
        "Service": {
            "ID": task.service_id,
            "Name": task.service_name,
            "Labels": dict(spec.annotations.labels),
        },
        "Node": {
            "ID": node.id,
            "Hostname": node.hostname,
            "Platform": {"Architecture": node.architecture, "OS": node.os},
        },
        "Task": {"ID": task.id, "Name": task_name(task), "Slot": str(task.slot)},
    }


def _generic_env(task: Task) -> tuple[str, ...]:
    """What the task holds of its node's generic resources, as Docker tells it to containers."""
    return tuple(
        f"DOCKER_RESOURCE_{generic.kind.upper()}={','.join(generic.names) or generic.count}"
        for generic in task.assigned_generic
    )


def _demo_env(task: Task, container: ContainerSpec, node: NodeFacts) -> tuple[str, ...]:
    """The demonstration image shows where it runs; an engine would not tell it."""
    if not is_demo(container.image):
        return ()
    return (
        f"SWARM_SERVICE={task.service_name}",
        f"SWARM_SLOT={task.slot or node.id}",
        f"SWARM_NODE={node.hostname}",
        f"SWARM_TASK_ID={task.id}",
    )


def _healthcheck(container: ContainerSpec) -> Healthcheck | None:
    if not container.HasField("health_check"):
        return None
    check: HealthCheck = container.health_check
    return Healthcheck(
        test=tuple(check.test),
        interval_ns=check.interval_ns,
        timeout_ns=check.timeout_ns,
        retries=check.retries,
        start_period_ns=check.start_period_ns,
        start_interval_ns=check.start_interval_ns,
    )


def _mount(mount: MountSpec, values: Values) -> Mount:
    return Mount(
        kind=_MOUNT_KINDS[mount.type],
        source=expand(mount.source, values),
        target=expand(mount.target, values),
        read_only=mount.read_only,
        propagation=mount.bind_propagation,
        no_copy=mount.volume_no_copy,
        volume_driver=mount.volume_driver,
        volume_options={k: expand(v, values) for k, v in mount.volume_options.items()},
        volume_labels={k: expand(v, values) for k, v in mount.volume_labels.items()},
        tmpfs_size_bytes=mount.tmpfs_size_bytes,
        tmpfs_mode=mount.tmpfs_mode or 0o1777,
    )


def _hosts(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        address, *names = line.split()
        for name in names:
            yield f"{name}:{address}"
