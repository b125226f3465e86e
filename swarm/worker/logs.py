"""The output of one task on its way to a manager: lines gathered into batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from swarm.api.v1.logs_pb2 import (
    LOG_STREAM_STDERR,
    LOG_STREAM_STDOUT,
    LogBatch,
    LogLine,
    LogOptions,
)
from swarm.worker.runtime import port

BATCH_LINES = 500
BATCH_BYTES = 256 * 1024
LINES_WAITING = 1000


async def send_logs(
    runtime: port.Runtime,
    node_id: str,
    task_id: str,
    subscription_id: str,
    options: LogOptions,
    send: Callable[[LogBatch], Awaitable[None]],
) -> None:
    """Reads to the end, or with `follow` to the task's end. What is not taken is not read on.

    Raises an ExceptionGroup of what the runtime or `send` raised.
    """
    lines: asyncio.Queue[port.LogLine | None] = asyncio.Queue(LINES_WAITING)
    async with asyncio.TaskGroup() as group:
        group.create_task(_read(runtime, task_id, options, lines))
        while batch := await _next_batch(lines):
            await send(
                LogBatch(
                    subscription_id=subscription_id,
                    lines=[_message(line, node_id, task_id) for line in batch],
                )
            )


async def _read(
    runtime: port.Runtime,
    task_id: str,
    options: LogOptions,
    lines: asyncio.Queue[port.LogLine | None],
) -> None:
    streams = [name for name in ("stdout", "stderr") if getattr(options, name)]
    async for line in runtime.logs(
        task_id,
        follow=options.follow,
        tail=options.tail if options.tail >= 0 else None,
        since_ns=options.since_ns,
        until_ns=options.until_ns,
        streams=streams or ("stdout", "stderr"),
    ):
        await lines.put(line)
    await lines.put(None)


async def _next_batch(lines: asyncio.Queue[port.LogLine | None]) -> list[port.LogLine]:
    """What is there already goes together; empty at the end."""
    batch: list[port.LogLine] = []
    size = 0
    line = await lines.get()
    while line is not None:
        batch.append(line)
        size += len(line.data)
        if len(batch) >= BATCH_LINES or size >= BATCH_BYTES or lines.empty():
            return batch
        line = lines.get_nowait()
    if batch:
        lines.put_nowait(None)
    return batch


def _message(line: port.LogLine, node_id: str, task_id: str) -> LogLine:
    return LogLine(
        task_id=task_id,
        node_id=node_id,
        timestamp_ns=line.timestamp_ns,
        stream=LOG_STREAM_STDERR if line.stream == "stderr" else LOG_STREAM_STDOUT,
        data=line.data.removesuffix(b"\n"),
    )
