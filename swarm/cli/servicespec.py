"""From the flags of `service create` to a spec. Pure.

`flags` maps python names of flags to parsed values; None, or an empty tuple for a list, is a flag
that was not typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from swarm.api.v1.service_pb2 import (
    ContainerSpec,
    DnsConfig,
    EndpointSpec,
    HealthCheck,
    LogDriver,
    Placement,
    PlacementPreference,
    ResourceRequirements,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from swarm.api.v1.types_pb2 import Annotations, Resources
from swarm.cli.specvalues import effective_capabilities, merge_env, to_map
from swarm.dockerapi.json_values import ApiError
from swarm.dockerapi.words import (
    ENDPOINT_MODE,
    FAILURE_ACTION,
    RESTART_CONDITION,
    UPDATE_ORDER,
)

Flags = Mapping[str, Any]

NS_PER_SECOND = 1_000_000_000
RESTART_DELAY_NS = 5 * NS_PER_SECOND
UPDATE_MONITOR_NS = 5 * NS_PER_SECOND
_HEALTH_FLAGS = ("cmd", "interval", "timeout", "retries", "start_period", "start_interval")


class SpecError(ValueError):
    """Flags that don't go together; one line."""


def create_spec(flags: Flags, image: str, command: Sequence[str]) -> ServiceSpec:
    """The spec that the flags of `service create` ask for. Raises SpecError."""
    spec = ServiceSpec(
        annotations=Annotations(name=flags["name"] or "", labels=to_map(flags["label"])),
        task=TaskSpec(
            container=_container(flags, image, command),
            resources=_resources(flags),
            placement=Placement(
                constraints=flags["constraint"],
                preferences=[
                    PlacementPreference(spread_descriptor=spread)
                    for spread in flags["placement_pref"]
                ],
                max_replicas_per_node=flags["replicas_max_per_node"] or 0,
            ),
        ),
        endpoint=EndpointSpec(
            ports=[port for ports in flags["publish"] for port in ports],
        ),
    )
    set_mode(spec, flags["mode"], flags["replicas"], flags["max_concurrent"])
    apply_restart(spec.task, flags)
    apply_log_driver(spec.task, flags)
    apply_update(spec, "update", flags)
    apply_update(spec, "rollback", flags)
    apply_endpoint_mode(spec, flags)
    return spec


def _container(flags: Flags, image: str, command: Sequence[str]) -> ContainerSpec:
    add, drop = effective_capabilities(flags["cap_add"], flags["cap_drop"])
    container = ContainerSpec(
        image=image,
        args=command,
        command=flags["entrypoint"] or (),
        labels=to_map(flags["container_label"]),
        env=merge_env(flags["env"]),
        groups=flags["group"],
        mounts=flags["mount"],
        secrets=flags["secret"],
        configs=flags["config"],
        hosts=flags["host"],
        dns=DnsConfig(
            nameservers=flags["dns"], search=flags["dns_search"], options=flags["dns_option"]
        ),
        capability_add=add,
        capability_drop=drop,
        sysctls=to_map(flags["sysctl"]),
        ulimits={ulimit.name: ulimit for ulimit in flags["ulimit"]}.values(),
    )
    apply_scalars(container, flags)
    apply_health(container, flags)
    return container


# Flags that are one field of the container, in `create` and `update` alike.
_SCALARS = {
    "hostname": "hostname",
    "workdir": "dir",
    "user": "user",
    "tty": "tty",
    "init": "init",
    "read_only": "read_only",
    "stop_signal": "stop_signal",
    "stop_grace_period": "stop_grace_period_ns",
    "oom_score_adj": "oom_score_adj",
}


def apply_scalars(container: ContainerSpec, flags: Flags) -> None:
    for flag, field in _SCALARS.items():
        if flags[flag] is not None:
            setattr(container, field, flags[flag])


def _resources(flags: Flags) -> ResourceRequirements:
    resources = ResourceRequirements(
        limits=Resources(
            nano_cpus=flags["limit_cpu"] or 0, memory_bytes=flags["limit_memory"] or 0
        ),
        reservations=Resources(
            nano_cpus=flags["reserve_cpu"] or 0,
            memory_bytes=flags["reserve_memory"] or 0,
            generic={generic.kind: generic for generic in flags["generic_resource"]}.values(),
        ),
        pids_limit=flags["limit_pids"] or 0,
    )
    apply_swap(resources, flags)
    return resources


def apply_swap(resources: ResourceRequirements, flags: Flags) -> None:
    """A swappiness of -1 is none of its own."""
    if flags["memory_swap"] is not None:
        resources.swap_bytes = flags["memory_swap"]
    if flags["memory_swappiness"] == -1:
        resources.ClearField("memory_swappiness")
    elif flags["memory_swappiness"] is not None:
        resources.memory_swappiness = flags["memory_swappiness"]


