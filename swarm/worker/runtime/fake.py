"""A runtime in memory, for tests of the agent: tasks run until they are told how to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarm.worker.runtime.port import (
    ContainerState,
    Endpoint,
    ExecOptions,
    ExecProcess,
    Exit,
    Found,
    Health,
    HealthStatus,
    Image,
    LogLine,
    Probe,
    RuntimeFailed,
    RuntimeRefused,
    Started,
    Stats,
    TaskRun,
)


@dataclass
class FakeTask:
    """One container: `finish` ends it, `output` is its log."""

    run: TaskRun
    started: Started | None = None
    exit: Exit | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    health: asyncio.Queue[Health] = field(default_factory=lambda: asyncio.Queue[Health]())
    output: list[LogLine] = field(default_factory=list[LogLine])


class FakeRuntime:
    """A Runtime (port.py). Failures are put in by the task's id before it gets there.

    `refusals` and `failures` are raised by `prepare`, `start_failures` by `start`. A task whose
    signal is in `deaf` ends by SIGKILL only. `calls` is what was asked, in order.
    """

    name = "fake"

    def __init__(self) -> None:
        self.tasks: dict[str, FakeTask] = {}
        self.refusals: dict[str, RuntimeRefused] = {}
        self.failures: dict[str, RuntimeFailed] = {}
        self.start_failures: dict[str, RuntimeFailed] = {}
        self.deaf: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.images = FakeImages()
        self.now_ns = 1

    def finish(self, task_id: str, exit_code: int | None = 0, message: str = "") -> None:
        """Ends a task that runs."""
        task = self._task(task_id)
        if task.exit is None:
            task.exit = Exit(exit_code, self.now_ns, False, message)
            task.ended.set()

    def set_health(self, task_id: str, status: HealthStatus) -> None:
        self._task(task_id).health.put_nowait(Health(status))

    async def probe(self) -> Probe:
        return Probe(True)

    async def bridge(self) -> str:
        return ""

    async def prepare(self, run: TaskRun) -> None:
        self.calls.append(("prepare", run.task_id))
        for planned in (self.refusals, self.failures):
            if run.task_id in planned:
                raise planned[run.task_id]
        self.tasks.setdefault(run.task_id, FakeTask(run))

    async def start(self, task_id: str) -> Started:
        self.calls.append(("start", task_id))
        task = self._task(task_id)
        if task_id in self.start_failures:
            self.finish(task_id, None, str(self.start_failures[task_id]))
            raise self.start_failures[task_id]
        if task.started is None:
            number = len(self.tasks)
            endpoints = {
                port: Endpoint("127.0.0.1", 20000 + 100 * number + offset)
                for offset, port in enumerate(task.run.ports)
            }
            task.started = Started(f"container-{task_id}", number, self.now_ns, "", endpoints)
        return task.started

    async def wait(self, task_id: str) -> Exit:
        task = self._task(task_id)
        await task.ended.wait()
        assert task.exit is not None
        return task.exit

    async def stop(self, task_id: str, signal: str = "", grace_s: float = 10.0) -> None:
        self.calls.append(("stop", task_id))
        task = self.tasks.get(task_id)
        if task is None or task.started is None:
            return
        if task_id in self.deaf:
            await asyncio.wait({asyncio.ensure_future(task.ended.wait())}, timeout=grace_s)
            self.finish(task_id, 137)
        self.finish(task_id, 130 if signal == "SIGINT" else 143)

    async def kill(self, task_id: str) -> None:
        self.calls.append(("kill", task_id))
        if task_id in self.tasks and self.tasks[task_id].started is not None:
            self.finish(task_id, 137)

    async def remove(self, task_id: str) -> None:
        self.calls.append(("remove", task_id))
        if task_id in self.tasks:
            self.finish(task_id, 137)
            del self.tasks[task_id]

    async def logs(
        self,
        task_id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ns: int = 0,
        until_ns: int = 0,
        streams: Sequence[str] = ("stdout", "stderr"),
    ) -> AsyncIterator[LogLine]:
        task = self._task(task_id)
        if follow:
            await task.ended.wait()
        lines = [
            line
            for line in task.output
            if line.timestamp_ns >= since_ns
            and (not until_ns or line.timestamp_ns <= until_ns)
            and line.stream in streams
        ]
        for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
            yield line

    async def list(self) -> list[Found]:
        return [
            Found(task_id, task.run.name, _state(task), task.run.labels, task.exit)
            for task_id, task in self.tasks.items()
        ]

    async def health(self, task_id: str) -> AsyncIterator[Health]:
        task = self._task(task_id)
        if task.run.healthcheck is None:
            yield Health(HealthStatus.NONE)
            return
        yield Health(HealthStatus.STARTING)
        ended = asyncio.ensure_future(task.ended.wait())
        try:
            while True:
                change = asyncio.ensure_future(task.health.get())
                await asyncio.wait({change, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not change.done():
                    change.cancel()
                    return
                yield change.result()
        finally:
            ended.cancel()

    async def stats(self, task_id: str) -> Stats:
        self._task(task_id)
        return Stats(1_000_000, 1024, pids=1)

    async def exec(self, task_id: str, options: ExecOptions) -> ExecProcess:
        raise RuntimeFailed(f"task {task_id}: the fake runtime cannot run {options.command}")

    async def close(self) -> None:
        self.calls.append(("close", ""))

    def _task(self, task_id: str) -> FakeTask:
        if task_id not in self.tasks:
            raise RuntimeFailed(f"there is no task {task_id} on this node")
        return self.tasks[task_id]


def _state(task: FakeTask) -> ContainerState:
    if task.exit is not None:
        return ContainerState.EXITED
    return ContainerState.RUNNING if task.started is not None else ContainerState.CREATED


class FakeImages:
    """Images by reference; an archive "holds" its file's name."""

    def __init__(self) -> None:
        self.present: dict[str, Image] = {}

    async def has(self, reference: str) -> bool:
        return reference in self.present

    async def list(self) -> list[Image]:
        return list(self.present.values())

    async def load(self, archive: Path) -> list[str]:
        self.present[archive.stem] = Image(archive.stem, "sha256:" + "0" * 64, 0)
        return [archive.stem]

    async def save(self, reference: str, archive: Path) -> None:
        if reference not in self.present:
            raise RuntimeRefused(f"there is no image {reference} on this node", "image")
        await asyncio.to_thread(archive.write_bytes, reference.encode())

    async def remove(self, reference: str) -> None:
        self.present.pop(reference, None)
