"""From task, spec and node to what a runtime is told."""

from __future__ import annotations

import pytest

from swarm.api.v1.service_pb2 import (
    MOUNT_TYPE_VOLUME,
    DnsConfig,
    EndpointSpec,
    HealthCheck,
    LogDriver,
    Mount,
    ServiceSpec,
    Ulimit,
)
from swarm.api.v1.task_pb2 import Task
from swarm.api.v1.types_pb2 import PROTOCOL_UDP, PUBLISH_MODE_HOST, GenericResource, PortConfig
from swarm.worker.core.run import NodeFacts, published_ports, stop_grace_s, task_name, task_run
from swarm.worker.runtime import port
from swarm.worker.runtime.port import Port, RuntimeRefused

NODE = NodeFacts("node1", "host1", "x86_64", "linux")


def a_task(**fields) -> Task:
    return Task(
        **{"id": "t1", "service_id": "s1", "service_name": "web", "slot": 2, "node_id": "node1"}
        | fields
    )


def test_a_task_is_told_its_generic_resources():
    task = a_task(
        assigned_generic=[
            GenericResource(kind="gpu", names=["x", "y"]),
            GenericResource(kind="ssd", count=2),
        ]
    )
    run = task_run(task, ServiceSpec(), NODE)
    assert run.env == ("DOCKER_RESOURCE_GPU=x,y", "DOCKER_RESOURCE_SSD=2")


def test_a_task_is_named_as_docker_names_it():
    assert task_name(a_task()) == "web.2.t1"
    assert task_name(a_task(slot=0)) == "web.node1.t1"


def test_all_of_a_container_spec_reaches_the_runtime():
    spec = ServiceSpec()
    container = spec.task.container
    container.image = "redis:7"
    container.command.append("sh")
    container.args.extend(["-c", "true"])
    container.env.append("A=1")
    container.dir = "/srv"
    container.user = "app"
    container.groups.append("audio")
    container.hostname = "{{.Node.Hostname}}-{{.Task.Slot}}"
    container.stop_signal = "SIGINT"
    container.stop_grace_period_ns = 3_000_000_000
    container.health_check.CopyFrom(HealthCheck(test=["CMD", "true"], retries=2))
    container.mounts.append(
        Mount(type=MOUNT_TYPE_VOLUME, source="data-{{.Task.Slot}}", target="/data")
    )
    container.hosts.append("10.0.0.9 db database")
    container.dns.CopyFrom(DnsConfig(nameservers=["1.1.1.1"], search=["lan"]))
    container.ulimits.append(Ulimit(name="nofile", soft=1, hard=2))
    container.labels["tier"] = "front"
    spec.task.resources.limits.memory_bytes = 1 << 20
    spec.task.resources.pids_limit = 50
    spec.task.log_driver.CopyFrom(LogDriver(name="journald"))
    run = task_run(a_task(), spec, NODE)
    assert (run.image, run.command, run.args, run.env) == (
        "redis:7",
        ("sh",),
        ("-c", "true"),
        ("A=1",),
    )
    assert (run.working_dir, run.user, run.groups) == ("/srv", "app", ("audio",))
    assert run.hostname == "host1-2"
    assert (run.stop_signal, run.stop_grace_period_ns) == ("SIGINT", 3_000_000_000)
    assert run.healthcheck == port.Healthcheck(test=("CMD", "true"), retries=2)
    assert run.mounts[0].source == "data-2"
    assert run.hosts == ("db:10.0.0.9", "database:10.0.0.9")
    assert (run.dns, run.dns_search) == (("1.1.1.1",), ("lan",))
    assert run.ulimits == (port.Ulimit("nofile", 1, 2),)
    assert (run.limits.memory_bytes, run.limits.pids) == (1 << 20, 50)
    assert run.log_driver == "journald"
    assert run.labels == {
        "tier": "front",
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": "t1",
        "com.docker.swarm.task.name": "web.2.t1",
        "com.docker.swarm.node.id": "node1",
        "com.docker.swarm.service.id": "s1",
        "com.docker.swarm.service.name": "web",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{.Service.ID}}/{{ .Service.Name }}", "s1/web"),
        (
            "{{.Node.ID}} {{.Node.Platform.Architecture}} {{.Node.Platform.OS}}",
            "node1 x86_64 linux",
        ),
        ("{{.Task.ID}} {{.Task.Name}}", "t1 web.2.t1"),
        ('{{index .Service.Labels "com.x.tier"}}', "gold"),
        ("{{.Service.Labels.tier}}", "silver"),
        ('[{{index .Service.Labels "none"}}]', "[]"),
        ("no {placeholder} here", "no {placeholder} here"),
    ],
)
def test_placeholders(text, value):
    spec = ServiceSpec()
    spec.annotations.labels["com.x.tier"] = "gold"
    spec.annotations.labels["tier"] = "silver"
    spec.task.container.env.append(f"V={text}")
    assert task_run(a_task(), spec, NODE).env == (f"V={value}",)


@pytest.mark.parametrize("text", ["{{.Node}}", "{{.Task.Colour}}", "{{env}}", "{{}}"])
def test_unknown_placeholders_are_refused_by_name(text):
    spec = ServiceSpec()
    spec.task.container.hostname = text
    with pytest.raises(RuntimeRefused, match="placeholder"):
        task_run(a_task(), spec, NODE)


def test_the_demo_image_is_told_where_it_runs():
    spec = ServiceSpec()
    spec.task.container.image = "swarm/demo:latest"
    assert task_run(a_task(), spec, NODE).env == (
        "SWARM_SERVICE=web",
        "SWARM_SLOT=2",
        "SWARM_NODE=host1",
        "SWARM_TASK_ID=t1",
    )


def test_the_grace_period_is_ten_seconds_unless_set_even_to_nothing():
    spec = ServiceSpec()
    assert stop_grace_s(spec) == 10
    spec.task.container.stop_grace_period_ns = 0
    assert stop_grace_s(spec) == 0


def test_ports_are_listened_on_once_per_way_of_publishing():
    spec = ServiceSpec(
        endpoint=EndpointSpec(
            ports=[
                PortConfig(target_port=80, published_port=8080),
                PortConfig(target_port=80, published_port=8081),
                PortConfig(target_port=80, published_port=90, publish_mode=PUBLISH_MODE_HOST),
                PortConfig(target_port=53, protocol=PROTOCOL_UDP),
            ]
        )
    )
    assert published_ports(spec) == [
        (Port(80), None),
        (Port(80), 90),
        (Port(53, "udp"), None),
    ]
    assert task_run(a_task(), spec, NODE).ports == (Port(80), Port(53, "udp"))
