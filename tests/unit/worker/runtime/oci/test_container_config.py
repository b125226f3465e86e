"""A task and its image as an OCI runtime configuration; users; references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarm.worker.images import reference as references
from swarm.worker.runtime.oci.bundle import resolv_conf
from swarm.worker.runtime.oci.container import (
    BindMount,
    Place,
    command_line,
    environment,
    runtime_config,
)
from swarm.worker.runtime.oci.user import ContainerUser, resolve
from swarm.worker.runtime.port import Limits, Mount, RuntimeRefused, TaskRun, Ulimit

ROOT = ContainerUser(0, 0, (), "/root")
NOBODY = ContainerUser(65534, 65534, (5,), "/")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\nbroken line\n"
GROUP = "root:x:0:\nadm:x:4:web\nwww:x:34:web\nlog:x:9:root,web\n"


def run(**fields: Any) -> TaskRun:
    return TaskRun("task1234567890", "web.1.task1234567890", "nginx", **fields)


def config(task: TaskRun, user: ContainerUser = ROOT, **image: Any) -> dict[str, Any]:
    place = Place("/r", "/swarm-x", "/run/netns/x", "host", [BindMount("/src", "/a/b")])
    return runtime_config(task, {"Cmd": ["serve"], **image}, user, place)


@pytest.mark.parametrize(
    ("command", "args", "entrypoint", "cmd", "argv"),
    [
        ((), (), None, ["c"], ["c"]),
        ((), (), ["e"], ["c"], ["e", "c"]),
        ((), ("a",), ["e"], ["c"], ["e", "a"]),
        ((), ("a",), None, ["c"], ["a"]),
        (("x",), (), ["e"], ["c"], ["x"]),
        (("x",), ("a",), ["e"], ["c"], ["x", "a"]),
    ],
)
def test_entrypoint_and_cmd_by_dockers_rules(
    command: tuple[str, ...],
    args: tuple[str, ...],
    entrypoint: list[str] | None,
    cmd: list[str],
    argv: list[str],
):
    task = run(command=command, args=args)
    assert command_line(task, {"Entrypoint": entrypoint, "Cmd": cmd}) == argv


def test_nothing_to_run_is_refused():
    for init in (False, True):
        with pytest.raises(RuntimeRefused) as refused:
            command_line(run(init=init), {})
        assert refused.value.field == "command"


def test_environment_is_layered_and_a_bare_name_takes_away():
    env = environment(
        run(env=("B=task", "C", "D=a=b")), {"Env": ["A=image", "B=image", "C=image"]}, "h", "/root"
    )
    assert env[1:] == ["HOSTNAME=h", "A=image", "B=task", "D=a=b", "HOME=/root"]
    assert env[0].startswith("PATH=")


def test_capabilities_of_root_and_of_others():
    held = config(run())["process"]["capabilities"]
    assert len(held["bounding"]) == 14
    assert held["effective"] == held["permitted"] == held["bounding"]
    assert "inheritable" not in held
    other = config(run(), NOBODY)["process"]["capabilities"]
    assert (len(other["bounding"]), other["effective"], other["permitted"]) == (14, [], [])


def test_capabilities_added_and_dropped():
    only = config(run(cap_drop=("ALL",), cap_add=("cap_net_admin",)))["process"]["capabilities"]
    assert only["bounding"] == ["CAP_NET_ADMIN"]
    most = config(run(cap_add=("ALL",), cap_drop=("SYS_TIME",)))["process"]["capabilities"]
    assert "CAP_SYS_ADMIN" in most["bounding"]
    assert "CAP_SYS_TIME" not in most["bounding"]
    with pytest.raises(RuntimeRefused) as refused:
        config(run(cap_add=("NOPE",)))
    assert refused.value.field == "cap_add"


def test_mounting_is_denied_unless_sys_admin_is_given():
    def denied(task: TaskRun) -> set[str]:
        rules = config(task)["linux"]["seccomp"]["syscalls"]
        return {name for rule in rules for name in rule["names"]}

    assert {"mount", "keyctl", "clone3"} <= denied(run())
    assert "mount" not in denied(run(cap_add=("SYS_ADMIN",)))
    assert "keyctl" in denied(run(cap_add=("SYS_ADMIN",)))


def test_limits():
    made = config(
        run(
            limits=Limits(nano_cpus=1_500_000_000, memory_bytes=7, pids=9),
            ulimits=(Ulimit("nofile", 5, -1),),
        )
    )
    resources = made["linux"]["resources"]
    assert resources["cpu"] == {"quota": 150_000, "period": 100_000}
    assert resources["memory"] == {"limit": 7}
    assert resources["pids"] == {"limit": 9}
    assert made["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 2**64 - 1}]
    assert set(config(run())["linux"]["resources"]) == {"devices"}
    swapping = config(run(limits=Limits(memory_bytes=7, swap_bytes=-1, swappiness=3)))
    memory = swapping["linux"]["resources"]["memory"]
    assert memory == {"limit": 7, "swap": -1, "swappiness": 3}


def test_mounts_come_parents_first():
    task = run(mounts=(Mount("tmpfs", "/a/b/c", tmpfs_size_bytes=5), Mount("tmpfs", "/a")))
    mounts = config(task)["mounts"][7:]
    assert [mount["destination"] for mount in mounts] == ["/a", "/a/b", "/a/b/c"]
    assert "size=5" in mounts[2]["options"]
    assert config(run(read_only=True))["root"] == {"path": "/r", "readonly": True}


def test_namespaces_and_protected_paths():
    linux = config(run())["linux"]
    assert {"type": "network", "path": "/run/netns/x"} in linux["namespaces"]
    assert {entry["type"] for entry in linux["namespaces"]} == {
        "pid", "ipc", "uts", "mount", "network",
    }  # fmt: skip
    assert "/proc/kcore" in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", ContainerUser(0, 0, (9,), "/root")),
        ("web", ContainerUser(33, 34, (4, 9), "/srv")),
        ("33", ContainerUser(33, 34, (4, 9), "/srv")),
        ("web:adm", ContainerUser(33, 4, (), "/srv")),
        ("1234", ContainerUser(1234, 0, (), "/")),
        ("1234:5678", ContainerUser(1234, 5678, (), "/")),
    ],
)
def test_users(text: str, user: ContainerUser):
    assert resolve(text, (), PASSWD, GROUP) == user


def test_groups_are_added_once():
    assert resolve("web", ("log", "77", "www"), PASSWD, GROUP).groups == (4, 9, 77)


@pytest.mark.parametrize(("text", "groups"), [("nobody", ()), ("web:none", ()), ("", ("none",))])
def test_unknown_users_and_groups_are_refused(text: str, groups: tuple[str, ...]):
    with pytest.raises(RuntimeRefused, match="not in the image"):
        resolve(text, groups, PASSWD, GROUP)


@pytest.mark.parametrize(
    ("text", "name", "tag"),
    [
        ("nginx", "docker.io/library/nginx", "latest"),
        ("docker.io/library/nginx:1", "docker.io/library/nginx", "1"),
        ("swarm/demo", "docker.io/swarm/demo", "latest"),
        ("localhost/x:2", "localhost/x", "2"),
        ("host:5000/x", "host:5000/x", "latest"),
        ("host:5000/x:3", "host:5000/x", "3"),
    ],
)
def test_references(text: str, name: str, tag: str):
    assert references.parse(text) == (name, tag, "")


def test_a_reference_with_a_digest_needs_no_tag():
    assert references.parse("nginx@sha256:ab") == ("docker.io/library/nginx", "", "sha256:ab")
    assert references.familiar(references.parse("docker.io/library/nginx:1")) == "nginx:1"
    for wrong in ("", "Upper", "a b", "x@md5:1"):
        with pytest.raises(ValueError):
            references.parse(wrong)


def test_resolv_conf_leaves_out_what_only_the_host_reaches(tmp_path: Path):
    host = tmp_path / "resolv.conf"
    host.write_text("# note\nnameserver 127.0.0.53\nnameserver 9.9.9.9\nsearch a.example\n")
    assert resolv_conf(run(), host) == "nameserver 9.9.9.9\nsearch a.example\n"
    own = run(dns=("1.1.1.1",), dns_search=("b.example",), dns_options=("ndots:2",))
    assert resolv_conf(own, host) == "nameserver 1.1.1.1\nsearch b.example\noptions ndots:2\n"
