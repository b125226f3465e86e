"""The process runtime: a task is a plain process of this machine, with no isolation.

For a laptop without root, and for tests. What the process could not be given (a file system,
limits, a host name of its own) is refused by name. A task gets a free port in `$PORT`, to which its
first published target port leads, and `$PORT_<target>` for each published target port. Its secrets
are files in `$SECRETS_DIR` and its configs in `$CONFIGS_DIR`, both in memory, as it has no
/run/secrets of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import pwd
import resource
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from swarm.file_target import CONFIGS_FOLDER, SECRETS_FOLDER
from swarm.worker.runtime import demo_server, healthcheck
from swarm.worker.runtime.demo import is_demo
from swarm.worker.runtime.monitored import MonitoredTasks, log_limits, signal_number
from swarm.worker.runtime.port import (
    Endpoint,
    ExecOptions,
    ExecProcess,
    Exit,
    Found,
    Health,
    Healthcheck,
    Image,
    LogLine,
    Port,
    Probe,
    RuntimeFailed,
    RuntimeRefused,
    Started,
    Stats,
    TaskFile,
    TaskRun,
)
from swarm.worker.runtime.processes import descendants
from swarm.worker.runtime.subprocess_exec import SubprocessExec, run_check
from swarm.worker.runtime.task_dir import TaskDir, TaskProcess
from swarm.worker.runtime.task_files import TaskFiles

INHERITED_ENV = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR")
HOST = "127.0.0.1"
PROBE_TASK = "probe"
FILE_VARIABLES = {"secrets": "SECRETS_DIR", "configs": "CONFIGS_DIR"}


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]


class ProcessRuntime:
    """A Runtime (port.py) whose tasks live under `state_dir`."""

    name = "process"

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "tasks"
        self._tasks = MonitoredTasks(self._directory, _end_leftovers)
        self._images = ProcessImages()
        self._files = TaskFiles(str(self._directory.absolute()))

    @property
    def images(self) -> ProcessImages:
        return self._images

    async def probe(self) -> Probe:
        task_id = f"{PROBE_TASK}{os.getpid()}"
        run = TaskRun(task_id, PROBE_TASK, "", command=(sys.executable, "-I", "-S", "-c", ""))
        try:
            await self.prepare(run)
            await self.start(task_id)
            ended = await asyncio.wait_for(self.wait(task_id), 10)
        except (RuntimeRefused, RuntimeFailed, OSError, TimeoutError) as error:
            return Probe(False, f"cannot run a process: {error}")
        finally:
            await self.remove(task_id)
        if ended.exit_code != 0:
            return Probe(False, f"a process ended with {ended.exit_code} {ended.message}".strip())
        return Probe(True, "no isolation: tasks are plain processes of this machine")

    async def bridge(self) -> str:
        return ""

    async def prepare(self, run: TaskRun) -> None:
        task = self._tasks.task(run.task_id)
        if task.read_run() is not None:
            return
        content = _run_record(run)
        try:
            (task.path / "work").mkdir(parents=True, exist_ok=True)
            user = content["user"]
            if user:
                os.chown(task.path / "work", user[0], user[1])
            content["env"] += self._lay_files(run, user)
            task.write_run(content)
        except OSError as error:
            raise RuntimeFailed(f"cannot write {error.filename}: {error.strerror}") from None

    def _lay_files(self, run: TaskRun, user: User | None) -> list[str]:
        """The variables that say where they are."""
        if not run.files:
            return []
        files = {_file_name(file): file for file in run.files}
        owner = (user.uid, user.gid) if user else None
        directory = self._files.lay_named(run.task_id, files, owner)
        folders = dict.fromkeys(name.partition("/")[0] for name in files)
        return [f"{FILE_VARIABLES[folder]}={directory / folder}" for folder in folders]

    async def start(self, task_id: str) -> Started:
        async def launch() -> dict[str, Any]:
            return self._launch(self._tasks.task(task_id))

        started = await self._tasks.start(task_id, launch)
        ports: dict[str, int] = (self._tasks.task(task_id).read_launch() or {})["ports"]
        return Started(
            container_id=task_id,
            pid=started.process.pid if self._tasks.is_running(task_id) else 0,
            started_at_ns=started.started_at_ns,
            endpoints={_port(key): Endpoint(HOST, number) for key, number in ports.items()},
        )

    def _launch(self, task: TaskDir) -> dict[str, Any]:
        run = task.read_run() or {}
        wanted: list[str] = run["ports"] or [""]
        ports = dict(zip(wanted, _free_ports(wanted), strict=True))
        env = [item for item in run["env"] if not item.startswith("PORT=")]
        env.append(f"PORT={ports[wanted[0]]}")
        env += [f"PORT_{_port(key).target}={number}" for key, number in ports.items() if key]
        return {
            "kind": "process",
            "argv": run["argv"],
            "env": env,
            "working_dir": run["working_dir"] or str(task.path / "work"),
            "user": run["user"],
            "rlimits": run["rlimits"],
            "oom_score_adj": run["oom_score_adj"],
            "tty": run["tty"],
            "open_stdin": run["open_stdin"],
            "log_bytes_max": run["log_bytes_max"],
            "log_files_max": run["log_files_max"],
            "oom_files": [],
            "ports": {key: number for key, number in ports.items() if key},
        }

    async def wait(self, task_id: str) -> Exit:
        return await self._tasks.wait(task_id)

    # `signal` is the port's word for it; here it shadows the module on purpose.
    async def stop(self, task_id: str, signal: str = "", grace_s: float = 10.0) -> None:
        run = self._tasks.task(task_id).read_run()
        if run is not None:
            number = signal_number(signal or run["stop_signal"] or "SIGTERM")
            await self._tasks.stop(task_id, number, grace_s)

    async def kill(self, task_id: str) -> None:
        await self.stop(task_id, "SIGKILL", 0)

    async def remove(self, task_id: str) -> None:
        await self.kill(task_id)
        await asyncio.to_thread(self._files.remove, task_id)
        await self._tasks.forget(task_id)

    def logs(
        self,
        task_id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ns: int = 0,
        until_ns: int = 0,
        streams: Sequence[str] = ("stdout", "stderr"),
    ) -> AsyncIterator[LogLine]:
        return self._tasks.logs(
            task_id, follow=follow, tail=tail, since_ns=since_ns, until_ns=until_ns, streams=streams
        )

    async def list(self) -> list[Found]:
        return await self._tasks.list()

    async def health(self, task_id: str) -> AsyncIterator[Health]:
        started = self._tasks.task(task_id).started()
        run = self._tasks.task(task_id).read_run()
        if started is None or run is None:
            raise RuntimeFailed(f"task {task_id} was not started on this node")
        check = Healthcheck(**run["healthcheck"]) if run["healthcheck"] else None

        async def once(command: tuple[str, ...]) -> tuple[int, bytes]:
            return await run_check(await self._exec(task_id, ExecOptions(command)))

        async for health in healthcheck.watch(
            check, started.started_at_ns, once, lambda: self.wait(task_id)
        ):
            yield health

    async def stats(self, task_id: str) -> Stats:
        process = self._tasks.running_process(task_id).process
        return await asyncio.to_thread(_stats, process.pid)

    async def exec(self, task_id: str, options: ExecOptions) -> ExecProcess:
        return await self._exec(task_id, options)

    async def _exec(self, task_id: str, options: ExecOptions) -> SubprocessExec:
        self._tasks.running_process(task_id)
        launch = self._tasks.task(task_id).read_launch() or {}
        user = User(*launch["user"]) if launch["user"] else None
        if options.user:
            user = _user(options.user, "user")
        env = [*launch["env"], *options.env]
        return await SubprocessExec.start(
            options.command,
            env=dict(item.split("=", 1) for item in env),
            cwd=options.working_dir or launch["working_dir"],
            tty=options.tty,
            open_stdin=options.open_stdin,
            control=True,
            user=user,
        )

    async def close(self) -> None:
        await self._tasks.close()


class ProcessImages:
    """There are none but the demo, which is a program that this package brings."""

    async def has(self, reference: str) -> bool:
        return is_demo(reference)

    async def list(self) -> list[Image]:
        return []

    async def load(self, archive: Path) -> list[str]:
        raise RuntimeRefused(
            f"{archive.name}: the process runtime runs commands of this machine, it has no images"
        )

    async def save(self, reference: str, archive: Path) -> None:  # noqa: ARG002 - the port's
        raise RuntimeRefused(f"{reference}: the process runtime has no images", "image")

    async def remove(self, reference: str) -> None:
        raise RuntimeRefused(f"{reference}: the process runtime has no images", "image")


def _run_record(run: TaskRun) -> dict[str, Any]:
    """What `run.json` keeps. Raises RuntimeRefused for what a plain process cannot be given."""
    _refuse_isolation(run)
    for file in run.files:
        _file_name(file)
    bytes_max, files_max = log_limits(run.log_driver, dict(run.log_options))
    if run.stop_signal:
        signal_number(run.stop_signal)
    user = _user(run.user, "user") if run.user else None
    env = _env(run)
    check = healthcheck.merged(run.healthcheck, None)
    return {
        "name": run.name,
        "labels": dict(run.labels),
        "argv": _argv(run, env),
        "env": env,
        "working_dir": run.working_dir,
        "user": user,
        "rlimits": [_rlimit(limit.name, limit.soft, limit.hard) for limit in run.ulimits],
        "oom_score_adj": run.oom_score_adj,
        "tty": run.tty,
        "open_stdin": run.open_stdin,
        "stop_signal": run.stop_signal,
        "ports": [f"{port.target}/{port.protocol}" for port in run.ports],
        "log_bytes_max": bytes_max,
        "log_files_max": files_max,
        "healthcheck": _healthcheck_record(check),
    }


def _healthcheck_record(check: Healthcheck | None) -> dict[str, Any] | None:
    if check is None:
        return None
    return {name: getattr(check, name) for name in Healthcheck.__dataclass_fields__}


def _refuse_isolation(run: TaskRun) -> None:
    limits = run.limits
    asked = {
        "mounts": run.mounts,
        "read_only": run.read_only,
        "hostname": run.hostname,
        "hosts": run.hosts,
        "dns": run.dns or run.dns_search or run.dns_options,
        "limits.cpu": limits.nano_cpus,
        "limits.memory": limits.memory_bytes,
        "limits.pids": limits.pids,
        "limits.swap": limits.swap_bytes is not None or limits.swappiness is not None,
        "sysctls": run.sysctls,
        "groups": run.groups,
        "cap_add": run.cap_add,
        "cap_drop": run.cap_drop,
    }
    for field, value in asked.items():
        if value:
            raise RuntimeRefused(
                f"{field}: the process runtime has no isolation and cannot give this;"
                " use a node with docker or oci",
                field,
            )


def _file_name(file: TaskFile) -> str:
    """`secrets/NAME` or `configs/NAME`. Raises RuntimeRefused for a target anywhere else, which on
    this machine is nobody's to write to."""
    target = PurePosixPath(file.target)
    if target.is_relative_to(SECRETS_FOLDER):
        return f"secrets/{target.relative_to(SECRETS_FOLDER)}"
    if str(target.parent) == CONFIGS_FOLDER:
        return f"configs/{target.name}"
    raise RuntimeRefused(
        f"target {file.target}: the process runtime has no isolation and lays secrets in"
        " $SECRETS_DIR and configs in $CONFIGS_DIR only; give a name without a folder, or use a"
        " node with docker or oci",
        "files",
    )


