"""A command in a container of the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from aiodocker.execs import Exec
from aiodocker.stream import Stream

from swarm.worker.runtime.docker.errors import engine_errors
from swarm.worker.runtime.port import LogLine

STDERR = 2


class DockerExec:
    """An ExecProcess (port.py). The engine cannot kill a command, so `close` only lets go."""

    def __init__(self, command: Exec, stream: Stream) -> None:
        self._command = command
        self._stream = stream

    async def output(self) -> AsyncIterator[LogLine]:
        while True:
            async with engine_errors("read from the command"):
                message = await self._stream.read_out()
            if message is None:
                return
            stream = "stderr" if message.stream == STDERR else "stdout"
            yield LogLine(stream, time.time_ns(), message.data)

    async def write(self, data: bytes) -> None:
        async with engine_errors("write to the command"):
            await self._stream.write_in(data)

    async def close_stdin(self) -> None:
        response = self._stream._resp  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        transport = response.connection.transport if response and response.connection else None
        if isinstance(transport, asyncio.WriteTransport) and transport.can_write_eof():
            transport.write_eof()

    async def resize(self, rows: int, columns: int) -> None:
        async with engine_errors("resize the terminal"):
            await self._command.resize(h=rows, w=columns)

    async def wait(self) -> int:
        async with engine_errors("ask for the exit code"):
            found = await self._command.inspect()
        return int(found.get("ExitCode") or 0)

    async def close(self) -> None:
        await self._stream.close()
