"""The process runtime with real processes, and its monitors under SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from swarm.worker.runtime.port import (
    ContainerState,
    ExecOptions,
    Healthcheck,
    HealthStatus,
    Mount,
    Port,
    RuntimeFailed,
    RuntimeRefused,
    TaskFile,
    TaskRun,
)
from swarm.worker.runtime.powercut import kill_node
from swarm.worker.runtime.process import ProcessRuntime
from swarm.worker.runtime.processes import ProcessId, is_alive, wait_gone
from swarm.worker.runtime.task_dir import TaskDir


def sh(task_id: str, script: str, **fields: object) -> TaskRun:
    return TaskRun(task_id, f"web.1.{task_id}", "any", args=("sh", "-c", script), **fields)  # type: ignore[arg-type]


@pytest.fixture
async def runtime(tmp_path: Path):
    runtime = ProcessRuntime(tmp_path / "process")
    yield runtime
    for found in await runtime.list():
        await runtime.remove(found.task_id)
    await runtime.close()


def task_dir(tmp_path: Path, task_id: str) -> TaskDir:
    return TaskDir(tmp_path / "process" / "tasks" / task_id)


async def output(runtime: ProcessRuntime, task_id: str, **how: object) -> list[tuple[str, bytes]]:
    return [(line.stream, line.data) async for line in runtime.logs(task_id, **how)]  # type: ignore[arg-type]


async def first_line(runtime: ProcessRuntime, task_id: str) -> bytes:
    async for line in runtime.logs(task_id, follow=True):
        return line.data
    raise AssertionError("the task wrote nothing")


async def test_probe_runs_a_process_and_leaves_nothing(runtime: ProcessRuntime, tmp_path: Path):
    probe = await runtime.probe()
    assert probe.works
    assert list((tmp_path / "process" / "tasks").iterdir()) == []


async def test_runs_to_its_end_with_code_and_output(runtime: ProcessRuntime):
    await runtime.prepare(sh("t1", "echo out; echo err >&2; printf tail; exit 3"))
    started = await runtime.start("t1")
    assert started.started_at_ns > 0
    ended = await runtime.wait("t1")
    assert (ended.exit_code, ended.oom, ended.message) == (3, False, "")
    assert ended.finished_at_ns >= started.started_at_ns
    lines = await output(runtime, "t1")
    assert [data for stream, data in lines if stream == "stdout"] == [b"out\n", b"tail"]
    assert [data for stream, data in lines if stream == "stderr"] == [b"err\n"]
    assert await output(runtime, "t1", streams=("stderr",)) == [("stderr", b"err\n")]
    assert await output(runtime, "t1", since_ns=ended.finished_at_ns) == []


async def test_names_labels_and_states_in_the_list(runtime: ProcessRuntime):
    await runtime.prepare(sh("t1", "sleep 60", labels={"a": "b"}))
    await runtime.prepare(sh("t1", "exit 9"))  # adopts the first
    (created,) = await runtime.list()
    assert (created.task_id, created.name, created.state) == (
        "t1",
        "web.1.t1",
        ContainerState.CREATED,
    )
    assert created.labels == {"a": "b"}
    first = await runtime.start("t1")
    again = await runtime.start("t1")
    assert first == again
    assert [found.state for found in await runtime.list()] == [ContainerState.RUNNING]
    await runtime.kill("t1")
    (exited,) = await runtime.list()
    assert exited.state is ContainerState.EXITED
    assert exited.exit is not None
    assert exited.exit.exit_code == 128 + signal.SIGKILL


async def test_stop_by_its_signal_then_by_force(runtime: ProcessRuntime):
    await runtime.prepare(sh("soft", "trap 'exit 7' INT; echo up; while :; do sleep 0.05; done"))
    await runtime.prepare(sh("hard", "trap '' TERM; echo up; while :; do sleep 0.05; done"))
    for task_id in ("soft", "hard"):
        await runtime.start(task_id)
        assert await first_line(runtime, task_id) == b"up\n"
    await runtime.stop("soft", "SIGINT", 10)
    assert (await runtime.wait("soft")).exit_code == 7
    await runtime.stop("hard", "", 0.2)
    assert (await runtime.wait("hard")).exit_code == 137
    await runtime.stop("hard")
    await runtime.stop("unknown")


async def test_what_a_task_leaves_behind_dies_with_it(runtime: ProcessRuntime):
    await runtime.prepare(sh("t1", "setsid sleep 600 & echo $!; exit 0"))
    await runtime.start("t1")
    assert (await asyncio.wait_for(runtime.wait("t1"), 10)).exit_code == 0
    orphan = int((await output(runtime, "t1"))[0][1])
    assert _start_time(orphan) == 0


async def test_a_port_is_given_and_reachable(runtime: ProcessRuntime):
    run = TaskRun(
        "t1", "web.1.t1", "swarm/demo:latest", env=("SWARM_SLOT=4",), ports=(Port(80), Port(443))
    )
    await runtime.prepare(run)
    started = await runtime.start("t1")
    assert set(started.endpoints) == {Port(80), Port(443)}
    assert b"demo listens" in await first_line(runtime, "t1")
    host, port = started.endpoints[Port(80)]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    page = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert b"200 OK" in page
    assert b"slot: 4" in page
    assert f"PORT_443={started.endpoints[Port(443)].port}".encode() in page


async def test_a_command_that_cannot_be_started(runtime: ProcessRuntime, tmp_path: Path):
    await runtime.prepare(sh("t1", "true", working_dir=str(tmp_path / "nowhere")))
    with pytest.raises(RuntimeFailed, match="nowhere"):
        await runtime.start("t1")
    ended = await runtime.wait("t1")
    assert ended.exit_code is None
    assert "nowhere" in ended.message
    with pytest.raises(RuntimeFailed):
        await runtime.start("t1")


@pytest.mark.parametrize(
    ("run", "field"),
    [
        (TaskRun("t", "n", "nginx"), "image"),
        (TaskRun("t", "n", "", args=("no-such-program-here",)), "command"),
        (sh("t", "true", mounts=(Mount("tmpfs", "/x"),)), "mounts"),
        (sh("t", "true", hostname="h"), "hostname"),
        (sh("t", "true", files=(TaskFile("/etc/passwd", b""),)), "files"),
        (sh("t", "true", user="no-such-user-here"), "user"),
        (sh("t", "true", stop_signal="SIGNOPE"), "stop_signal"),
        (sh("t", "true", log_driver="syslog"), "log_driver"),
        (sh("../t", "true"), "task_id"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(
    runtime: ProcessRuntime, run: TaskRun, field: str
):
    with pytest.raises(RuntimeRefused) as refused:
        await runtime.prepare(run)
    assert refused.value.field == field
    assert "\n" not in str(refused.value)


async def test_an_agent_that_was_killed_finds_its_tasks(tmp_path: Path, runtime: ProcessRuntime):
    script = f"""