def _argv(run: TaskRun, env: list[str]) -> list[str]:
    argv = [*run.command, *run.args]
    if not argv and is_demo(run.image):
        return [sys.executable, "-I", "-S", demo_server.__file__]
    if not argv:
        raise RuntimeRefused(
            f'image "{run.image}": the process runtime runs commands of this machine, not images;'
            " give the service a command, or use swarm/demo",
            "image",
        )
    path = dict(item.split("=", 1) for item in env).get("PATH", os.defpath)
    if shutil.which(argv[0], path=path) is None:
        raise RuntimeRefused(f'there is no executable "{argv[0]}" on this machine', "command")
    return argv


def _env(run: TaskRun) -> list[str]:
    merged = {name: os.environ[name] for name in INHERITED_ENV if name in os.environ}
    for item in run.env:
        name, equals, value = item.partition("=")
        if equals:
            merged[name] = value
        else:
            merged.pop(name, None)  # Docker: a name alone unsets it
    return [f"{name}={value}" for name, value in merged.items()]


def _rlimit(name: str, soft: int, hard: int) -> tuple[int, int, int]:
    number = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if number is None:
        raise RuntimeRefused(f'ulimit "{name}" is not known', "ulimits")
    return number, soft, hard


def _user(text: str, field: str) -> User | None:
    """`name|uid[:group|gid]` of this machine, None where that is swarmd's own user already.

    Raises RuntimeRefused where there is none, or it is not ours to become.
    """
    name, _, group = text.partition(":")
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        uid, gid = entry.pw_uid, entry.pw_gid
        groups = tuple(os.getgrouplist(entry.pw_name, gid))
    except KeyError:
        if not name.isdigit():
            raise RuntimeRefused(f'there is no user "{name}" on this machine', field) from None
        uid, gid, groups = int(name), 0, ()
    if group:
        try:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise RuntimeRefused(f'there is no group "{group}" on this machine', field) from None
        groups = (gid,)
    if os.geteuid() == 0:
        return User(uid, gid, groups)
    if uid != os.geteuid():
        raise RuntimeRefused(f'user "{text}": swarmd runs without root and stays itself', field)
    return None