def set_mode(
    spec: ServiceSpec, mode: str | None, replicas: int | None, max_concurrent: int | None
) -> None:
    """Raises SpecError."""
    if max_concurrent is not None and mode != "replicated-job":
        raise SpecError("max-concurrent can only be used with replicated-job mode")
    if replicas is not None and mode in ("global", "global-job"):
        raise SpecError("replicas can only be used with replicated or replicated-job mode")
    match mode or "replicated":
        case "replicated":
            spec.replicated.replicas = 1 if replicas is None else replicas
        case "global":
            getattr(spec, "global").SetInParent()
        case "replicated-job":
            total = 1 if replicas is None else replicas
            spec.replicated_job.total_completions = total
            spec.replicated_job.max_concurrent = max_concurrent or total
        case "global-job":
            spec.global_job.SetInParent()
        case _:
            raise SpecError(f"Unknown mode: {mode}, only replicated and global supported")


def apply_restart(task: TaskSpec, flags: Flags) -> None:
    """Raises SpecError."""
    names = ("condition", "delay", "max_attempts", "window")
    typed = {name: flags[f"restart_{name}"] for name in names}
    if all(value is None for value in typed.values()):
        return
    if not task.HasField("restart"):
        task.restart.CopyFrom(RestartPolicy(delay_ns=RESTART_DELAY_NS))
    if typed["condition"] is not None:
        task.restart.condition = _member(RESTART_CONDITION, typed["condition"])
    if typed["delay"] is not None:
        task.restart.delay_ns = typed["delay"]
    if typed["max_attempts"] is not None:
        task.restart.max_attempts = typed["max_attempts"]
    if typed["window"] is not None:
        task.restart.window_ns = typed["window"]


def apply_update(spec: ServiceSpec, which: Literal["update", "rollback"], flags: Flags) -> None:
    """UpdateConfig, or RollbackConfig. Raises SpecError."""
    names = ("parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order")
    typed = {name: flags[f"{which}_{name}"] for name in names}
    if all(value is None for value in typed.values()):
        return
    config: UpdateConfig = getattr(spec, which)
    if not spec.HasField(which):
        config.CopyFrom(UpdateConfig(parallelism=1, monitor_ns=UPDATE_MONITOR_NS))
    for name, field in (
        ("parallelism", "parallelism"),
        ("delay", "delay_ns"),
        ("monitor", "monitor_ns"),
        ("max_failure_ratio", "max_failure_ratio"),
    ):
        if typed[name] is not None:
            setattr(config, field, typed[name])
    if typed["failure_action"] is not None:
        config.failure_action = _member(FAILURE_ACTION, typed["failure_action"])
    if typed["order"] is not None:
        config.order = _member(UPDATE_ORDER, typed["order"])


def apply_endpoint_mode(spec: ServiceSpec, flags: Flags) -> None:
    """Raises SpecError."""
    if flags["endpoint_mode"] is not None:
        spec.endpoint.mode = _member(ENDPOINT_MODE, flags["endpoint_mode"].lower())


def apply_log_driver(task: TaskSpec, flags: Flags) -> None:
    """Options replace all there were. Raises SpecError."""
    if flags["log_driver"]:
        options = to_map(flags["log_opt"])
        task.log_driver.CopyFrom(LogDriver(name=flags["log_driver"], options=options))
    elif flags["log_opt"]:
        raise SpecError("--log-opt goes with --log-driver: name the driver too")


def apply_health(container: ContainerSpec, flags: Flags) -> None:
    """Raises SpecError."""
    typed = {name: flags[f"health_{name}"] for name in _HEALTH_FLAGS}
    changed = any(value is not None for value in typed.values())
    if flags["no_healthcheck"]:
        if changed:
            raise SpecError("--no-healthcheck conflicts with --health-* options")
        container.health_check.CopyFrom(HealthCheck(test=["NONE"]))
        return
    if not changed:
        return
    health = container.health_check
    if list(health.test) == ["NONE"]:
        del health.test[:]
    if typed["cmd"] is not None:
        health.test[:] = ["CMD-SHELL", typed["cmd"]] if typed["cmd"] else []
    if typed["retries"] is not None:
        health.retries = typed["retries"]
    for name in ("interval", "timeout", "start_period", "start_interval"):
        if typed[name] is not None:
            setattr(health, f"{name}_ns", typed[name])


def _member(words: Any, word: str) -> Any:
    try:
        return words.member(word)
    except ApiError as error:
        raise SpecError(str(error)) from None
