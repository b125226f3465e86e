"""Flags to specs: values, `service create`, and the arithmetic of `service update`."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from swarm.api.v1 import service_pb2 as pb
from swarm.cli.mountflag import parse_mount
from swarm.cli.portflag import parse_publish
from swarm.cli.portlist import display_ports
from swarm.cli.service_create import create
from swarm.cli.service_update import update
from swarm.cli.servicespec import SpecError, create_spec
from swarm.cli.specupdate import update_spec
from swarm.cli.specvalues import (
    effective_capabilities,
    merge_env,
    parse_env_file,
    parse_host,
    parse_spread,
    parse_ulimit,
    updated_capabilities,
)
from swarm.dockerapi.service import ports_to_json, service_spec_to_json


def flags_of(command: click.Command, *words: str) -> dict[str, Any]:
    """What the command's function would be given."""
    context = command.make_context(command.name or "", list(words))
    return context.params


def created(*words: str) -> dict[str, Any]:
    flags = flags_of(create, *words, "demo:1", "a", "b")
    return service_spec_to_json(create_spec(flags, flags.pop("image"), flags.pop("command")))


def updated(spec: pb.ServiceSpec, *words: str) -> pb.ServiceSpec:
    return update_spec(spec, flags_of(update, *words, "web"))


def changed(words: str, *more: str) -> pb.ServiceSpec:
    """A spec made by `words`, then updated by `more`."""
    flags = flags_of(create, *words.split(), "demo:1")
    return updated(create_spec(flags, "demo:1", ()), *more)


def ports(text: str) -> list[tuple[int, int]]:
    return [(port.published_port, port.target_port) for port in parse_publish(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [(0, 80)]),
        ("8080:80", [(8080, 80)]),
        ("0:80", [(0, 80)]),
        ("8081-8083:81-83", [(8081, 81), (8082, 82), (8083, 83)]),
        ("8000-8002:80", [(8000, 80), (8001, 80), (8002, 80)]),
        ("80-81", [(0, 80), (0, 81)]),
        ("target=80", [(0, 80)]),
        ("published=8080,target=80", [(8080, 80)]),
    ],
)
def test_publish(text: str, expected: list[tuple[int, int]]) -> None:
    assert ports(text) == expected


def test_publish_in_the_long_form() -> None:
    (port,) = parse_publish("published=9000,target=90,mode=host,protocol=udp")
    assert ports_to_json([port]) == [
        {"Protocol": "udp", "TargetPort": 90, "PublishedPort": 9000, "PublishMode": "host"}
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "invalid containerPort: abc"),
        ("99999:80", "invalid hostPort: 99999"),
        ("80:80:80", "invalid IP address: 80"),
        ("127.0.0.1:80:80", "hostip is not supported"),
        ("80:80/foo", "invalid proto: foo"),
        (
            "8000-8002:80-81",
            "invalid ranges specified for container and host Ports: 80-81 and 8000-8002",
        ),
        ("published=80", "missing mandatory field 'target'"),
        ("published=80,targt=80", "invalid field key: targt"),
        (
            "target=80,mode=foo",
            "invalid publish mode value (foo): must be either 'ingress' or 'host'",
        ),
        ("target=80,protocol=foo", "invalid protocol value 'foo'"),
        ("target=x", "invalid target port (x): value must be an integer: invalid syntax"),
        ("", "no port specified: <empty>"),
    ],
)
def test_publish_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_publish(text)
    assert str(error.value) == message


def test_mounts() -> None:
    mount = parse_mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave")
    assert mount == pb.Mount(
        type=pb.MOUNT_TYPE_BIND,
        source="/a",
        target="/b",
        read_only=True,
        bind_propagation="rslave",
    )
    mount = parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700")
    assert (mount.tmpfs_size_bytes, mount.tmpfs_mode) == (1 << 20, 0o700)
    mount = parse_mount('src=v,dst=/v,"volume-label=l=1,2",volume-opt=o=1,volume-nocopy=false')
    assert dict(mount.volume_labels) == {"l": "1,2"}
    assert dict(mount.volume_options) == {"o": "1"}
    assert mount.type == pb.MOUNT_TYPE_VOLUME


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("foo=bar,target=/x", "unexpected key 'foo' in 'foo=bar'"),
        ("source=x", "target is required"),
        ("type=foo,target=/x", 'invalid mount type: "foo": use bind, volume, tmpfs'),
        ("type=npipe,target=/x", "mount type npipe is not supported yet"),
        ("type=bind,target=/x,ro=x", "invalid value for ro: x"),
        ("type=tmpfs,target=/x,tmpfs-mode=999", "invalid value for tmpfs-mode: 999"),
        (
            "type=bind,source=/a,target=/x,volume-nocopy",
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
        ("target=/x,volume-subpath=a", "volume-subpath is not supported yet"),
    ],
)
def test_mounts_that_are_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_mount(text)
    assert str(error.value) == message


