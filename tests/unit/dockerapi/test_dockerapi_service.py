"""Against what a Docker daemon answered (engine/, captured from `GET /services/ID`)."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.api.v1 import service_pb2 as pb
from swarm.api.v1.control_pb2 import ServiceView
from swarm.api.v1.types_pb2 import (
    Annotations,
    GenericResource,
    Meta,
    Platform,
    PortConfig,
    Resources,
)
from swarm.dockerapi.json_values import ApiError, float32, rfc3339_nano
from swarm.dockerapi.service import (
    service_spec_from_json,
    service_spec_to_json,
    service_to_json,
)

ENGINE = Path(__file__).parent / "engine"


def test_a_spec_of_dockers_comes_back_as_it_was() -> None:
    spec = json.loads((ENGINE / "service_full.json").read_text())["Spec"]
    assert json.dumps(service_spec_to_json(service_spec_from_json(spec))) == json.dumps(spec)


def test_a_service_looks_as_docker_shows_it() -> None:
    captured = json.loads((ENGINE / "service_full.json").read_text())
    spec = service_spec_from_json(captured["Spec"])
    service = pb.Service(
        id=captured["ID"],
        name="full",
        meta=Meta(version=16, created_at_ns=1795472472449532122, updated_at_ns=1795472472450139013),
        ports=spec.endpoint.ports,
    )
    shown = service_to_json(ServiceView(service=service, spec=spec))
    del captured["Endpoint"]["VirtualIPs"]
    assert json.dumps(shown) == json.dumps(captured)


def test_what_is_left_out_of_a_plain_service() -> None:
    spec = pb.ServiceSpec(
        annotations=Annotations(name="plain"),
        task=pb.TaskSpec(
            container=pb.ContainerSpec(image="demo:1", dns=pb.DnsConfig()),
            resources=pb.ResourceRequirements(limits=Resources(), reservations=Resources()),
            restart=pb.RestartPolicy(delay_ns=5_000_000_000),
            placement=pb.Placement(),
        ),
        replicated=pb.ReplicatedService(replicas=1),
        update=pb.UpdateConfig(parallelism=1, monitor_ns=5_000_000_000),
        endpoint=pb.EndpointSpec(),
    )
    assert service_spec_to_json(spec) == {
        "Name": "plain",
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "demo:1", "DNSConfig": {}, "Isolation": "default"},
            "Resources": {"Limits": {}, "Reservations": {}},
            "RestartPolicy": {"Condition": "any", "Delay": 5000000000, "MaxAttempts": 0},
            "Placement": {},
            "ForceUpdate": 0,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": {
            "Parallelism": 1,
            "FailureAction": "pause",
            "Monitor": 5000000000,
            "MaxFailureRatio": 0,
            "Order": "stop-first",
        },
        "EndpointSpec": {"Mode": "vip"},
    }


def test_status_comes_only_with_a_list_that_asks() -> None:
    view = ServiceView(spec=pb.ServiceSpec(), running_tasks=2, desired_tasks=3)
    assert "ServiceStatus" not in service_to_json(view)
    assert service_to_json(view, with_status=True)["ServiceStatus"] == {
        "RunningTasks": 2,
        "DesiredTasks": 3,
        "CompletedTasks": 0,
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"TaskTemplate": {"ContainerSpec": {"Privileges": {"x": 1}}}},
            "Privileges is not supported yet",
        ),
        ({"TaskTemplate": {"Networks": [{"Target": "n"}]}}, "Networks is not supported yet"),
        ({"Mode": {"Replicated": {}, "Global": {}}}, "Mode must be one of Replicated, Global"),
        ({"Name": 3}, "Name must be a string"),
        ({"Labels": {"a": 1}}, "Labels must map strings to strings"),
        ({"Mode": {"Replicated": {"Replicas": -1}}}, "Replicas is out of range: -1"),
        (
            {"EndpointSpec": {"Mode": "foo"}},
            'invalid endpoint mode: "foo": use vip, dnsrr',
        ),
        (
            {"TaskTemplate": {"RestartPolicy": {"Condition": "sometimes"}}},
            'invalid restart condition: "sometimes": use any, on-failure, none',
        ),
    ],
)
def test_what_is_wrong_is_named(source: dict[str, object], message: str) -> None:
    with pytest.raises(ApiError, match="^" + message.replace("(", r"\(")):
        service_spec_from_json(source)


def test_an_absent_mode_is_one_replica() -> None:
    assert service_spec_from_json({}).replicated.replicas == 1


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (1795472472449532122, "2026-11-23T22:21:12.449532122Z"),
        (1795472472449532000, "2026-11-23T22:21:12.449532Z"),
        (1795472472000000000, "2026-11-23T22:21:12Z"),
        (0, "1970-01-01T00:00:00Z"),
    ],
)
def test_times_have_no_trailing_zeros(unix_ns: int, text: str) -> None:
    assert rfc3339_nano(unix_ns) == text


@given(st.floats(min_value=0, max_value=1, width=32))
def test_a_ratio_is_the_same_float_of_32_bits(value: float) -> None:
    config = pb.UpdateConfig(max_failure_ratio=float32(value))
    assert config.max_failure_ratio == value


TEXT = st.text(alphabet="abc=. {}", min_size=1, max_size=4)
TEXTS = st.lists(TEXT, max_size=2)
MAP = st.dictionaries(TEXT, TEXT, max_size=2)
COUNT = st.integers(min_value=0, max_value=2**40)
PORT = st.integers(min_value=0, max_value=65535)
MAYBE = st.none() | COUNT

RESOURCES = st.builds(
    Resources,
    nano_cpus=COUNT,
    memory_bytes=COUNT,
    generic=st.lists(st.builds(GenericResource, kind=TEXT, count=COUNT), max_size=2)
    | st.builds(
        lambda kind, names: [GenericResource(kind=kind, names=names)],
        TEXT,
        st.lists(TEXT, min_size=1, max_size=2),
    ),
)
MOUNT = st.builds(
    pb.Mount,
    type=st.sampled_from(pb.MountType.values()),
    source=TEXT,
    target=TEXT,
    read_only=st.booleans(),
    bind_propagation=st.just("") | TEXT,
    volume_labels=MAP,
    volume_driver=st.just("") | TEXT,
    volume_options=MAP,
    volume_no_copy=st.booleans(),
    tmpfs_size_bytes=COUNT,
    tmpfs_mode=PORT,
)
CONTAINER = st.builds(
    pb.ContainerSpec,
    image=TEXT,
    labels=MAP,
    command=TEXTS,
    args=TEXTS,
    hostname=TEXT,
    env=TEXTS,
    dir=TEXT,
    user=TEXT,
    groups=TEXTS,
    tty=st.booleans(),
    open_stdin=st.booleans(),
    init=st.none() | st.booleans(),
    read_only=st.booleans(),
    stop_signal=TEXT,
    stop_grace_period_ns=MAYBE,
    health_check=st.none()
    | st.builds(
        pb.HealthCheck,
        test=TEXTS,
        interval_ns=COUNT,
        timeout_ns=COUNT,
        retries=PORT,
        start_period_ns=COUNT,
        start_interval_ns=COUNT,
    ),
    mounts=st.lists(MOUNT, max_size=2),
    hosts=TEXTS,
    dns=st.none() | st.builds(pb.DnsConfig, nameservers=TEXTS, search=TEXTS, options=TEXTS),
    capability_add=TEXTS,
    capability_drop=TEXTS,
    sysctls=MAP,
    ulimits=st.lists(
        st.builds(pb.Ulimit, name=TEXT, soft=st.integers(-1, 9), hard=st.integers(-1, 9)),
        max_size=2,
    ),
    oom_score_adj=st.none() | st.integers(-1000, 1000),
)
TASK = st.builds(
    pb.TaskSpec,
    container=CONTAINER,
    resources=st.none()
    | st.builds(
        pb.ResourceRequirements,
        limits=RESOURCES,
        reservations=RESOURCES,
        pids_limit=COUNT,
        swap_bytes=st.none() | st.sampled_from([-1, 0, 1 << 20]),
        memory_swappiness=st.none() | st.integers(0, 100),
    ),
    restart=st.none()
    | st.builds(
        pb.RestartPolicy,
        condition=st.sampled_from(pb.RestartCondition.values()),
        delay_ns=MAYBE,
        max_attempts=COUNT,
        window_ns=COUNT,
    ),
    placement=st.none()
    | st.builds(
        pb.Placement,
        constraints=TEXTS,
        preferences=st.lists(st.builds(pb.PlacementPreference, spread_descriptor=TEXT), max_size=2),
        max_replicas_per_node=COUNT,
        platforms=st.lists(st.builds(Platform, architecture=TEXT, os=TEXT), max_size=1),
    ),
    log_driver=st.none() | st.builds(pb.LogDriver, name=TEXT, options=MAP),
    force_update=COUNT,
)
UPDATE = st.none() | st.builds(
    pb.UpdateConfig,
    parallelism=COUNT,
    delay_ns=COUNT,
    failure_action=st.sampled_from(pb.UpdateFailureAction.values()),
    monitor_ns=MAYBE,
    max_failure_ratio=st.floats(min_value=0, max_value=1, width=32),
    order=st.sampled_from(pb.UpdateOrder.values()),
)
ENDPOINT = st.none() | st.builds(
    pb.EndpointSpec,
    mode=st.sampled_from(pb.EndpointMode.values()),
    ports=st.lists(
        st.builds(
            PortConfig,
            name=TEXT,
            protocol=st.integers(0, 2),
            target_port=PORT,
            published_port=PORT,
            publish_mode=st.integers(0, 1),
        ),
        max_size=2,
    ),
)
MODE = st.sampled_from(
    [
        {"replicated": pb.ReplicatedService(replicas=0)},
        {"replicated": pb.ReplicatedService(replicas=7)},
        {"global": pb.GlobalService()},
        {"replicated_job": pb.ReplicatedJob(max_concurrent=2, total_completions=5)},
        {"global_job": pb.GlobalJob()},
    ]
)
SPEC = st.builds(
    lambda name, labels, task, mode, update, rollback, endpoint: pb.ServiceSpec(
        annotations=Annotations(name=name, labels=labels),
        task=task,
        update=update,
        rollback=rollback,
        endpoint=endpoint,
        **mode,
    ),
    TEXT,
    MAP,
    TASK,
    MODE,
    UPDATE,
    UPDATE,
    ENDPOINT,
)


@given(SPEC)
def test_every_spec_survives_json(spec: pb.ServiceSpec) -> None:
    source = json.loads(json.dumps(service_spec_to_json(spec)))
    assert service_spec_from_json(source) == spec
