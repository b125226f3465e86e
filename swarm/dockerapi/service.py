"""Service and ServiceSpec."""

from __future__ import annotations

from collections.abc import Iterable

from swarm.api.v1.control_pb2 import ServiceView
from swarm.api.v1.service_pb2 import (
    ENDPOINT_MODE_VIP,
    RESTART_CONDITION_ANY,
    UPDATE_FAILURE_ACTION_PAUSE,
    UPDATE_ORDER_STOP_FIRST,
    EndpointSpec,
    GlobalJob,
    GlobalService,
    LogDriver,
    Placement,
    PlacementPreference,
    ReplicatedJob,
    ReplicatedService,
    ResourceRequirements,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateStatus,
)
from swarm.api.v1.types_pb2 import (
    PROTOCOL_TCP,
    PUBLISH_MODE_INGRESS,
    Annotations,
    GenericResource,
    Platform,
    PortConfig,
    Resources,
)
from swarm.dockerapi.container import container_from_json, container_to_json
from swarm.dockerapi.json_values import (
    ApiError,
    Json,
    float32,
    get_int,
    get_map,
    get_object,
    get_objects,
    get_text,
    get_texts,
    meta_to_json,
    refuse,
    rfc3339_nano,
    without_empty,
)
from swarm.dockerapi.words import (
    ENDPOINT_MODE,
    FAILURE_ACTION,
    PROTOCOL,
    PUBLISH_MODE,
    RESTART_CONDITION,
    UPDATE_ORDER,
    UPDATE_STATE,
)
from swarm.manager.core.modes import is_job


def service_to_json(view: ServiceView, *, with_status: bool = False) -> Json:
    """`with_status` adds ServiceStatus, as Docker's list does when asked with `status=true`."""
    service = view.service
    shown: Json = {"ID": service.id} | meta_to_json(service.meta)
    shown["Spec"] = service_spec_to_json(view.spec)
    if view.HasField("previous_spec"):
        shown["PreviousSpec"] = service_spec_to_json(view.previous_spec)
    shown["Endpoint"] = _endpoint_to_json(view)
    if service.update.state:
        shown["UpdateStatus"] = _update_status_to_json(service.update)
    if is_job(view.spec):
        shown["JobStatus"] = {
            "JobIteration": job_iteration(service.task_revision),
            "LastExecution": rfc3339_nano(view.spec_created_at_ns),
        }
    if with_status:
        shown["ServiceStatus"] = {
            "RunningTasks": view.running_tasks,
            "DesiredTasks": view.desired_tasks,
            "CompletedTasks": view.completed_tasks,
        }
    return shown


def job_iteration(task_revision: int) -> Json:
    """Every update of a job makes a revision of its own, which runs it anew."""
    return {"Index": task_revision - 1}


def _update_status_to_json(status: UpdateStatus) -> Json:
    shown: Json = {"State": UPDATE_STATE.word(status.state)}
    if status.started_at_ns:
        shown["StartedAt"] = rfc3339_nano(status.started_at_ns)
    if status.completed_at_ns:
        shown["CompletedAt"] = rfc3339_nano(status.completed_at_ns)
    return shown | {"Message": status.message}


def _endpoint_to_json(view: ServiceView) -> Json:
    if not view.service.ports:
        return {"Spec": {}}
    return {
        "Spec": _endpoint_spec_to_json(view.spec.endpoint),
        "Ports": ports_to_json(view.service.ports),
    }


def service_spec_to_json(spec: ServiceSpec) -> Json:
    shown: Json = {
        "Name": spec.annotations.name,
        "Labels": dict(spec.annotations.labels),
        "TaskTemplate": task_spec_to_json(spec.task) | {"Runtime": "container"},
        "Mode": _mode_to_json(spec),
    }
    if spec.HasField("update"):
        shown["UpdateConfig"] = _update_to_json(spec.update)
    if spec.HasField("rollback"):
        shown["RollbackConfig"] = _update_to_json(spec.rollback)
    if spec.HasField("endpoint"):
        shown["EndpointSpec"] = _endpoint_spec_to_json(spec.endpoint)
    return shown