def _port(key: str) -> Port:
    target, _, protocol = key.partition("/")
    return Port(int(target), protocol)  # pyright: ignore[reportArgumentType] - as it was written


def _free_ports(keys: list[str]) -> list[int]:
    """Ports that nothing uses now; all are held until the last is found."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for key in keys:
            kind = socket.SOCK_DGRAM if key.endswith("/udp") else socket.SOCK_STREAM
            holder = held.enter_context(socket.socket(socket.AF_INET, kind))
            holder.bind((HOST, 0))
            ports.append(holder.getsockname()[1])
        return ports


async def _end_leftovers(task: TaskDir) -> None:
    """The first process died with the monitor; what it left is still in its session."""
    started = task.started()
    if started is None:
        return
    for process in await asyncio.to_thread(_members, started):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _members(started: TaskProcess) -> list[int]:
    found = descendants(set(), {started.process.pid})
    if any(other.pid == started.process.pid and other != started.process for other in found):
        return []  # the pid has been given to somebody else: nothing of the task is left
    return [process.pid for process in found]


def _stats(pid: int) -> Stats:
    """The sum over the task's processes."""
    ticks, pages = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    cpu_ticks = memory = count = 0
    for process in descendants({pid}, {pid}):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu_ticks += int(fields[11]) + int(fields[12])
            memory += int(fields[21]) * pages
            count += 1
    return Stats(cpu_ticks * 1_000_000_000 // ticks, memory, pids=count)
