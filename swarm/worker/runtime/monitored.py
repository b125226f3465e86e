"""The tasks of one state directory that monitors look after: what `process` and `oci` share."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from swarm.worker.runtime.log_file import read_log
from swarm.worker.runtime.port import (
    ContainerState,
    Exit,
    Found,
    LogLine,
    RuntimeFailed,
    RuntimeRefused,
)
from swarm.worker.runtime.processes import is_alive, send_signal, wait_gone
from swarm.worker.runtime.spawner import Spawner
from swarm.worker.runtime.task_dir import TaskDir, TaskProcess

LOG_BYTES_MAX = 10 * 1024 * 1024
LOG_FILES_MAX = 3
ADOPT_POLL_S = 0.02
KILL_WAIT_S = 10.0


class MonitoredTasks:
    """Starts, waits for, stops and lists them.

    `end_leftovers` ends what still runs of a task whose monitor was killed. At most `parallel`
    tasks are started at once: more would only compete for the processors.
    """

    def __init__(
        self, directory: Path, end_leftovers: Callable[[TaskDir], Awaitable[None]]
    ) -> None:
        self._directory = directory
        self._end_leftovers = end_leftovers
        self._spawner = Spawner()
        self._starting = asyncio.Semaphore(max(2, os.cpu_count() or 2))
        self._locks: dict[str, asyncio.Lock] = {}

    def task(self, task_id: str) -> TaskDir:
        if not task_id or "/" in task_id or task_id.startswith("."):
            raise RuntimeRefused(f"{task_id!r} cannot be a task's id", "task_id")
        return TaskDir(self._directory / task_id)

    def tasks(self) -> list[TaskDir]:
        if not self._directory.is_dir():
            return []
        return [TaskDir(path) for path in sorted(self._directory.iterdir()) if path.is_dir()]

    async def start(
        self, task_id: str, launch: Callable[[], Awaitable[dict[str, Any]]]
    ) -> TaskProcess:
        """Starts a prepared task by what `launch` returns; one that was started is adopted."""
        task = self.task(task_id)
        if task.read_run() is None:
            raise RuntimeFailed(f"task {task_id} is not prepared on this node")
        async with self._locks.setdefault(task_id, asyncio.Lock()):
            if task.state() is ContainerState.CREATED:
                async with self._starting:
                    if task.read_launch() is None:
                        task.write_launch(await launch())
                    await self._spawner.launch(task.path)
        return await self._settled(task)

    async def _settled(self, task: TaskDir) -> TaskProcess:
        """What was started; a monitor that an earlier agent launched may still be at it."""
        while True:
            running = task.state() is ContainerState.RUNNING
            started = task.started()
            if started is not None:
                return started
            ended = task.exit()
            if ended is not None:
                raise RuntimeFailed(ended.message)
            if not running:
                raise RuntimeFailed("the monitor was killed before the task had started")
            await asyncio.sleep(ADOPT_POLL_S)

    async def wait(self, task_id: str) -> Exit:
        task = self.task(task_id)
        ended = task.exit()
        if ended is not None:
            return ended
        monitor = task.monitor()
        if monitor is None:
            raise RuntimeFailed(f"task {task_id} was not started on this node")
        await wait_gone(monitor)
        ended = task.exit()
        if ended is not None:
            return ended
        await self._end_leftovers(task)
        return task.write_lost() if task.exists() else Exit(None, 0, False, "it was removed")

    async def stop(self, task_id: str, number: int, grace_s: float) -> None:
        """Signals the task's first process, kills it after the grace, returns when it ended."""
        task = self.task(task_id)
        if not task.exists():
            return
        async with self._locks.setdefault(task_id, asyncio.Lock()):
            if task.state() is ContainerState.CREATED:
                return
        try:
            started = await self._settled(task)
        except RuntimeFailed:
            return
        if grace_s > 0 and number != signal.SIGKILL:
            send_signal(started.process, number)
            try:
                await asyncio.wait_for(self.wait(task_id), grace_s)
            except TimeoutError:
                pass
            else:
                return
        send_signal(started.process, signal.SIGKILL)
        try:
            await asyncio.wait_for(self.wait(task_id), KILL_WAIT_S)
        except TimeoutError:
            raise RuntimeFailed(f"task {task_id} does not end, even by SIGKILL") from None

    async def forget(self, task_id: str) -> None:
        """Removes the directory of a task that has ended."""
        task = self.task(task_id)
        monitor = task.monitor()
        if monitor is not None:
            await wait_gone(monitor)
        await asyncio.to_thread(shutil.rmtree, task.path, ignore_errors=True)
        self._locks.pop(task_id, None)

    def is_running(self, task_id: str) -> bool:
        return self.task(task_id).state() is ContainerState.RUNNING

    def running_process(self, task_id: str) -> TaskProcess:
        """Raises RuntimeFailed where the task does not run."""
        started = self.task(task_id).started()
        if started is None or not is_alive(started.process):
            raise RuntimeFailed(f"task {task_id} is not running on this node")
        return started

    async def list(self) -> list[Found]:
        found: list[Found] = []
        for task in self.tasks():
            state = task.state()
            ended = await self.wait(task.task_id) if state is ContainerState.EXITED else None
            run = task.read_run() or {}
            found.append(
                Found(task.task_id, run.get("name", ""), state, run.get("labels", {}), ended)
            )
        return found

    def logs(
        self,
        task_id: str,
        *,
        follow: bool,
        tail: int | None,
        since_ns: int,
        until_ns: int,
        streams: Sequence[str],
    ) -> AsyncIterator[LogLine]:
        task = self.task(task_id)
        if not task.exists():
            raise RuntimeFailed(f"there is no task {task_id} on this node")
        return read_log(
            task.log,
            ended=lambda: not task.exists() or task.state() is ContainerState.EXITED,
            follow=follow,
            tail=tail,
            since_ns=since_ns,
            until_ns=until_ns,
            streams=streams,
        )

    async def close(self) -> None:
        await self._spawner.close()


