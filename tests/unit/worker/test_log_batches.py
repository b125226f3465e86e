"""Lines of a task to batches for a manager."""

from __future__ import annotations

import asyncio

import pytest

from swarm.api.v1.logs_pb2 import LOG_STREAM_STDERR, LogOptions
from swarm.worker.logs import BATCH_LINES, LINES_WAITING, send_logs
from swarm.worker.runtime.fake import FakeRuntime
from swarm.worker.runtime.port import LogLine, RuntimeFailed, TaskRun


@pytest.fixture
async def runtime():
    runtime = FakeRuntime()
    await runtime.prepare(TaskRun("t1", "web.1.t1", "any"))
    await runtime.start("t1")
    return runtime


async def read(runtime, **options):
    batches = []

    async def send(batch):
        batches.append(batch)

    await send_logs(runtime, "n1", "t1", "sub", LogOptions(tail=-1, **options), send)
    return batches


async def test_many_lines_go_in_few_batches(runtime):
    runtime.tasks["t1"].output += [LogLine("stdout", n, b"%d\n" % n) for n in range(1200)]
    batches = await read(runtime)
    lines = [line for batch in batches for line in batch.lines]
    assert [line.data for line in lines] == [b"%d" % n for n in range(1200)]
    assert (lines[0].task_id, lines[0].node_id) == ("t1", "n1")
    assert len(batches) <= 1200 / BATCH_LINES + 3
    assert {batch.subscription_id for batch in batches} == {"sub"}


async def test_one_stream_alone(runtime):
    runtime.tasks["t1"].output += [LogLine("stdout", 1, b"a\n"), LogLine("stderr", 2, b"b")]
    [batch] = await read(runtime, stderr=True)
    assert [(line.data, line.stream) for line in batch.lines] == [(b"b", LOG_STREAM_STDERR)]


async def test_nothing_to_say(runtime):
    assert await read(runtime) == []


async def test_no_more_is_read_than_is_taken(runtime):
    produced = 0

    async def endless(*_, **__):
        nonlocal produced
        while True:
            produced += 1
            yield LogLine("stdout", produced, b"x\n")

    runtime.logs = endless

    async def stuck(_):
        await asyncio.Event().wait()

    reading = asyncio.create_task(send_logs(runtime, "n", "t1", "sub", LogOptions(), stuck))
    before = -1
    while produced != before:
        before = produced
        await asyncio.sleep(0.05)
    assert produced <= LINES_WAITING + BATCH_LINES + 1
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_failure_is_raised(runtime):
    async def broken(*_, **__):
        yield LogLine("stdout", 1, b"x\n")
        raise RuntimeFailed("the log is gone")

    runtime.logs = broken
    with pytest.raises(ExceptionGroup) as raised:
        await read(runtime)
    assert str(raised.value.exceptions[0]) == "the log is gone"
