"""The runtime in memory does what the port says."""

from __future__ import annotations

import asyncio

import pytest

from swarm.worker.runtime.fake import FakeRuntime
from swarm.worker.runtime.port import (
    ContainerState,
    Healthcheck,
    HealthStatus,
    LogLine,
    Port,
    Runtime,
    RuntimeFailed,
    RuntimeRefused,
    TaskRun,
)


@pytest.fixture
def fake() -> FakeRuntime:
    return FakeRuntime()


def as_port(fake: FakeRuntime) -> Runtime:
    return fake  # the type checker compares it with the port


async def test_life_and_restart(fake: FakeRuntime):
    runtime = as_port(fake)
    await runtime.prepare(TaskRun("t", "n", "i", ports=(Port(80),)))
    started = await runtime.start("t")
    assert await runtime.start("t") == started
    assert set(started.endpoints) == {Port(80)}
    assert [found.state for found in await runtime.list()] == [ContainerState.RUNNING]
    waiting = asyncio.create_task(runtime.wait("t"))
    fake.finish("t", 3)
    assert (await waiting).exit_code == 3
    await runtime.stop("t")
    assert (await runtime.wait("t")).exit_code == 3
    await runtime.remove("t")
    await runtime.remove("t")
    assert await runtime.list() == []


async def test_planned_failures(fake: FakeRuntime):
    fake.refusals["a"] = RuntimeRefused("no such image", "image")
    fake.start_failures["b"] = RuntimeFailed("no")
    with pytest.raises(RuntimeRefused):
        await fake.prepare(TaskRun("a", "a", "i"))
    await fake.prepare(TaskRun("b", "b", "i"))
    with pytest.raises(RuntimeFailed):
        await fake.start("b")
    assert (await fake.wait("b")).message == "no"


async def test_a_deaf_task_ends_by_force(fake: FakeRuntime):
    for task_id in ("soft", "deaf"):
        await fake.prepare(TaskRun(task_id, task_id, "i"))
        await fake.start(task_id)
    fake.deaf.add("deaf")
    await fake.stop("soft")
    await fake.stop("deaf", grace_s=0.01)
    assert (await fake.wait("soft")).exit_code == 143
    assert (await fake.wait("deaf")).exit_code == 137


async def test_health_and_logs(fake: FakeRuntime):
    await fake.prepare(TaskRun("t", "t", "i", healthcheck=Healthcheck(("CMD", "x"))))
    await fake.start("t")
    fake.tasks["t"].output += [LogLine("stdout", 1, b"a\n"), LogLine("stderr", 2, b"b\n")]
    fake.set_health("t", HealthStatus.HEALTHY)
    seen: list[HealthStatus] = []
    async for health in fake.health("t"):
        seen.append(health.status)
        if health.status is HealthStatus.HEALTHY:
            fake.finish("t")
    assert seen == [HealthStatus.STARTING, HealthStatus.HEALTHY]
    assert [line.data async for line in fake.logs("t", tail=1)] == [b"b\n"]
    assert [line.data async for line in fake.logs("t", streams=("stdout",))] == [b"a\n"]