def log_limits(driver: str, options: dict[str, str]) -> tuple[int, int]:
    """Bytes a file and files of a log, from Docker's json-file options.

    Raises RuntimeRefused for another driver, another option, or a value that is no size.
    """
    if driver not in ("", "json-file", "local"):
        raise RuntimeRefused(
            f'log driver "{driver}" needs the docker runtime; here there is json-file', "log_driver"
        )
    unknown = sorted(set(options) - {"max-size", "max-file"})
    if unknown:
        raise RuntimeRefused(
            f'log option "{unknown[0]}" is not known here; there are max-size and max-file',
            "log_options",
        )
    size, files = options.get("max-size", ""), options.get("max-file", "")
    return (
        _size_bytes(size) if size else LOG_BYTES_MAX,
        _count(files) if files else LOG_FILES_MAX,
    )


def _size_bytes(text: str) -> int:
    units = {"k": 1024, "m": 1024**2, "g": 1024**3}
    number = text.lower().removesuffix("b")
    factor = units.get(number[-1:], 1)
    digits = number[:-1] if factor > 1 else number
    if not digits.isdigit() or int(digits) == 0:
        raise RuntimeRefused(f'log option max-size: "{text}" is no size such as 10m', "log_options")
    return int(digits) * factor


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 999:
        raise RuntimeRefused(f'log option max-file: "{text}" is not 1 to 999', "log_options")
    return int(text)


def signal_number(text: str) -> int:
    """Docker's `--stop-signal`: "SIGINT", "INT", "rtmin+3" or a number.

    Raises RuntimeRefused where there is no such signal.
    """
    name = text.upper().removeprefix("SIG")
    if name.isdigit() and 1 <= int(name) <= 64:
        return int(name)
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    number = getattr(signal, f"SIG{base}", None)
    if isinstance(number, int) and (not sign or offset.isdigit()):
        shift = int(offset) if sign == "+" else -int(offset) if sign else 0
        return int(number) + shift
    raise RuntimeRefused(f'stop signal "{text}" is not known', "stop_signal")
