"""`deploy`, and the older keys that say the same: restart, scale, cpus, mem_limit and the like."""

from __future__ import annotations

from typing import Literal

from swarm.api.v1.service_pb2 import (
    ENDPOINT_MODE_DNSRR,
    ENDPOINT_MODE_VIP,
    RESTART_CONDITION_ANY,
    RESTART_CONDITION_NONE,
    RESTART_CONDITION_ON_FAILURE,
    UPDATE_FAILURE_ACTION_CONTINUE,
    UPDATE_FAILURE_ACTION_PAUSE,
    UPDATE_FAILURE_ACTION_ROLLBACK,
    UPDATE_ORDER_START_FIRST,
    UPDATE_ORDER_STOP_FIRST,
    PlacementPreference,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from swarm.api.v1.types_pb2 import GenericResource, Resources
from swarm.compose.errors import ComposeError
from swarm.compose.fields import Fields

_SECOND_NS = 1_000_000_000
_RESTART_DELAY_NS = 5 * _SECOND_NS
_MONITOR_NS = 5 * _SECOND_NS
_CONDITIONS = {
    "any": RESTART_CONDITION_ANY,
    "on-failure": RESTART_CONDITION_ON_FAILURE,
    "none": RESTART_CONDITION_NONE,
    # As docker stack takes it too.
    "": RESTART_CONDITION_ANY,
}
_FAILURE_ACTIONS = {
    "pause": UPDATE_FAILURE_ACTION_PAUSE,
    "continue": UPDATE_FAILURE_ACTION_CONTINUE,
    "rollback": UPDATE_FAILURE_ACTION_ROLLBACK,
}
_ORDERS = {"start-first": UPDATE_ORDER_START_FIRST, "stop-first": UPDATE_ORDER_STOP_FIRST}
_ENDPOINT_MODES = {"vip": ENDPOINT_MODE_VIP, "dnsrr": ENDPOINT_MODE_DNSRR}
_MODES = {m: m for m in ("replicated", "global", "replicated-job", "global-job")}


def apply_restart(task: TaskSpec, fields: Fields, *, completes: bool) -> None:
    """`restart`, which deploy.restart_policy overrules; without it, what `completes` is begun
    anew after a failure alone. Raises ComposeError."""
    written = fields.text("restart") or ("on-failure" if completes else "")
    if not written:
        return
    word, colon, count = written.partition(":")
    policy = RestartPolicy(delay_ns=_RESTART_DELAY_NS)
    match word:
        case "no":
            policy.condition = RESTART_CONDITION_NONE
        case "always" | "unless-stopped":
            policy.condition = RESTART_CONDITION_ANY
        case "on-failure":
            policy.condition = RESTART_CONDITION_ON_FAILURE
            if colon and not count.isdigit():
                raise fields.error("restart", f"is {written}: write on-failure:COUNT")
            policy.max_attempts = int(count) if colon else 0
        case _:
            raise fields.error(
                "restart", f"is {written}: it is no, always, unless-stopped or on-failure[:COUNT]"
            )
    task.restart.CopyFrom(policy)


def apply_deploy(spec: ServiceSpec, fields: Fields) -> None:
    """Raises ComposeError."""
    scale = fields.integer("scale")
    _apply_old_resources(spec.task, fields)
    deploy = fields.fields("deploy")
    if deploy is None:
        spec.replicated.replicas = 1 if scale is None else scale
        return
    _apply_mode(spec, deploy, scale)
    spec.annotations.labels.update(deploy.pairs("labels"))
    spec.endpoint.mode = deploy.word("endpoint_mode", _ENDPOINT_MODES) or ENDPOINT_MODE_VIP
    _apply_update(spec, "update", deploy.fields("update_config"))
    _apply_update(spec, "rollback", deploy.fields("rollback_config"))
    _apply_resources(spec.task, deploy.fields("resources"))
    _apply_restart_policy(spec.task, deploy.fields("restart_policy"))
    _apply_placement(spec.task, deploy.fields("placement"))


def _apply_mode(spec: ServiceSpec, deploy: Fields, scale: int | None) -> None:
    mode = deploy.word("mode", _MODES) or "replicated"
    replicas = deploy.integer("replicas")
    if replicas is not None and replicas < 0:
        raise deploy.error("replicas", f"is {replicas}: it can't be negative")
    if replicas is not None and mode.startswith("global"):
        raise deploy.error("replicas", f"can't be used with mode {mode}")
    count = replicas if replicas is not None else scale
    count = 1 if count is None else count
    match mode:
        case "replicated":
            spec.replicated.replicas = count
        case "global":
            getattr(spec, "global").SetInParent()
        case "replicated-job":
            spec.replicated_job.total_completions = count
            spec.replicated_job.max_concurrent = count
        case _:
            spec.global_job.SetInParent()


def _apply_update(
    spec: ServiceSpec, which: Literal["update", "rollback"], fields: Fields | None
) -> None:
    if fields is None:
        return
    parallelism = fields.integer("parallelism")
    monitor = fields.duration_ns("monitor")
    config: UpdateConfig = getattr(spec, which)
    config.CopyFrom(
        UpdateConfig(
            parallelism=1 if parallelism is None else parallelism,
            delay_ns=fields.duration_ns("delay") or 0,
            monitor_ns=_MONITOR_NS if monitor is None else monitor,
            max_failure_ratio=fields.number("max_failure_ratio") or 0,
        )
    )
    config.failure_action = (
        fields.word("failure_action", _FAILURE_ACTIONS) or UPDATE_FAILURE_ACTION_PAUSE
    )
    config.order = fields.word("order", _ORDERS) or UPDATE_ORDER_STOP_FIRST


def _apply_restart_policy(task: TaskSpec, fields: Fields | None) -> None:
    if fields is None:
        return
    delay = fields.duration_ns("delay")
    task.restart.CopyFrom(
        RestartPolicy(
            delay_ns=_RESTART_DELAY_NS if delay is None else delay,
            max_attempts=fields.integer("max_attempts") or 0,
            window_ns=fields.duration_ns("window") or 0,
        )
    )
    task.restart.condition = fields.word("condition", _CONDITIONS) or RESTART_CONDITION_ANY


def _apply_placement(task: TaskSpec, fields: Fields | None) -> None:
    if fields is None:
        return
    task.placement.constraints.extend(fields.texts("constraints"))
    for preference in fields.each("preferences"):
        spread = preference.text("spread")
        task.placement.preferences.append(PlacementPreference(spread_descriptor=spread))
    task.placement.max_replicas_per_node = fields.integer("max_replicas_per_node") or 0


def _apply_resources(task: TaskSpec, fields: Fields | None) -> None:
    if fields is None:
        return
    limits, reservations = fields.fields("limits"), fields.fields("reservations")
    if limits is not None:
        _apply_amounts(task.resources.limits, limits)
        task.resources.pids_limit = limits.integer("pids") or task.resources.pids_limit
    if reservations is None:
        return
    _apply_amounts(task.resources.reservations, reservations)
    for generic in reservations.each("generic_resources"):
        discrete = generic.fields("discrete_resource_spec")
        if discrete is None:
            continue
        count = discrete.integer("value")
        if count is None:
            raise ComposeError(discrete.node.place, f"{discrete.path} needs a value")
        task.resources.reservations.generic.append(
            GenericResource(kind=discrete.text("kind"), count=count)
        )


def _apply_amounts(amounts: Resources, fields: Fields) -> None:
    amounts.nano_cpus = fields.nano_cpus("cpus") or amounts.nano_cpus
    amounts.memory_bytes = fields.size("memory") or amounts.memory_bytes


def _apply_old_resources(task: TaskSpec, fields: Fields) -> None:
    """What version 2 files have; deploy.resources overrules it."""
    task.resources.limits.nano_cpus = fields.nano_cpus("cpus") or 0
    task.resources.limits.memory_bytes = fields.size("mem_limit") or 0
    task.resources.reservations.memory_bytes = fields.size("mem_reservation") or 0
    task.resources.pids_limit = fields.integer("pids_limit") or 0