def service_spec_from_json(source: Json) -> ServiceSpec:
    """Raises ApiError."""
    refuse(source, ("Networks",))
    spec = ServiceSpec(
        annotations=Annotations(name=get_text(source, "Name"), labels=get_map(source, "Labels")),
        task=task_spec_from_json(get_object(source, "TaskTemplate") or {}),
    )
    _mode_from_json(get_object(source, "Mode") or {}, spec)
    update = get_object(source, "UpdateConfig")
    if update is not None:
        spec.update.CopyFrom(_update_from_json(update))
    rollback = get_object(source, "RollbackConfig")
    if rollback is not None:
        spec.rollback.CopyFrom(_update_from_json(rollback))
    endpoint = get_object(source, "EndpointSpec")
    if endpoint is not None:
        spec.endpoint.CopyFrom(
            EndpointSpec(
                mode=ENDPOINT_MODE.member(get_text(endpoint, "Mode"), ENDPOINT_MODE_VIP),
                ports=[_port_from_json(port) for port in get_objects(endpoint, "Ports")],
            )
        )
    return spec


def _mode_to_json(spec: ServiceSpec) -> Json:
    match spec.WhichOneof("mode"):
        case "global":
            return {"Global": {}}
        case "replicated_job":
            job = spec.replicated_job
            return {
                "ReplicatedJob": {
                    "MaxConcurrent": job.max_concurrent,
                    "TotalCompletions": job.total_completions,
                }
            }
        case "global_job":
            return {"GlobalJob": {}}
        case _:
            return {"Replicated": {"Replicas": spec.replicated.replicas}}


def _mode_from_json(source: Json, spec: ServiceSpec) -> None:
    given = [key for key in source if source[key] is not None]
    if len(given) > 1:
        raise ApiError(f"Mode must be one of {', '.join(given)}")
    mode = given[0] if given else "Replicated"
    fields = get_object(source, mode) or {}
    match mode:
        case "Replicated":
            replicas = 1 if fields.get("Replicas") is None else get_int(fields, "Replicas")
            spec.replicated.CopyFrom(ReplicatedService(replicas=replicas))
        case "Global":
            getattr(spec, "global").CopyFrom(GlobalService())
        case "ReplicatedJob":
            concurrent = get_int(fields, "MaxConcurrent") or 1
            total = get_int(fields, "TotalCompletions") or concurrent
            job = ReplicatedJob(max_concurrent=concurrent, total_completions=total)
            spec.replicated_job.CopyFrom(job)
        case "GlobalJob":
            spec.global_job.CopyFrom(GlobalJob())
        case _:
            raise ApiError(f'invalid Mode: "{mode}"')


def task_spec_to_json(task: TaskSpec) -> Json:
    """TaskTemplate of a service, Spec of a task."""
    shown: Json = {"ContainerSpec": container_to_json(task.container)}
    if task.HasField("resources"):
        shown["Resources"] = _requirements_to_json(task.resources)
    if task.HasField("restart"):
        shown["RestartPolicy"] = _restart_to_json(task.restart)
    if task.HasField("placement"):
        shown["Placement"] = _placement_to_json(task.placement)
    if task.HasField("log_driver"):
        shown["LogDriver"] = without_empty(
            {"Name": task.log_driver.name, "Options": dict(task.log_driver.options) or None}
        )
    shown["ForceUpdate"] = task.force_update
    return shown