import asyncio, os, signal
from pathlib import Path
from swarm.worker.runtime.port import TaskRun
from swarm.worker.runtime.process import ProcessRuntime
async def main():
    runtime = ProcessRuntime(Path({str(tmp_path / "process")!r}))
    for task_id, tail in (("short", "exit 5"), ("long", "read x")):
        await runtime.prepare(TaskRun(task_id, task_id, "", open_stdin=True,
                                      args=("sh", "-c", "echo up; " + tail)))
        await runtime.start(task_id)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await agent.wait() == -signal.SIGKILL
    assert (await asyncio.wait_for(runtime.wait("short"), 10)).exit_code == 5
    assert await output(runtime, "short", follow=True) == [("stdout", b"up\n")]
    started = await runtime.start("long")
    assert started.pid
    assert await first_line(runtime, "long") == b"up\n"
    await runtime.stop("long", grace_s=5)
    assert (await runtime.wait("long")).exit_code == 128 + signal.SIGTERM


async def test_a_killed_monitor_is_an_unknown_end(runtime: ProcessRuntime, tmp_path: Path):
    await runtime.prepare(sh("t1", "sleep 600 & echo $!; wait"))
    started = await runtime.start("t1")
    child = int(await first_line(runtime, "t1"))
    monitor = task_dir(tmp_path, "t1").monitor()
    assert monitor is not None
    os.kill(monitor.pid, signal.SIGKILL)
    ended = await asyncio.wait_for(runtime.wait("t1"), 10)
    assert ended.exit_code is None
    assert "monitor was killed" in ended.message
    for pid in (started.pid, child):
        await wait_gone(ProcessId(pid, _start_time(pid)))
    assert (await runtime.list())[0].exit == ended