def test_small_values() -> None:
    assert parse_host("x:1.2.3.4") == "1.2.3.4 x"
    assert parse_host("x:::1") == "::1 x"
    assert parse_spread("spread=node.labels.z") == "node.labels.z"
    assert parse_ulimit("nofile=10:20") == pb.Ulimit(name="nofile", soft=10, hard=20)
    assert parse_ulimit("core=-1") == pb.Ulimit(name="core", soft=-1, hard=-1)
    assert merge_env(["A=1", "B=2", "A=3"]) == ["B=2", "A=3"]
    assert parse_env_file("A=1\n #c\nB\nC\n", {"B": "2"}) == ["A=1", "B=2"]


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_host, "foo", 'bad format for add-host: "foo"'),
        (parse_host, "foo:bar", 'invalid IP address in add-host: "bar"'),
        (
            parse_ulimit,
            "nofile=2:1",
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (parse_ulimit, "files=2", "invalid ulimit type: files"),
        (parse_spread, "a=b", "unsupported placement preference a (only spread is supported)"),
    ],
)
def test_small_values_that_are_wrong(parse: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert str(error.value) == message


def test_capabilities() -> None:
    assert effective_capabilities(["A", "B"], ["B", "C"]) == (["A", "B"], ["C"])
    assert effective_capabilities(["A", "ALL"], []) == (["ALL"], [])
    assert updated_capabilities(["A"], ["B"], ["B"], ["A"]) == ([], [])
    assert updated_capabilities(["A"], [], ["C"], ["D"]) == (["A", "C"], ["D"])
    assert updated_capabilities(["A"], ["B"], ["RESET"], ["RESET"]) == ([], [])


def test_nothing_but_an_image() -> None:
    assert created() == {
        "Name": "",
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "demo:1",
                "Args": ["a", "b"],
                "DNSConfig": {},
                "Isolation": "default",
            },
            "Resources": {"Limits": {}, "Reservations": {}},
            "Placement": {},
            "ForceUpdate": 0,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "vip"},
    }


def test_every_flag_reaches_the_spec_that_docker_makes() -> None:
    """The flags are those with which engine/service_full.json was made."""
    words = """
        --name full --replicas 2 --label a=b --container-label c=d --env X=1 --env Y --hostname h
        --user 1:2 --group 5 -w /tmp --tty --init --read-only --publish 8080:80
        --publish published=9000,target=90,mode=host,protocol=udp
        --mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700
        --mount src=v,dst=/v,ro,volume-label=l=1,volume-driver=local,volume-opt=o=1,volume-nocopy
        --mount type=bind,src=/tmp,dst=/b,bind-propagation=rslave
        --constraint node.role==manager --placement-pref spread=node.labels.z
        --replicas-max-per-node 3 --generic-resource GPU=1
        --reserve-cpu .1 --reserve-memory 10m --limit-cpu .5
        --limit-memory 20m --limit-pids 50 --restart-condition on-failure --restart-delay 3s
        --restart-max-attempts 2 --restart-window 10s --update-delay 1s --update-parallelism 2
        --rollback-monitor 3s --health-cmd true --health-interval 2s --health-retries 4
        --health-timeout 1s --health-start-period 1s --stop-signal SIGINT --stop-grace-period 4s
        --host x:1.2.3.4 --dns 8.8.8.8 --dns-search ex.com --dns-option a:1 --cap-add NET_ADMIN
        --cap-drop ALL --sysctl net.x=1 --ulimit nofile=10:20 --log-driver json-file
        --log-opt max-size=1m --endpoint-mode vip
    """
    captured = Path(__file__).parents[1] / "dockerapi" / "engine" / "service_full.json"
    expected = json.loads(captured.read_text())["Spec"]
    assert created(*words.split(), "--entrypoint", "sh -c") == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--restart-condition", "foo"),
            'invalid restart condition: "foo": use any, on-failure, none',
        ),
        (("--update-order", "foo"), 'invalid update order: "foo": use stop-first, start-first'),
        (("--log-opt", "a=b"), "--log-opt goes with --log-driver: name the driver too"),
    ],
)
def test_words_that_are_none(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpecError) as error:
        created(*words)
    assert str(error.value) == message


def test_swap_and_swappiness() -> None:
    spec = changed("--limit-memory 1g --memory-swap 512m --memory-swappiness 0")
    resources = spec.task.resources
    assert (resources.swap_bytes, resources.memory_swappiness) == (512 << 20, 0)
    spec = changed("--limit-memory 1g --memory-swappiness 7", "--memory-swappiness", "-1")
    assert not spec.task.resources.HasField("memory_swappiness")
    assert not spec.task.resources.HasField("swap_bytes")
    assert changed("--memory-swap -1").task.resources.swap_bytes == -1


def test_generic_resources_are_changed_by_their_kind() -> None:
    spec = changed(
        "--generic-resource gpu=1 --generic-resource ssd=2",
        *("--generic-resource-add", "gpu=3", "--generic-resource-rm", "ssd"),
    )
    found = [(g.kind, g.count) for g in spec.task.resources.reservations.generic]
    assert found == [("gpu", 3)]
    with pytest.raises(SpecError, match="reserves no generic resource 'fpga'"):
        changed("--generic-resource gpu=1", "--generic-resource-rm", "fpga")