def task_spec_from_json(source: Json) -> TaskSpec:
    """Raises ApiError."""
    refuse(source, ("Networks", "PluginSpec", "NetworkAttachmentSpec"))
    if get_text(source, "Runtime") not in ("", "container"):
        raise ApiError(f"Runtime {source['Runtime']} is not supported yet")
    task = TaskSpec(
        container=container_from_json(get_object(source, "ContainerSpec") or {}),
        force_update=get_int(source, "ForceUpdate"),
    )
    resources = get_object(source, "Resources")
    if resources is not None:
        task.resources.CopyFrom(_requirements_from_json(resources))
    restart = get_object(source, "RestartPolicy")
    if restart is not None:
        task.restart.CopyFrom(_restart_from_json(restart))
    placement = get_object(source, "Placement")
    if placement is not None:
        task.placement.CopyFrom(_placement_from_json(placement))
    driver = get_object(source, "LogDriver")
    if driver is not None:
        task.log_driver.CopyFrom(
            LogDriver(name=get_text(driver, "Name"), options=get_map(driver, "Options"))
        )
    return task


def _requirements_to_json(requirements: ResourceRequirements) -> Json:
    shown: Json = {}
    if requirements.HasField("limits") or requirements.pids_limit:
        limits = _resources_to_json(requirements.limits)
        shown["Limits"] = limits | without_empty({"Pids": requirements.pids_limit})
    if requirements.HasField("reservations"):
        shown["Reservations"] = _resources_to_json(requirements.reservations)
    if requirements.HasField("swap_bytes"):
        shown["SwapBytes"] = requirements.swap_bytes
    if requirements.HasField("memory_swappiness"):
        shown["MemorySwappiness"] = requirements.memory_swappiness
    return shown


def _requirements_from_json(source: Json) -> ResourceRequirements:
    requirements = ResourceRequirements()
    limits = get_object(source, "Limits")
    if limits is not None:
        requirements.limits.CopyFrom(_resources_from_json(limits))
        requirements.pids_limit = get_int(limits, "Pids")
    reservations = get_object(source, "Reservations")
    if reservations is not None:
        requirements.reservations.CopyFrom(_resources_from_json(reservations))
    if source.get("SwapBytes") is not None:
        requirements.swap_bytes = get_int(source, "SwapBytes", low=-1)
    if source.get("MemorySwappiness") is not None:
        requirements.memory_swappiness = get_int(source, "MemorySwappiness")
    return requirements


def _resources_to_json(resources: Resources) -> Json:
    return without_empty(
        {
            "NanoCPUs": resources.nano_cpus,
            "MemoryBytes": resources.memory_bytes,
            "GenericResources": generic_to_json(resources.generic),
        }
    )


def generic_to_json(resources: Iterable[GenericResource]) -> list[Json]:
    """A count is one discrete resource, names are one named resource each."""
    shown: list[Json] = []
    for resource in resources:
        if resource.names:
            shown += [
                {"NamedResourceSpec": {"Kind": resource.kind, "Value": name}}
                for name in resource.names
            ]
        else:
            spec = {"Kind": resource.kind, "Value": resource.count}
            shown.append({"DiscreteResourceSpec": spec})
    return shown


def _resources_from_json(source: Json) -> Resources:
    return Resources(
        nano_cpus=get_int(source, "NanoCPUs"),
        memory_bytes=get_int(source, "MemoryBytes"),
        generic=_generic_from_json(get_objects(source, "GenericResources")),
    )


def _generic_from_json(items: Iterable[Json]) -> list[GenericResource]:
    counted: list[GenericResource] = []
    named: dict[str, GenericResource] = {}
    for item in items:
        discrete = get_object(item, "DiscreteResourceSpec")
        name = get_object(item, "NamedResourceSpec")
        if discrete is not None:
            kind, count = get_text(discrete, "Kind"), get_int(discrete, "Value")
            counted.append(GenericResource(kind=kind, count=count))
        elif name is not None:
            kind = get_text(name, "Kind")
            named.setdefault(kind, GenericResource(kind=kind))
            named[kind].names.append(get_text(name, "Value"))
    return [*named.values(), *counted]


def _restart_to_json(policy: RestartPolicy) -> Json:
    shown: Json = {"Condition": RESTART_CONDITION.word(policy.condition)}
    if policy.HasField("delay_ns"):
        shown["Delay"] = policy.delay_ns
    shown["MaxAttempts"] = policy.max_attempts
    return shown | without_empty({"Window": policy.window_ns})


