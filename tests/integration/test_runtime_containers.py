"""What the agent relies on, of the docker and the oci runtime, with real containers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import shutil
import time
from pathlib import Path

import pytest

from swarm.api.v1.service_pb2 import (
    MOUNT_TYPE_BIND,
    MOUNT_TYPE_TMPFS,
    MOUNT_TYPE_VOLUME,
    ServiceSpec,
)
from swarm.api.v1.task_pb2 import Task
from swarm.worker.core.run import NodeFacts, task_run
from swarm.worker.runtime.demo import DEMO_REFERENCE
from swarm.worker.runtime.docker.runtime import DockerRuntime
from swarm.worker.runtime.oci.runtime import OciRuntime
from swarm.worker.runtime.port import (
    ContainerState,
    ExecOptions,
    Healthcheck,
    HealthStatus,
    Identity,
    Limits,
    Mount,
    Port,
    Runtime,
    RuntimeFailed,
    RuntimeRefused,
    TaskFile,
    TaskRun,
    task_labels,
)

numbers = itertools.count()


def sh(task_id: str, script: str, **fields: object) -> TaskRun:
    labels = task_labels(
        {"own": "yes"},
        node_id="n1",
        service_id="s1",
        service_name="web",
        task_id=task_id,
        task_name=f"web.1.{task_id}",
    )
    return TaskRun(
        task_id,
        f"web.1.{task_id}",
        DEMO_REFERENCE,
        args=("sh", "-c", script),
        labels=labels,
        **fields,  # type: ignore[arg-type]
    )


class Node:
    """Makes the runtime of a node: again and again the same, or another cluster's."""

    def __init__(self, kind: str, socket: Path | None, directory: Path) -> None:
        self.kind = kind
        self._socket = socket
        self._directory = directory
        self._cluster = f"c{os.getpid()}-{next(numbers)}"

    def runtime(self, cluster: str = "") -> DockerRuntime | OciRuntime:
        identity = Identity(cluster or self._cluster, "n1")
        directory = self._directory / (cluster or "own")
        if self.kind == "docker":
            return DockerRuntime(identity, str(self._socket), directory)
        return OciRuntime(identity, directory, nat=False)


