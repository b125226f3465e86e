"""A service's spec: Docker's defaults filled in, and everything in it checked.

Sources: swarmkit api/defaults/service.go and manager/controlapi/service.go.
"""

from swarm.api.v1.service_pb2 import (
    UPDATE_FAILURE_ACTION_ROLLBACK,
    Placement,
    ResourceRequirements,
    RestartPolicy,
    ServiceSpec,
    UpdateConfig,
)
from swarm.api.v1.types_pb2 import Resources
from swarm.manager.core.modes import is_job, is_per_node
from swarm.manager.core.scheduler.constraint import InvalidConstraint, check_spread, parse_all
from swarm.manager.core.validate import container_spec, endpoint_spec, file_references
from swarm.manager.core.validate.annotations import check_labels, check_name
from swarm.manager.core.validate.errors import InvalidRequest

_SECOND_NS = 1_000_000_000
_STOP_GRACE_PERIOD_NS = 10 * _SECOND_NS
_RESTART_DELAY_NS = 5 * _SECOND_NS
_UPDATE_MONITOR_NS = 5 * _SECOND_NS
_UPDATE_PARALLELISM = 1
_REPLICAS = 1
# Beyond what a cluster of this kind can hold: most likely a slip of the keyboard.
_REPLICAS_MAX = 1_000_000
_COMPLETIONS_MAX = 100_000
_MEMORY_MIN_BYTES = 4 << 20
_CPU_MIN_NANO = 1_000_000


def with_defaults(spec: ServiceSpec) -> ServiceSpec:
    """A copy in which nothing is left to be guessed."""
    full = ServiceSpec()
    full.CopyFrom(spec)
    if full.WhichOneof("mode") is None:
        full.replicated.replicas = _REPLICAS
    if not full.task.container.HasField("stop_grace_period_ns"):
        full.task.container.stop_grace_period_ns = _STOP_GRACE_PERIOD_NS
    if not full.task.restart.HasField("delay_ns"):
        full.task.restart.delay_ns = _RESTART_DELAY_NS
    if is_job(full):
        job = full.replicated_job
        if full.HasField("replicated_job") and not job.max_concurrent:
            job.max_concurrent = job.total_completions or 1
        return full
    if not spec.HasField("update"):
        full.update.parallelism = _UPDATE_PARALLELISM
    if not spec.HasField("rollback"):
        full.rollback.parallelism = _UPDATE_PARALLELISM
    for config in (full.update, full.rollback):
        if not config.HasField("monitor_ns"):
            config.monitor_ns = _UPDATE_MONITOR_NS
    return full


def check(spec: ServiceSpec) -> None:
    """Everything that the spec alone can tell. Raises InvalidRequest."""
    check_name("service", spec.annotations.name)
    check_labels("service labels", spec.annotations.labels)
    _check_mode(spec)
    container_spec.check(spec.task.container)
    file_references.check(spec.task.container)
    _check_resources(spec.task.resources)
    _check_restart(spec.task.restart)
    _check_placement(spec)
    if spec.task.log_driver.options and not spec.task.log_driver.name:
        raise InvalidRequest("log options without a log driver: name the driver too")
    _check_update("update", spec.update)
    _check_update("rollback", spec.rollback)
    if spec.rollback.failure_action == UPDATE_FAILURE_ACTION_ROLLBACK:
        raise InvalidRequest("rollback-failure-action is pause or continue")
    endpoint_spec.check(spec.endpoint)


def _check_mode(spec: ServiceSpec) -> None:
    if spec.replicated.replicas > _REPLICAS_MAX:
        raise InvalidRequest(
            f"{spec.replicated.replicas} replicas are too many: at most {_REPLICAS_MAX}"
        )
    if spec.replicated_job.total_completions > _COMPLETIONS_MAX:
        raise InvalidRequest(
            f"{spec.replicated_job.total_completions} completions are too many: "
            f"at most {_COMPLETIONS_MAX}"
        )
    if is_job(spec) and (spec.HasField("update") or spec.HasField("rollback")):
        raise InvalidRequest(
            "update and rollback options can't be used with a job: its tasks run once, and an "
            "update runs it anew"
        )


def _check_resources(resources: ResourceRequirements) -> None:
    _check_amounts("limit", resources.limits)
    _check_amounts("reservation", resources.reservations)
    if resources.pids_limit < -1:
        raise InvalidRequest("limit-pids cannot be negative, but for -1: no limit")
    for generic in resources.reservations.generic:
        if not generic.kind or generic.count < 1 or generic.names:
            raise InvalidRequest(
                "a service reserves generic resources as KIND=COUNT, with COUNT at least 1"
            )
    if resources.HasField("swap_bytes"):
        if resources.swap_bytes < -1:
            raise InvalidRequest("memory-swap cannot be negative, but for -1: no limit")
        if not resources.limits.memory_bytes:
            raise InvalidRequest("memory-swap needs a memory limit: set limit-memory too")
    if not 0 <= resources.memory_swappiness <= 100:
        raise InvalidRequest("memory-swappiness must be between 0 and 100")
    if resources.limits.generic:
        raise InvalidRequest("generic resources can be reserved, not limited")


def _check_amounts(kind: str, amounts: Resources) -> None:
    if amounts.nano_cpus and amounts.nano_cpus < _CPU_MIN_NANO:
        raise InvalidRequest(
            f"invalid cpu {kind} {amounts.nano_cpus / 1e9:g}: must be at least "
            f"{_CPU_MIN_NANO / 1e9:g}"
        )
    if amounts.memory_bytes and amounts.memory_bytes < _MEMORY_MIN_BYTES:
        raise InvalidRequest(f"invalid memory {kind} {amounts.memory_bytes}: must be at least 4MiB")


def _check_restart(restart: RestartPolicy) -> None:
    if restart.delay_ns < 0:
        raise InvalidRequest("restart-delay cannot be negative")
    if restart.window_ns < 0:
        raise InvalidRequest("restart-window cannot be negative")


def _check_placement(spec: ServiceSpec) -> None:
    placement: Placement = spec.task.placement
    try:
        parse_all(placement.constraints)
        for preference in placement.preferences:
            check_spread(preference.spread_descriptor)
    except InvalidConstraint as error:
        raise InvalidRequest(str(error)) from None
    if placement.max_replicas_per_node and is_per_node(spec):
        raise InvalidRequest(
            "replicas-max-per-node can only be used with replicated or replicated-job mode"
        )


def _check_update(kind: str, config: UpdateConfig) -> None:
    if config.delay_ns < 0:
        raise InvalidRequest(f"{kind}-delay cannot be negative")
    if config.monitor_ns < 0:
        raise InvalidRequest(f"{kind}-monitor cannot be negative")
    if not 0 <= config.max_failure_ratio <= 1:
        raise InvalidRequest(f"{kind}-max-failure-ratio cannot be less than 0 or bigger than 1")