def test_an_update_without_flags_changes_nothing() -> None:
    flags = flags_of(create, "--name", "web", "--env", "A=1", "-p", "80:80", "demo:1")
    spec = create_spec(flags, "demo:1", ())
    assert updated(spec) == spec


def test_update_of_variables_keeps_their_places() -> None:
    spec = changed("--env A=1 --env B=2 --env C=3", "--env-add", "B=4", "--env-rm", "A")
    assert list(spec.task.container.env) == ["B=4", "C=3"]


def test_update_of_labels() -> None:
    spec = changed(
        "--label a=1 --container-label c=1",
        *("--label-add", "b=2", "--label-rm", "a", "--container-label-rm", "c"),
    )
    assert dict(spec.annotations.labels) == {"b": "2"}
    assert not spec.task.container.labels


def test_update_of_ports() -> None:
    spec = changed("-p 8080:80 -p 9000:90", "--publish-rm", "80", "--publish-add", "8081:81")
    assert [(p.published_port, p.target_port) for p in spec.endpoint.ports] == [
        (8081, 81),
        (9000, 90),
    ]
    same = changed("-p 8080:80", "--publish-rm", "80", "--publish-add", "8080:80")
    assert [p.published_port for p in same.endpoint.ports] == [8080]


def test_update_of_mounts_replaces_by_target() -> None:
    spec = changed(
        "--mount src=a,dst=/a --mount src=b,dst=/b",
        *("--mount-add", "src=c,dst=/a", "--mount-rm", "/b"),
    )
    assert [(mount.source, mount.target) for mount in spec.task.container.mounts] == [("c", "/a")]
    with pytest.raises(SpecError, match="duplicate mount target"):
        changed("", "--mount-add", "src=a,dst=/a", "--mount-add", "src=b,dst=/a")


def test_update_of_lists_is_sorted_and_without_doubles() -> None:
    spec = changed(
        "--constraint node.role==worker --host x:1.2.3.4 --dns 8.8.8.8 --group 5",
        *("--constraint-add", "node.id==a", "--constraint-rm", "node.role==worker"),
        *("--host-rm", "x", "--host-add", "y:1.1.1.1"),
        *("--dns-add", "1.1.1.1", "--dns-add", "8.8.8.8", "--group-add", "3"),
    )
    container = spec.task.container
    assert list(spec.task.placement.constraints) == ["node.id==a"]
    assert list(container.hosts) == ["1.1.1.1 y"]
    assert list(container.dns.nameservers) == ["1.1.1.1", "8.8.8.8"]
    assert list(container.groups) == ["3", "5"]


def test_update_of_single_values() -> None:
    spec = changed(
        "--limit-cpu 1 --limit-memory 10m --update-delay 1s --placement-pref spread=node.labels.a",
        *("--image", "demo:2", "--args", "sh -c 'a b'", "--replicas", "4", "--force"),
        *("--limit-cpu", "2", "--update-parallelism", "0", "--user", "", "--init=false"),
        *("--placement-pref-rm", "spread=node.labels.a", "--health-cmd", "true"),
        *("--placement-pref-add", "spread=node.labels.b"),
    )
    task = spec.task
    assert task.container.image == "demo:2"
    assert list(task.container.args) == ["sh", "-c", "a b"]
    assert spec.replicated.replicas == 4
    assert task.force_update == 1
    assert task.resources.limits.nano_cpus == 2_000_000_000
    assert task.resources.limits.memory_bytes == 10 << 20
    assert (spec.update.parallelism, spec.update.delay_ns) == (0, 1_000_000_000)
    assert task.container.HasField("init")
    assert not task.container.init
    assert [p.spread_descriptor for p in task.placement.preferences] == ["node.labels.b"]
    assert list(task.container.health_check.test) == ["CMD-SHELL", "true"]


def test_a_health_check_takes_the_place_of_none() -> None:
    spec = changed("--no-healthcheck", "--health-interval", "3s")
    assert list(spec.task.container.health_check.test) == []
    assert spec.task.container.health_check.interval_ns == 3_000_000_000
    assert list(changed("", "--no-healthcheck").task.container.health_check.test) == ["NONE"]


def test_a_global_service_has_no_replicas() -> None:
    with pytest.raises(
        SpecError, match="replicas can only be used with replicated or replicated-job mode"
    ):
        changed("--mode global", "--replicas", "2")


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["8080:80"], "*:8080->80/tcp"),
        (["8081-8083:81-83", "30000:99"], "*:8081-8083->81-83/tcp, *:30000->99/tcp"),
        (["8000-8002:80"], "*:8000-8002->80/tcp"),
        (["80:80", "81:81", "82:80"], "*:80-81->80-81/tcp, *:82->80/tcp"),
        (["53:53/udp", "53:53"], "*:53->53/tcp, *:53->53/udp"),
        (["published=1,target=1,mode=host"], ""),
    ],
)
def test_ports_of_a_list(texts: list[str], shown: str) -> None:
    assert display_ports([port for text in texts for port in parse_publish(text)]) == shown
