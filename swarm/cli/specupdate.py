"""From a spec and the flags of `service update` to the new spec. Pure.

The arithmetic is docker/cli's (cli/command/service/update.go), lists sorted where it sorts them;
variables keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any

from swarm.api.v1.service_pb2 import (
    ContainerSpec,
    Mount,
    Placement,
    PlacementPreference,
    ServiceSpec,
    TaskSpec,
)
from swarm.api.v1.types_pb2 import PortConfig
from swarm.cli.servicespec import (
    Flags,
    SpecError,
    apply_endpoint_mode,
    apply_health,
    apply_log_driver,
    apply_restart,
    apply_scalars,
    apply_swap,
    apply_update,
)
from swarm.cli.specvalues import to_map, updated_capabilities
from swarm.dockerapi.words import PROTOCOL, PUBLISH_MODE


def update_spec(spec: ServiceSpec, flags: Flags) -> ServiceSpec:
    """A changed copy of `spec`. Raises SpecError."""
    new = ServiceSpec()
    new.CopyFrom(spec)
    _update_map(new.annotations.labels, flags["label_add"], flags["label_rm"])
    _update_container(new.task.container, flags)
    _update_task(new.task, flags)
    if flags["replicas"] is not None:
        new.CopyFrom(with_replicas(new, flags["replicas"]))
    if flags["max_concurrent"] is not None:
        if not new.HasField("replicated_job"):
            raise SpecError("max-concurrent can only be used with replicated-job mode")
        new.replicated_job.max_concurrent = flags["max_concurrent"]
    apply_update(new, "update", flags)
    apply_update(new, "rollback", flags)
    apply_endpoint_mode(new, flags)
    if flags["publish_add"] or flags["publish_rm"]:
        ports = _updated_ports(new.endpoint.ports, flags["publish_add"], flags["publish_rm"])
        del new.endpoint.ports[:]
        new.endpoint.ports.extend(ports)
    return new


def with_replicas(spec: ServiceSpec, replicas: int) -> ServiceSpec:
    """`spec` with another number of replicas, of a job: completions. Raises SpecError for a
    global service or job."""
    new = ServiceSpec()
    new.CopyFrom(spec)
    if spec.HasField("replicated_job"):
        new.replicated_job.total_completions = replicas
    elif spec.HasField("replicated"):
        new.replicated.replicas = replicas
    else:
        raise SpecError("replicas can only be used with replicated or replicated-job mode")
    return new


def _update_container(container: ContainerSpec, flags: Flags) -> None:
    _update_map(container.labels, flags["container_label_add"], flags["container_label_rm"])
    if flags["image"] is not None:
        container.image = flags["image"]
    if flags["args"] is not None:
        container.args[:] = flags["args"]
    if flags["entrypoint"] is not None:
        container.command[:] = flags["entrypoint"]
    container.env[:] = _updated_env(container.env, flags["env_add"], flags["env_rm"])
    apply_scalars(container, flags)
    apply_health(container, flags)
    _update_mounts(container, flags["mount_add"], flags["mount_rm"])
    _update_files(container, flags)
    _update_list(container.groups, flags["group_add"], flags["group_rm"])
    _update_list(container.hosts, flags["host_add"], flags["host_rm"], _host_name)
    _update_list(container.dns.nameservers, flags["dns_add"], flags["dns_rm"])
    _update_list(container.dns.search, flags["dns_search_add"], flags["dns_search_rm"])
    _update_list(container.dns.options, flags["dns_option_add"], flags["dns_option_rm"])
    _update_map(container.sysctls, flags["sysctl_add"], flags["sysctl_rm"])
    if flags["cap_add"] or flags["cap_drop"]:
        add, drop = updated_capabilities(
            container.capability_add, container.capability_drop, flags["cap_add"], flags["cap_drop"]
        )
        container.capability_add[:] = add
        container.capability_drop[:] = drop
    if flags["ulimit_add"] or flags["ulimit_rm"]:
        ulimits = {u.name: u for u in (*container.ulimits, *flags["ulimit_add"])}
        kept = [ulimits[name] for name in sorted(ulimits) if name not in flags["ulimit_rm"]]
        del container.ulimits[:]
        container.ulimits.extend(kept)


def _update_task(task: TaskSpec, flags: Flags) -> None:
    limits = {"nano_cpus": flags["limit_cpu"], "memory_bytes": flags["limit_memory"]}
    reserved = {"nano_cpus": flags["reserve_cpu"], "memory_bytes": flags["reserve_memory"]}
    for resources, values in (("limits", limits), ("reservations", reserved)):
        for field, value in values.items():
            if value is not None:
                setattr(getattr(task.resources, resources), field, value)
    apply_swap(task.resources, flags)
    _update_generic(task, flags)
    if flags["limit_pids"] is not None:
        task.resources.pids_limit = flags["limit_pids"]
    apply_restart(task, flags)
    apply_log_driver(task, flags)
    _update_placement(task.placement, flags)
    if flags["force"]:
        task.force_update += 1


def _update_generic(task: TaskSpec, flags: Flags) -> None:
    """Added ones replace those of their kind; removed by kind, whatever the count."""
    added, removed = flags["generic_resource_add"], flags["generic_resource_rm"]
    if not added and not removed:
        return
    reserved = {g.kind: g for g in (*task.resources.reservations.generic, *added)}
    gone = {text.partition("=")[0] for text in removed}
    unknown = sorted(gone - set(reserved))
    if unknown:
        raise SpecError(f"the service reserves no generic resource '{unknown[0]}'")
    kept = [generic for kind, generic in reserved.items() if kind not in gone]
    del task.resources.reservations.generic[:]
    task.resources.reservations.generic.extend(kept)


def _update_placement(placement: Placement, flags: Flags) -> None:
    _update_list(placement.constraints, flags["constraint_add"], flags["constraint_rm"])
    if flags["placement_pref_add"] or flags["placement_pref_rm"]:
        removed = set(flags["placement_pref_rm"])
        kept = [p.spread_descriptor for p in placement.preferences]
        spreads = [s for s in kept if s not in removed] + list(flags["placement_pref_add"])
        del placement.preferences[:]
        placement.preferences.extend(PlacementPreference(spread_descriptor=s) for s in spreads)
    if flags["replicas_max_per_node"] is not None:
        placement.max_replicas_per_node = flags["replicas_max_per_node"]


def _update_map(
    field: MutableMapping[str, str], added: Iterable[str], removed: Iterable[str]
) -> None:
    field.update(to_map(added))
    for key in removed:
        field.pop(key, None)


def _update_list(
    field: Any,
    added: Sequence[str],
    removed: Sequence[str],
    key: Callable[[str], str] = lambda item: item,
) -> None:
    """Without what is `removed` by its key, without doubles, sorted. Untouched without flags."""
    if added or removed:
        field[:] = sorted({item for item in (*field, *added) if key(item) not in removed})


def _host_name(entry: str) -> str:
    """The first name in "IP name [name...]"."""
    words = entry.split()
    return words[1] if len(words) > 1 else entry


def _updated_env(env: Iterable[str], added: Iterable[str], removed: Sequence[str]) -> list[str]:
    variables = {variable.partition("=")[0]: variable for variable in (*env, *added)}
    return [text for name, text in variables.items() if name not in removed]


def _update_mounts(
    container: ContainerSpec, added: Sequence[Mount], removed: Sequence[str]
) -> None:
    if not added and not removed:
        return
    targets = [mount.target for mount in added]
    if len(set(targets)) < len(targets):
        raise SpecError("duplicate mount target")
    mounts = {mount.target: mount for mount in (*container.mounts, *added)}
    kept = [mount for target, mount in mounts.items() if target not in removed]
    kept.sort(key=lambda mount: (mount.source, mount.target))
    del container.mounts[:]
    container.mounts.extend(kept)


def _update_files(container: ContainerSpec, flags: Flags) -> None:
    """Removed by name; what is added under a target that is taken is the managers' to refuse."""
    secrets = [s for s in container.secrets if s.secret_name not in flags["secret_rm"]]
    configs = [c for c in container.configs if c.config_name not in flags["config_rm"]]
    del container.secrets[:]
    del container.configs[:]
    container.secrets.extend((*secrets, *flags["secret_add"]))
    container.configs.extend((*configs, *flags["config_add"]))


def _updated_ports(
    ports: Iterable[PortConfig],
    added: Sequence[Sequence[PortConfig]],
    removed: Sequence[Sequence[PortConfig]],
) -> list[PortConfig]:
    """Removed are those with the protocol, target and mode of a removal."""
    gone = {_target(port) for group in removed for port in group}
    kept = [port for port in ports if _target(port) not in gone]
    together = {_port_text(port): port for port in kept}
    for port in (port for group in added for port in group):
        together.setdefault(_port_text(port), port)
    return [together[text] for text in sorted(together)]


def _target(port: PortConfig) -> tuple[int, int, int]:
    return port.protocol, port.target_port, port.publish_mode


def _port_text(port: PortConfig) -> str:
    protocol, mode = PROTOCOL.word(port.protocol), PUBLISH_MODE.word(port.publish_mode)
    return f"{port.published_port}:{port.target_port}/{protocol}/{mode}"