@pytest.fixture(params=["docker", "oci"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    if request.param == "docker":
        return Node("docker", request.getfixturevalue("dockerd"), tmp_path)
    if os.geteuid() != 0 or shutil.which("runc") is None:
        pytest.skip("the oci runtime needs root and runc")
    return Node("oci", None, tmp_path)


@pytest.fixture
async def runtime(node: Node):
    runtime = node.runtime()
    yield runtime
    for found in await runtime.list():
        await runtime.remove(found.task_id)
    await runtime.close()


async def output(runtime: Runtime, task_id: str, **how: object) -> list[tuple[str, bytes]]:
    return [(line.stream, line.data) async for line in runtime.logs(task_id, **how)]  # type: ignore[arg-type]


async def first_line(runtime: Runtime, task_id: str) -> bytes:
    async with contextlib.aclosing(runtime.logs(task_id, follow=True)) as lines:
        async for line in lines:
            return line.data
    raise AssertionError("the task wrote nothing")


def laid_secrets(task_id: str) -> list[Path]:
    places = (Path("/run"), Path("/dev/shm"))
    return [path for place in places for path in place.glob(f"swarm-*/{task_id}")]


async def fetch(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    page = await reader.read()
    writer.close()
    await writer.wait_closed()
    return page


async def test_probe(runtime: Runtime):
    probe = await runtime.probe()
    assert probe.works, probe.reason
    assert probe.version
    assert await runtime.list() == []


async def test_probe_without_an_engine(tmp_path: Path):
    runtime = DockerRuntime(Identity("c", "n"), str(tmp_path / "nothing.sock"), tmp_path)
    probe = await runtime.probe()
    await runtime.close()
    assert not probe.works
    assert "nothing.sock" in probe.reason
    assert "\n" not in probe.reason


@pytest.mark.parametrize(
    ("command", "words", "exit_code"),
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH', 127),
        ("/nosuch/program", 'exec: "/nosuch/program": stat /nosuch/program: no such file', 127),
        ("/etc", 'exec: "/etc": ', 126),
    ],
)
async def test_a_command_that_can_not_be_run(
    runtime: Runtime, command: str, words: str, exit_code: int
):
    await runtime.prepare(TaskRun("t1", "t1", DEMO_REFERENCE, command=(command,)))
    with pytest.raises(RuntimeFailed) as raised:
        await runtime.start("t1")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "level=error" not in str(raised.value)
    assert raised.value.exit_code == exit_code


async def test_life_of_a_task(runtime: Runtime):
    await runtime.prepare(sh("t1", "echo out; echo err >&2; exit 3"))
    await runtime.prepare(sh("t1", "exit 9"))  # adopts the first
    (created,) = await runtime.list()
    assert (created.name, created.state) == ("web.1.t1", ContainerState.CREATED)
    assert created.labels["com.docker.swarm.service.name"] == "web"
    assert created.labels["own"] == "yes"
    before = time.time_ns()
    started = await runtime.start("t1")
    assert abs(started.started_at_ns - before) < 30e9
    ended = await runtime.wait("t1")
    assert (ended.exit_code, ended.oom, ended.message) == (3, False, "")
    assert abs(ended.finished_at_ns - before) < 30e9
    assert sorted(await output(runtime, "t1")) == [("stderr", b"err\n"), ("stdout", b"out\n")]
    assert await output(runtime, "t1", streams=("stderr",)) == [("stderr", b"err\n")]
    assert (await runtime.start("t1")).pid == 0  # not a second time
    (exited,) = await runtime.list()
    assert exited.exit == ended
    await runtime.remove("t1")
    await runtime.remove("t1")
    assert await runtime.list() == []


async def test_others_containers_are_not_ours(runtime: Runtime, node: Node):
    other = node.runtime("other")
    await other.prepare(sh("t1", "sleep 60"))
    try:
        assert await runtime.list() == []
        await runtime.remove("t1")
        await runtime.stop("t1")
        if node.kind == "docker":
            with pytest.raises(RuntimeFailed, match="taken"):
                await runtime.prepare(sh("t1", "sleep 60"))
        assert [found.task_id for found in await other.list()] == ["t1"]
    finally:
        await other.remove("t1")
        await other.close()


async def test_an_agent_that_was_restarted_adopts(runtime: Runtime, node: Node):
    await runtime.prepare(sh("t1", "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done"))
    first = await runtime.start("t1")
    again = node.runtime()
    assert [found.state for found in await again.list()] == [ContainerState.RUNNING]
    assert await again.start("t1") == first
    assert await first_line(again, "t1") == b"up\n"
    waiting = asyncio.create_task(again.wait("t1"))
    await again.stop("t1", grace_s=10)
    assert (await waiting).exit_code == 5
    await again.close()


async def test_stop_with_a_signal_and_kill(runtime: Runtime):
    await runtime.prepare(sh("soft", "trap 'exit 7' INT; echo up; while :; do sleep 0.1; done"))
    await runtime.prepare(sh("hard", "trap '' INT; echo up; while :; do sleep 0.1; done"))
    for task_id in ("soft", "hard"):
        await runtime.start(task_id)
        assert await first_line(runtime, task_id) == b"up\n"
    await runtime.stop("soft", "SIGINT", 10)
    assert (await runtime.wait("soft")).exit_code == 7
    await runtime.stop("hard", "SIGINT", 0.2)
    assert (await runtime.wait("hard")).exit_code == 137
    await runtime.kill("hard")
    await runtime.stop("unknown")


async def test_demo_answers_concurrently_at_its_endpoint(runtime: Runtime):
    run = TaskRun(
        "t1", "web.1.t1", "swarm/demo", env=("PORT=81", "SWARM_SLOT=4"), ports=(Port(81),)
    )
    await runtime.prepare(run)
    started = await runtime.start("t1")
    assert b"demo listens on port 81" in await first_line(runtime, "t1")
    host, port = started.endpoints[Port(81)]
    assert host == started.address
    pages = await asyncio.gather(*(fetch(host, port) for _ in range(10)))
    assert all(b"slot: 4\n" in page for page in pages)
    begun = time.monotonic()
    await runtime.stop("t1")
    assert time.monotonic() - begun < 5
    assert (await runtime.wait("t1")).exit_code == 0


# Each line prints one thing that a field of the spec decides, as `name=what`.
LOOK_AROUND = r"""
echo "args=$0,$1"
echo "env=$A"
echo "hostname=$(hostname)"
echo "dir=$(pwd)"
echo "user=$(id -u):$(id -g)"
echo "groups=$(id -G)"
echo "tty=$(test -t 2 && echo yes)"
echo "init=$(test $$ -ne 1 && echo yes)"
echo "read_only=$(touch /x 2>&1 | grep -c 'Read-only')"
echo "bind=$(cat /in) $(touch /in 2>&1 | grep -c 'Read-only')"
echo "volume=$(grep -c ' /v ' /proc/mounts)"
echo "tmpfs=$(touch /t/x && df -k /t | tail -1 | awk '{print $2}') $(stat -c %a /t)"
echo "secret=$(cat /run/secrets/key) $(stat -c %a:%u /run/secrets/key)"
echo "hosts=$(grep -c '10.1.2.3.*extra' /etc/hosts)"
echo "host-gateway=$(grep -c "^$(ip route | awk '/^default/ {print $3}').*node" /etc/hosts)"
echo "dns=$(grep nameserver /etc/resolv.conf)"
echo "search=$(grep search /etc/resolv.conf)"
echo "options=$(grep -c 'timeout:3' /etc/resolv.conf)"
echo "capabilities=$(grep CapBnd /proc/self/status | awk '{print $2}')"
echo "nofile=$(ulimit -Sn):$(ulimit -Hn)"
echo "sysctl=$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
echo "oom=$(cat /proc/self/oom_score_adj)"
cd /sys/fs/cgroup
echo "memory=$(cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max)"
echo "swap=$(cat memory/memory.memsw.limit_in_bytes 2>/dev/null || cat memory.swap.max)"
echo "cpu=$(cat cpu/cpu.cfs_quota_us 2>/dev/null || cat cpu.max | awk '{print $1}')"
echo "pids=$(cat pids/pids.max 2>/dev/null || cat pids.max)"
"""
SWAP = 32 << 20
# Of version 1 of cgroups it is memory and swap together.
SWAP_SHOWN = SWAP + (64 << 20 if Path("/sys/fs/cgroup/memory").is_dir() else 0)
# Docker's default set, with SYS_TIME (25) and without CHOWN (0) and KILL (5).
CAPABILITIES = f"{(0xA80425FB | 1 << 25) & ~(1 << 0) & ~(1 << 5):016x}"


def whole_spec(bound: Path) -> ServiceSpec:
    """Something in every field that a container can show."""
    spec = ServiceSpec()
    container = spec.task.container
    container.image = DEMO_REFERENCE
    container.command.extend(("sh", "-c", LOOK_AROUND))
    container.args.extend(("first", "second"))
    container.env.append("A={{.Service.Name}}.{{.Task.Slot}}")
    container.hostname = "{{.Node.Hostname}}-{{.Task.Slot}}"
    container.dir, container.user = "/tmp", "65534:65534"
    container.groups.append("1234")
    container.tty = container.init = container.read_only = True
    container.mounts.add(type=MOUNT_TYPE_BIND, source=str(bound), target="/in", read_only=True)
    container.mounts.add(
        type=MOUNT_TYPE_VOLUME, source="", target="/v", volume_labels={"of": "{{.Task.Name}}"}
    )
    container.mounts.add(
        type=MOUNT_TYPE_TMPFS, target="/t", tmpfs_size_bytes=1 << 20, tmpfs_mode=0o1777
    )
    container.hosts.extend(("10.1.2.3 extra", "host-gateway node"))
    container.dns.nameservers.append("10.9.9.9")
    container.dns.search.append("example.com")
    container.dns.options.append("timeout:3")
    container.capability_add.append("CAP_SYS_TIME")
    container.capability_drop.extend(("CAP_CHOWN", "CAP_KILL"))
    container.ulimits.add(name="nofile", soft=100, hard=200)
    container.sysctls["net.ipv4.ip_unprivileged_port_start"] = "999"
    container.oom_score_adj = 321
    limits = spec.task.resources.limits
    limits.memory_bytes, limits.nano_cpus = 64 << 20, 500_000_000
    spec.task.resources.pids_limit = 50
    spec.task.resources.swap_bytes = SWAP
    return spec


async def test_every_field_of_a_container_spec_reaches_the_container(
    runtime: Runtime, tmp_path: Path
):
    (tmp_path / "bound").write_text("bound")
    task = Task(id="t1", service_id="s1", service_name="web", slot=3, node_id="n1")
    run = task_run(task, whole_spec(tmp_path / "bound"), NodeFacts("n1", hostname="host"))
    secret = TaskFile("/run/secrets/key", b"hidden", mode=0o440, uid=65534, gid=65534)
    await runtime.prepare(dataclasses.replace(run, files=(secret,)))
    await runtime.start("t1")
    assert (await runtime.wait("t1")).exit_code == 0
    text = b"".join(data for _, data in await output(runtime, "t1")).decode()
    shown = dict(line.strip().split("=", 1) for line in text.splitlines())
    assert shown == {
        "args": "first,second",
        "env": "web.3",
        "hostname": "host-3",
        "dir": "/tmp",
        "user": "65534:65534",
        "groups": "65534 1234",
        "tty": "yes",
        "init": "yes",
        "read_only": "1",
        "bind": "bound 1",
        "volume": "1",
        "tmpfs": "1024 1777",
        "secret": "hidden 440:65534",
        "hosts": "1",
        "host-gateway": "1",
        "dns": "nameserver 10.9.9.9",
        "search": "search example.com",
        "options": "1",
        "capabilities": CAPABILITIES,
        "nofile": "100:200",
        "sysctl": "999",
        "oom": "321",
        "memory": str(64 << 20),
        "swap": str(SWAP_SHOWN),
        "cpu": "50000",
        "pids": "50",
    }
    await runtime.remove("t1")
    assert laid_secrets("t1") == []


async def test_a_command_that_is_not_there(runtime: Runtime):
    await runtime.prepare(TaskRun("t1", "web.1.t1", DEMO_REFERENCE, command=("/nope",)))
    with pytest.raises(RuntimeFailed, match="/nope") as failed:
        await runtime.start("t1")
    assert "\n" not in str(failed.value)
    ended = await runtime.wait("t1")
    assert ended.exit_code is None
    assert "/nope" in ended.message
    assert (await runtime.list())[0].state is ContainerState.EXITED


async def test_out_of_memory_is_told(runtime: Runtime):
    run = sh("t1", "x=$(tail /dev/zero)", limits=Limits(memory_bytes=16 << 20))
    await runtime.prepare(run)
    await runtime.start("t1")
    ended = await runtime.wait("t1")
    assert ended.oom


async def test_refusals_name_the_field(runtime: Runtime):
    with pytest.raises(RuntimeRefused) as refused:
        await runtime.prepare(sh("t1", "true", mounts=(Mount("bind", "/x", "/no/such/source"),)))
    assert refused.value.field == "mounts"
    with pytest.raises(RuntimeRefused) as refused:
        await runtime.prepare(TaskRun("t2", "t2", "Not A Name"))
    assert refused.value.field == "image"


async def test_a_registry_that_is_not_there_is_no_missing_image(runtime: Runtime, node: Node):
    if node.kind == "oci":
        with pytest.raises(RuntimeRefused, match="the swarm has none of this name"):
            await runtime.prepare(TaskRun("t1", "t1", "127.0.0.1:9/nothing:1"))
        return
    with pytest.raises(RuntimeFailed, match="cannot be reached"):
        await runtime.prepare(TaskRun("t1", "t1", "127.0.0.1:9/nothing:1"))


async def test_health(runtime: Runtime):
    check = Healthcheck(("CMD-SHELL", "test -e /healthy"), interval_ns=10**8, retries=1)
    await runtime.prepare(sh("t1", "sleep 600", healthcheck=check))
    await runtime.start("t1")
    seen: list[HealthStatus] = []
    async for health in runtime.health("t1"):
        seen.append(health.status)
        if health.status is HealthStatus.UNHEALTHY:
            process = await runtime.exec("t1", ExecOptions(("touch", "/healthy")))
            assert [line async for line in process.output()] == []
            assert await process.wait() == 0
            await process.close()
        elif health.status is HealthStatus.HEALTHY:
            break
    assert seen == [HealthStatus.STARTING, HealthStatus.UNHEALTHY, HealthStatus.HEALTHY]
    await runtime.prepare(sh("t2", "sleep 600"))
    await runtime.start("t2")
    assert [health.status async for health in runtime.health("t2")] == [HealthStatus.NONE]


async def test_exec_stats_and_logs_that_follow(runtime: Runtime):
    await runtime.prepare(sh("t1", "for i in 1 2 3; do echo $i; done; sleep 600"))
    await runtime.start("t1")
    process = await runtime.exec(
        "t1", ExecOptions(("sh", "-c", "echo $A; cat; exit 6"), env=("A=b",), open_stdin=True)
    )
    await process.write(b"typed")
    await process.close_stdin()
    assert b"".join([line.data async for line in process.output()]) == b"b\ntyped"
    assert await process.wait() == 6
    await process.close()
    assert (await runtime.stats("t1")).memory_bytes > 0
    assert await output(runtime, "t1", tail=2) == [("stdout", b"2\n"), ("stdout", b"3\n")]
    following = asyncio.create_task(output(runtime, "t1", follow=True))
    await runtime.kill("t1")
    assert [data for _, data in await following] == [b"1\n", b"2\n", b"3\n"]


async def test_images_are_saved_and_loaded(runtime: Runtime, tmp_path: Path):
    await runtime.prepare(sh("t1", "true"))
    assert await runtime.images.has(DEMO_REFERENCE)
    assert DEMO_REFERENCE in [image.reference for image in await runtime.images.list()]
    await runtime.images.save(DEMO_REFERENCE, tmp_path / "demo.tar")
    await runtime.remove("t1")
    await runtime.images.remove(DEMO_REFERENCE)
    assert not await runtime.images.has(DEMO_REFERENCE)
    assert await runtime.images.load(tmp_path / "demo.tar") == [DEMO_REFERENCE]
    (tmp_path / "damaged").write_bytes(b"no tar" * 1000)
    with pytest.raises(RuntimeRefused, match="damaged"):
        await runtime.images.load(tmp_path / "damaged")
    with pytest.raises(RuntimeRefused, match="no image"):
        await runtime.images.save("not/there:1", tmp_path / "x")