def _restart_from_json(source: Json) -> RestartPolicy:
    policy = RestartPolicy(
        condition=RESTART_CONDITION.member(get_text(source, "Condition"), RESTART_CONDITION_ANY),
        max_attempts=get_int(source, "MaxAttempts"),
        window_ns=get_int(source, "Window"),
    )
    if source.get("Delay") is not None:
        policy.delay_ns = get_int(source, "Delay")
    return policy


def _placement_to_json(placement: Placement) -> Json:
    return without_empty(
        {
            "Constraints": list(placement.constraints),
            "Preferences": [
                {"Spread": {"SpreadDescriptor": preference.spread_descriptor}}
                for preference in placement.preferences
            ],
            "MaxReplicas": placement.max_replicas_per_node,
            "Platforms": [
                without_empty({"Architecture": p.architecture, "OS": p.os})
                for p in placement.platforms
            ],
        }
    )


def _placement_from_json(source: Json) -> Placement:
    spreads = [get_object(item, "Spread") or {} for item in get_objects(source, "Preferences")]
    return Placement(
        constraints=get_texts(source, "Constraints"),
        preferences=[
            PlacementPreference(spread_descriptor=get_text(spread, "SpreadDescriptor"))
            for spread in spreads
        ],
        max_replicas_per_node=get_int(source, "MaxReplicas"),
        platforms=[
            Platform(architecture=get_text(item, "Architecture"), os=get_text(item, "OS"))
            for item in get_objects(source, "Platforms")
        ],
    )


def _update_to_json(config: UpdateConfig) -> Json:
    shown: Json = {"Parallelism": config.parallelism}
    if config.delay_ns:
        shown["Delay"] = config.delay_ns
    shown["FailureAction"] = FAILURE_ACTION.word(config.failure_action)
    if config.HasField("monitor_ns"):
        shown["Monitor"] = config.monitor_ns
    shown["MaxFailureRatio"] = float32(config.max_failure_ratio)
    shown["Order"] = UPDATE_ORDER.word(config.order)
    return shown


def _update_from_json(source: Json) -> UpdateConfig:
    ratio = source.get("MaxFailureRatio") or 0
    if isinstance(ratio, bool) or not isinstance(ratio, int | float):
        raise ApiError("MaxFailureRatio must be a number")
    action = get_text(source, "FailureAction")
    config = UpdateConfig(
        parallelism=get_int(source, "Parallelism"),
        delay_ns=get_int(source, "Delay"),
        failure_action=FAILURE_ACTION.member(action, UPDATE_FAILURE_ACTION_PAUSE),
        max_failure_ratio=ratio,
        order=UPDATE_ORDER.member(get_text(source, "Order"), UPDATE_ORDER_STOP_FIRST),
    )
    if source.get("Monitor") is not None:
        config.monitor_ns = get_int(source, "Monitor")
    return config


def _endpoint_spec_to_json(endpoint: EndpointSpec) -> Json:
    shown: Json = {"Mode": ENDPOINT_MODE.word(endpoint.mode)}
    return shown | without_empty({"Ports": ports_to_json(endpoint.ports)})


def ports_to_json(ports: Iterable[PortConfig]) -> list[Json]:
    return [
        without_empty(
            {
                "Name": port.name,
                "Protocol": PROTOCOL.word(port.protocol),
                "TargetPort": port.target_port,
                "PublishedPort": port.published_port,
                "PublishMode": PUBLISH_MODE.word(port.publish_mode),
            }
        )
        for port in ports
    ]


def _port_from_json(source: Json) -> PortConfig:
    return PortConfig(
        name=get_text(source, "Name"),
        protocol=PROTOCOL.member(get_text(source, "Protocol"), PROTOCOL_TCP),
        target_port=get_int(source, "TargetPort"),
        published_port=get_int(source, "PublishedPort"),
        publish_mode=PUBLISH_MODE.member(get_text(source, "PublishMode"), PUBLISH_MODE_INGRESS),
    )
