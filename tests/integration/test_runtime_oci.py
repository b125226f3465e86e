"""What only the oci runtime does: networks, volumes, monitors, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.worker.runtime.demo import DEMO_REFERENCE
from swarm.worker.runtime.image_archive import Entry, write_archive
from swarm.worker.runtime.oci.network import NodeNetwork
from swarm.worker.runtime.oci.runtime import OciRuntime
from swarm.worker.runtime.port import (
    ContainerState,
    ExecOptions,
    Identity,
    Mount,
    Port,
    RuntimeRefused,
    TaskRun,
)
from swarm.worker.runtime.powercut import kill_node
from swarm.worker.runtime.probe_image import PROGRAMS, elf
from swarm.worker.runtime.processes import ProcessId, wait_gone

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("runc") is None, reason="the oci runtime needs root and runc"
)


def sh(task_id: str, script: str, **fields: object) -> TaskRun:
    return TaskRun(task_id, task_id, DEMO_REFERENCE, args=("sh", "-c", script), **fields)  # type: ignore[arg-type]


@pytest.fixture
def identity() -> Identity:
    return Identity(f"c{os.getpid()}-{os.urandom(4).hex()}", "n1")


@pytest.fixture
async def runtime(tmp_path: Path, identity: Identity):
    runtime = OciRuntime(identity, tmp_path / "oci", nat=False)
    yield runtime
    for found in await runtime.list():
        await runtime.remove(found.task_id)
    await runtime.close()
    assert await asyncio.to_thread(traces, identity, tmp_path) == []


def traces(identity: Identity, folder: Path) -> list[str]:
    """What this node's tasks may leave on a machine, which others use as well: the bridge and the
    links on it, namespaces, control groups, mounts, secrets."""
    bridge = NodeNetwork(identity, nat=False).netns_name("").removesuffix("-")
    secrets = f"swarm-{bridge.removeprefix('sw')}*"
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    mounts = Path("/proc/self/mountinfo").read_text()
    lines = [line for line in links.splitlines() if bridge in line]
    lines += [line for line in mounts.splitlines() if str(folder) in line]
    places = {
        "/run/netns": f"{bridge}*",
        "/sys/fs/cgroup": f"**/*{bridge}*",
        "/run": secrets,
        "/dev/shm": secrets,
    }
    for place, pattern in places.items():
        lines += map(str, Path(place).glob(pattern))
    return lines


async def output(runtime: OciRuntime, task_id: str) -> str:
    lines = runtime.logs(task_id, streams=("stdout",))
    return b"".join([line.data async for line in lines]).decode()


async def first_line(runtime: OciRuntime, task_id: str) -> bytes:
    async with contextlib.aclosing(runtime.logs(task_id, follow=True)) as lines:
        async for line in lines:
            return line.data
    raise AssertionError("the task wrote nothing")


async def test_tasks_have_a_network_of_their_own_and_reach_each_other(runtime: OciRuntime):
    server = TaskRun("s", "s", DEMO_REFERENCE, env=("PORT=80",), ports=(Port(80),))
    await runtime.prepare(server)
    started = await runtime.start("s")
    assert b"listens" in await first_line(runtime, "s")
    script = f"ip -o link | wc -l; wget -qO- http://{started.address}/healthz"
    await runtime.prepare(sh("c", script))
    client = await runtime.start("c")
    assert (await runtime.wait("c")).exit_code == 0
    assert await output(runtime, "c") == "2\nok\n"
    assert client.address != started.address
    assert await asyncio.to_thread(os.path.exists, started.netns)


NAT_SCRIPT = """
import asyncio, subprocess, sys
from pathlib import Path
from swarm.worker.runtime.oci.runtime import OciRuntime
from swarm.worker.runtime.port import Identity, TaskRun
def run(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout
async def main():
    run("ip", "link", "set", "lo", "up")
    run("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
    runtime = OciRuntime(Identity(sys.argv[2], "n1"), Path(sys.argv[1]))
    async def answer(reader, writer):
        writer.write(b"reached")
        writer.close()
    server = await asyncio.start_server(answer, "192.0.2.1", 8080)
    script = "nc -w 5 192.0.2.1 8080 < /dev/null"
    await runtime.prepare(TaskRun("t", "t", "swarm/demo", args=("sh", "-c", script)))
    print(run("nft", "list", "ruleset"), Path("/proc/sys/net/ipv4/ip_forward").read_text())
    await runtime.start("t")
    await runtime.wait("t")
    print([line.data async for line in runtime.logs("t")])
    await runtime.remove("t")
    await runtime.close()
    print("left:", run("nft", "list", "ruleset"))
asyncio.run(main())
"""


async def test_nat_comes_and_goes_with_the_bridge(tmp_path: Path, identity: Identity):
    """In a network namespace of the test's own, for the rules are the whole machine's."""
    if shutil.which("nft") is None:
        pytest.skip("nft is not installed")
    command = ["unshare", "-n", sys.executable, "-c", NAT_SCRIPT, str(tmp_path / "nat")]
    process = await asyncio.create_subprocess_exec(
        *command, identity.cluster_id, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    before, _, after = out.decode().partition("left:")
    assert process.returncode == 0
    assert "masquerade" in before
    assert " 1\n" in before
    assert "reached" in before
    assert "masquerade" not in after


async def test_two_nodes_on_one_machine_have_different_subnets(
    runtime: OciRuntime, tmp_path: Path, identity: Identity
):
    other = OciRuntime(Identity(identity.cluster_id, "n2"), tmp_path / "other", nat=False)
    await runtime.prepare(sh("t", "sleep 60"))
    await other.prepare(sh("t", "sleep 60"))
    one, two = await runtime.start("t"), await other.start("t")
    assert one.address.rsplit(".", 1)[0] != two.address.rsplit(".", 1)[0]
    await other.remove("t")
    assert runtime._tasks.is_running("t")
    await other.close()


async def test_volumes_are_kept_filled_and_shared(runtime: OciRuntime):
    mounts = (Mount("volume", "/www", "site"), Mount("volume", "/new"))
    await runtime.prepare(sh("a", "cat /www/healthz; echo a > /www/a; ls /new", mounts=mounts))
    await runtime.start("a")
    await runtime.wait("a")
    assert await output(runtime, "a") == "ok\n"
    await runtime.remove("a")
    await runtime.prepare(sh("b", "cat /www/a", mounts=mounts))
    await runtime.start("b")
    await runtime.wait("b")
    assert await output(runtime, "b") == "a\n"


async def test_isolation(runtime: OciRuntime):
    script = (
        "ps | wc -l; mount -t tmpfs x /tmp 2>/dev/null || echo nomount; "
        "echo 1 > /proc/sys/kernel/hostname 2>/dev/null || echo noproc; "
        "cat /proc/kcore | head -c 1 | wc -c; unshare -U true 2>/dev/null || echo nouser; "
        "ls /dev | grep -c sd; grep CapEff /proc/self/status"
    )
    await runtime.prepare(sh("t", script))
    await runtime.start("t")
    await runtime.wait("t")
    lines = (await output(runtime, "t")).splitlines()
    assert lines[1:6] == ["nomount", "noproc", "0", "nouser", "0"]
    assert lines[6].split()[1] == "00000000a80425fb"  # Docker's default set


async def test_terminal_and_exec(runtime: OciRuntime):
    await runtime.prepare(sh("t", "test -t 1 && echo tty; sleep 60", tty=True))
    await runtime.start("t")
    assert await first_line(runtime, "t") == b"tty\r\n"
    process = await runtime.exec(
        "t", ExecOptions(("sh", "-c", "id -u; tty"), tty=True, user="nobody")
    )
    said = b"".join([line.data async for line in process.output()])
    # runc may turn the line's end twice in the first moment.
    assert said.replace(b"\r\r\n", b"\r\n").startswith(b"65534\r\n/dev/pts/")
    assert await process.wait() == 0
    await process.close()


async def test_a_killed_monitor_takes_its_container_along(runtime: OciRuntime):
    await runtime.prepare(sh("t", "sleep 600"))
    started = await runtime.start("t")
    monitor = runtime._tasks.task("t").monitor()
    process = runtime._tasks.task("t").started()
    assert monitor is not None
    assert process is not None
    os.kill(monitor.pid, signal.SIGKILL)
    ended = await asyncio.wait_for(runtime.wait("t"), 10)
    assert ended.exit_code is None
    assert started.pid == process.process.pid
    await asyncio.wait_for(wait_gone(process.process), 10)


async def test_a_power_cut_and_the_agent_after_it(
    runtime: OciRuntime, tmp_path: Path, identity: Identity
):
    await runtime.prepare(sh("t", "sleep 600"))
    await runtime.start("t")
    process = runtime._tasks.task("t").started()
    assert process is not None
    assert await asyncio.to_thread(kill_node, tmp_path) == 1
    await asyncio.wait_for(wait_gone(ProcessId(*process.process)), 10)
    again = OciRuntime(identity, tmp_path / "oci", nat=False)
    (found,) = await again.list()
    assert found.state is ContainerState.EXITED
    await again.remove("t")
    await again.close()


async def test_what_was_half_prepared_is_prepared_anew(runtime: OciRuntime):
    await runtime.prepare(sh("t", "echo hi"))
    (runtime._tasks.task("t").path / "run.json").unlink()
    assert [found.state for found in await runtime.list()] == [ContainerState.CREATED]
    await runtime.prepare(sh("t", "echo hi"))
    await runtime.start("t")
    assert (await runtime.wait("t")).exit_code == 0


@pytest.mark.parametrize(
    ("run", "field"),
    [
        (TaskRun("t", "t", "not/here"), "image"),
        (TaskRun("t", "t", "not a name"), "image"),
        (sh("t", "x", user="nobodyhere"), "user"),
        (sh("t", "x", mounts=(Mount("bind", "/x", "/no/such/place"),)), "mounts"),
        (sh("t", "x", mounts=(Mount("volume", "/x", "../../etc"),)), "mounts"),
        (sh("t", "x", mounts=(Mount("volume", "/x", "v", volume_driver="nfs"),)), "mounts"),
        (sh("t", "x", log_driver="gelf"), "log_driver"),
        (sh("t", "x", cap_add=("NOPE",)), "cap_add"),
    ],
)
async def test_refusals_name_the_field_and_leave_nothing(
    runtime: OciRuntime, run: TaskRun, field: str
):
    with pytest.raises(RuntimeRefused) as refused:
        await runtime.prepare(run)
    assert refused.value.field == field
    assert await runtime.list() == []


async def test_an_image_without_a_shell_or_passwd(runtime: OciRuntime, tmp_path: Path):
    program = PROGRAMS.get(os.uname().machine)
    if program is None:
        pytest.skip("there is no program for this processor")
    archive = tmp_path / "tiny.tar"
    await asyncio.to_thread(
        write_archive, archive, "tiny:1", [Entry("run-me", elf(*program))], {"Cmd": ["/run-me"]}
    )
    assert await runtime.images.load(archive) == ["tiny:1"]
    await runtime.prepare(TaskRun("t", "t", "tiny:1", user="1000:1000"))
    await runtime.start("t")
    assert (await runtime.wait("t")).exit_code == 0
    await runtime.images.remove("tiny:1")
    assert not await runtime.images.has("tiny:1")