def _start_time(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return 0


async def test_a_killed_spawner_is_started_again(runtime: ProcessRuntime):
    await runtime.prepare(sh("t1", "read x", open_stdin=True))
    await runtime.start("t1")
    spawner = runtime._tasks._spawner._process
    assert spawner is not None
    spawner.kill()
    await spawner.wait()
    await runtime.prepare(sh("t2", "exit 4"))
    await runtime.start("t2")
    assert (await runtime.wait("t2")).exit_code == 4
    assert [found.state for found in await runtime.list()] == [
        ContainerState.RUNNING,
        ContainerState.EXITED,
    ]


async def test_power_cut(runtime: ProcessRuntime, tmp_path: Path):
    await runtime.prepare(sh("t1", "setsid sh -c 'echo $$; sleep 600' & wait"))
    started = await runtime.start("t1")
    child = int(await first_line(runtime, "t1"))
    monitor = task_dir(tmp_path, "t1").monitor()
    assert monitor is not None
    assert await asyncio.to_thread(kill_node, tmp_path) == 1
    for pid in (started.pid, child):
        await wait_gone(ProcessId(pid, _start_time(pid)))
    assert not is_alive(monitor)
    assert (await runtime.wait("t1")).exit_code is None


async def test_tty_exec_and_stats(runtime: ProcessRuntime):
    await runtime.prepare(
        sh("t1", "test -t 1 && echo tty; read x; echo $x", tty=True, env=("A=b",))
    )
    await runtime.start("t1")
    assert await first_line(runtime, "t1") == b"tty\r\n"
    process = await runtime.exec(
        "t1", ExecOptions(("sh", "-c", "echo $A; cat; exit 6"), open_stdin=True)
    )
    await process.write(b"typed")
    await process.close_stdin()
    said = b"".join([line.data async for line in process.output()])
    assert said == b"b\ntyped"
    assert await process.wait() == 6
    await process.close()
    stats = await runtime.stats("t1")
    assert stats.pids >= 1
    assert stats.memory_bytes > 0


async def test_exec_with_a_terminal(runtime: ProcessRuntime):
    await runtime.prepare(sh("t1", "read x", open_stdin=True))
    await runtime.start("t1")
    process = await runtime.exec(
        "t1", ExecOptions(("sh", "-c", "read x; stty size; echo got $x"), tty=True)
    )
    await process.resize(33, 77)
    await process.write(b"hello\n")
    said = b"".join([line.data async for line in process.output()])
    assert b"33 77" in said
    assert b"got hello" in said
    assert await process.wait() == 0
    await process.close()
    with pytest.raises(RuntimeFailed, match="cannot run"):
        await runtime.exec("t1", ExecOptions(("no-such-program-here",)))


async def test_health_turns_and_ends_with_the_task(runtime: ProcessRuntime, tmp_path: Path):
    flag = tmp_path / "healthy"
    check = Healthcheck(("CMD-SHELL", f"test -e {flag}"), interval_ns=20_000_000, retries=2)
    await runtime.prepare(sh("t1", "read x", open_stdin=True, healthcheck=check))
    await runtime.start("t1")
    seen: list[HealthStatus] = []
    async for health in runtime.health("t1"):
        seen.append(health.status)
        if health.status is HealthStatus.UNHEALTHY:
            flag.touch()
        elif health.status is HealthStatus.HEALTHY:
            await runtime.kill("t1")
    assert seen == [HealthStatus.STARTING, HealthStatus.UNHEALTHY, HealthStatus.HEALTHY]


async def test_without_a_check_health_is_none(runtime: ProcessRuntime):
    await runtime.prepare(sh("t1", "read x", open_stdin=True))
    await runtime.start("t1")
    assert [health.status async for health in runtime.health("t1")] == [HealthStatus.NONE]


async def test_many_at_once_and_nothing_left(runtime: ProcessRuntime, tmp_path: Path):
    ids = [f"t{number}" for number in range(20)]

    async def live(task_id: str) -> int | None:
        await runtime.prepare(sh(task_id, "exit 2"))
        await runtime.start(task_id)
        ended = await runtime.wait(task_id)
        await runtime.remove(task_id)
        return ended.exit_code

    assert set(await asyncio.gather(*map(live, ids))) == {2}
    assert list((tmp_path / "process" / "tasks").iterdir()) == []


async def test_secrets_are_in_memory_while_the_task_is_there(runtime: ProcessRuntime):
    files = (
        TaskFile("/run/secrets/a/key", b"secret", mode=0o400),
        TaskFile("/motd", b"hello", mode=0o444),
    )
    script = "stat -c %a $SECRETS_DIR/a/key; cat $SECRETS_DIR/a/key $CONFIGS_DIR/motd; pwd"
    await runtime.prepare(sh("t1", f"{script}; echo $SECRETS_DIR", files=files))
    await runtime.start("t1")
    assert (await runtime.wait("t1")).exit_code == 0
    lines = [line.data.decode().strip() async for line in runtime.logs("t1")]
    assert lines[0] == "400"
    assert lines[1].startswith("secrethello")
    directory = Path(lines[-1])
    assert (directory / "a" / "key").exists()
    assert directory.parent.stat().st_mode & 0o777 == 0o700
    await runtime.remove("t1")
    assert not directory.parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
async def test_a_task_of_another_user_reads_its_secrets(runtime: ProcessRuntime):
    before = os.umask(0o077)
    try:
        files = (TaskFile("/run/secrets/a/key", b"secret", mode=0o400, uid=65534),)
        script = "cat $SECRETS_DIR/a/key; id -u"
        await runtime.prepare(sh("t1", script, files=files, user="65534", working_dir="/"))
    finally:
        os.umask(before)
    await runtime.start("t1")
    assert (await runtime.wait("t1")).exit_code == 0
    assert b"".join(data for _, data in await output(runtime, "t1")) == b"secret65534\n"
    await runtime.remove("t1")
