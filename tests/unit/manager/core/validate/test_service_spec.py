"""Every rule about a service's spec: what breaks it, and what the user is told."""

from collections.abc import Callable

import pytest
from google.protobuf.text_format import Parse

from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.manager.core.validate import InvalidRequest
from swarm.manager.core.validate.service_spec import check, with_defaults

GOOD = 'annotations { name: "web" } task { container { image: "nginx" } }'


def spec(text: str = "") -> ServiceSpec:
    merged = Parse(GOOD, ServiceSpec())
    merged.MergeFrom(Parse(text, ServiceSpec()))
    return with_defaults(merged)


def container(text: str) -> str:
    return f"task {{ container {{ {text} }} }}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "replicated { replicas: 0 }",
        "global {} update { parallelism: 0 max_failure_ratio: 1 order: UPDATE_ORDER_START_FIRST }",
        container('env: ["A=b", "EMPTY=", "PASSED"] hosts: "10.0.0.1 db database"'),
        container('hostname: "{{.Node.Hostname}}-x" user: "1000:1000" dir: "/srv"'),
        container('mounts { source: "/data" target: "/data" } stop_signal: "SIGRTMIN+3"'),
        container('mounts { type: MOUNT_TYPE_VOLUME source: "v" target: "/v/" read_only: true }'),
        container('mounts { type: MOUNT_TYPE_TMPFS target: "/t" tmpfs_size_bytes: 1 }'),
        container('health_check { test: ["CMD", "true"] interval_ns: 1000000 }'),
        container('health_check { test: "NONE" } ulimits { name: "nofile" soft: 1 hard: 2 }'),
        container('ulimits { name: "core" soft: -1 hard: -1 } oom_score_adj: -1000'),
        "task { resources { limits { memory_bytes: 4194304 nano_cpus: 1000000 } } }",
        'task { placement { constraints: "node.role==worker" max_replicas_per_node: 1 } }',
        'task { placement { preferences { spread_descriptor: "node.labels.zone" } } }',
        "endpoint { ports { target_port: 80 } ports { target_port: 80 published_port: 81 } }",
        "endpoint { mode: ENDPOINT_MODE_DNSRR ports { target_port: 1 publish_mode: 1 } }",
    ],
)
def test_good(text: str) -> None:
    check(spec(text))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('annotations { labels { key: "" value: "x" } }', "a label has no key"),
        ("global_job {} update { parallelism: 1 }", "update and rollback options can't be used"),
        ("replicated { replicas: 1000001 }", "are too many"),
        (container('image: "Bad"'), "must be lowercase"),
        (container('env: "=x"'), "write NAME=VALUE"),
        (container('mounts { target: "" }'), "a mount needs a target"),
        (container('mounts { source: "/a" target: "a" }'), "absolute path in the container"),
        (container('mounts { source: "/a" target: "//" }'), "folder below"),
        (container('mounts { source: "a" target: "/a" }'), "absolute path on the node"),
        (
            container('mounts { source: "/a" target: "/x" } mounts { source: "/b" target: "/x/" }'),
            "duplicate mount point: /x/",
        ),
        (
            container('mounts { type: MOUNT_TYPE_TMPFS source: "a" target: "/a" }'),
            "has no source",
        ),
        (
            container('mounts { source: "/a" target: "/a" bind_propagation: "x" }'),
            "bind propagation 'x' is invalid",
        ),
        (container('hostname: "a b"'), "invalid hostname 'a b'"),
        (container('user: "a b"'), "invalid user 'a b'"),
        (container('groups: ""'), "an empty group"),
        (container('dir: "srv"'), "needs to be an absolute path"),
        (container('stop_signal: "-9"'), "invalid stop signal '-9'"),
        (container("stop_grace_period_ns: -1"), "stop-grace-period cannot be negative"),
        (container('health_check { test: "RUN" }'), "unknown type of health check 'RUN'"),
        (container('health_check { test: "CMD" }'), "health check CMD needs a command"),
        (container("health_check { timeout_ns: 5 }"), "health-timeout cannot be less than 1ms"),
        (container('hosts: "db 10.0.0.1"'), "write IP NAME"),
        (container('hosts: ""'), "write IP NAME"),
        (container('dns { nameservers: "x" }'), "must be an IP address"),
        (container('capability_add: "a b"'), "invalid capability 'a b'"),
        (container('ulimits { name: "x" soft: 3 hard: 2 }'), "soft limit must be less"),
        (container('ulimits { name: "x" soft: -1 hard: 2 }'), "soft limit must be less"),
        (container("oom_score_adj: 1001"), "out of range"),
        ("task { resources { limits { nano_cpus: 999999 } } }", "must be at least 0.001"),
        ("task { resources { reservations { memory_bytes: 1 } } }", "must be at least 4MiB"),
        ("task { resources { limits { memory_bytes: -1 } } }", "must be at least 4MiB"),
        ("task { resources { pids_limit: -2 } }", "limit-pids cannot be negative"),
        ("task { resources { swap_bytes: 1 } }", "memory-swap needs a memory limit"),
        ("task { resources { swap_bytes: -2 } }", "memory-swap cannot be negative"),
        ("task { resources { memory_swappiness: 101 } }", "between 0 and 100"),
        (
            'task { resources { reservations { generic { kind: "gpu" names: "x" } } } }',
            "reserves generic resources as KIND=COUNT",
        ),
        ("task { restart { delay_ns: -1 } }", "restart-delay cannot be negative"),
        ("task { restart { window_ns: -1 } }", "restart-window cannot be negative"),
        ('task { placement { constraints: "x" } }', "expected KEY==VALUE"),
        ('task { placement { preferences { spread_descriptor: "x" } } }', "spread over"),
        (
            "global {} task { placement { max_replicas_per_node: 1 } }",
            "only be used with replicated or replicated-job mode",
        ),
        (
            (
                "endpoint { ports { target_port: 1 published_port: 80 }"
                " ports { target_port: 1 published_port: 80 publish_mode: PUBLISH_MODE_HOST } }"
            ),
            "duplicate published ports provided: 80/tcp",
        ),
        (
            "endpoint { ports { target_port: 53 protocol: PROTOCOL_UDP } }",
            "publishing a udp port (53) is not supported yet",
        ),
        ('task { log_driver { options { key: "a" value: "b" } } }', "without a log driver"),
        ("update { delay_ns: -1 }", "update-delay cannot be negative"),
        ("rollback { monitor_ns: -1 }", "rollback-monitor cannot be negative"),
        ("update { max_failure_ratio: 1.5 }", "less than 0 or bigger than 1"),
        ("update { max_failure_ratio: nan }", "less than 0 or bigger than 1"),
        (
            "rollback { failure_action: UPDATE_FAILURE_ACTION_ROLLBACK }",
            "is pause or continue",
        ),
        ("endpoint { ports { target_port: 0 } }", "invalid target port 0"),
        ("endpoint { ports { target_port: 65536 } }", "invalid target port 65536"),
        (
            "endpoint { ports { target_port: 1 published_port: 65536 } }",
            "invalid published port 65536",
        ),
        (
            "endpoint{ports:[{target_port:1 published_port:80},{target_port:2 published_port:80}]}",
            "duplicate published ports provided: 80/tcp",
        ),
        (
            "endpoint { mode: ENDPOINT_MODE_DNSRR ports { target_port: 1 } }",
            "can't be used with dnsrr mode",
        ),
    ],
)
def test_bad(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(spec(text))
    assert why in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a", True),
        ("a_b.c-9", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("", False),
        ("-a", False),
        ("a-", False),
        ("a b", False),
        ("a\n", False),
    ],
)
def test_names(name: str, good: bool) -> None:
    named = spec()
    named.annotations.name = name
    call: Callable[[], None] = lambda: check(named)  # noqa: E731
    if good:
        call()
    else:
        with pytest.raises(InvalidRequest, match="name") as refused:
            call()
        assert "\n" not in refused.value.message


def test_an_image_must_be_given() -> None:
    without = spec()
    without.task.container.image = ""
    with pytest.raises(InvalidRequest, match="image reference must be provided"):
        check(without)


def test_a_secret_in_the_environment_is_not_repeated_in_the_error() -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(spec(container('env: "=hunter2"')))
    assert "hunter2" not in refused.value.message
