"""A command in a task that is a child process of the agent: plain, or `runc exec`."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from swarm.worker.runtime.port import LogLine, RuntimeFailed

READ_BYTES = 64 * 1024
CHECK_OUTPUT_BYTES_MAX = 64 * 1024

TAKE_TERMINAL = """
import fcntl, json, os, sys, termios, warnings  # warnings: execvp imports it
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
user = json.loads(sys.argv[1])
if user:
    os.setgroups(user[2])
    os.setgid(user[1])
    os.setuid(user[0])
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f'cannot run "{sys.argv[2]}": {error.strerror}')
"""


class SubprocessExec:
    """An ExecProcess over a child process, with pipes or a terminal of its own."""

    def __init__(self, process: Process, terminal: int | None) -> None:
        self._process = process
        self._terminal = terminal

    @classmethod
    async def start(
        cls,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str],
        cwd: str | Path,
        tty: bool,
        open_stdin: bool,
        control: bool = False,
        user: tuple[int, int, Sequence[int]] | None = None,
    ) -> SubprocessExec:
        """Raises RuntimeFailed when the command cannot be run.

        With `control` the terminal is the command's controlling one; `user` is who it becomes.
        """
        terminal, theirs = pty.openpty() if tty else (None, None)
        if control and theirs is not None:
            # Not by preexec_fn, which is unsafe in a process with threads.
            wrapper = (sys.executable, "-I", "-S", "-c", TAKE_TERMINAL)
            argv = (*wrapper, json.dumps(user), *argv)
            user = None  # the wrapper becomes it, who may read the interpreter
        stdin = PIPE if open_stdin else DEVNULL
        uid, gid, groups = user or (None, None, None)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=stdin if theirs is None else theirs,
                stdout=PIPE if theirs is None else theirs,
                stderr=PIPE if theirs is None else theirs,
                env=env,
                cwd=cwd,
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=groups,
            )
        except OSError as error:
            if terminal is not None:
                os.close(terminal)
            raise RuntimeFailed(f'cannot run "{argv[0]}": {error.strerror}') from None
        finally:
            if theirs is not None:
                os.close(theirs)
        if terminal is not None:
            os.set_blocking(terminal, False)
        return cls(process, terminal)

    async def output(self) -> AsyncIterator[LogLine]:
        if self._terminal is not None:
            async for data in self._read_terminal(self._terminal):
                yield LogLine("stdout", time.time_ns(), data)
            return
        queue: asyncio.Queue[LogLine | None] = asyncio.Queue(16)
        pumps = [
            asyncio.create_task(self._pump(self._process.stdout, "stdout", queue)),
            asyncio.create_task(self._pump(self._process.stderr, "stderr", queue)),
        ]
        try:
            open_streams = len(pumps)
            while open_streams:
                line = await queue.get()
                if line is None:
                    open_streams -= 1
                else:
                    yield line
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self,
        stream: asyncio.StreamReader | None,
        name: Literal["stdout", "stderr"],
        queue: asyncio.Queue[LogLine | None],
    ) -> None:
        assert stream is not None
        while data := await stream.read(READ_BYTES):
            await queue.put(LogLine(name, time.time_ns(), data))
        await queue.put(None)

    async def _read_terminal(self, terminal: int) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(terminal, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                try:
                    data = os.read(terminal, READ_BYTES)
                except BlockingIOError:
                    continue
                except OSError:  # EIO: the command has closed its side
                    return
                if not data:
                    return
                yield data
        finally:
            loop.remove_reader(terminal)

    async def write(self, data: bytes) -> None:
        if self._terminal is not None:
            with suppress(OSError):
                await asyncio.to_thread(_write_all, self._terminal, data)
            return
        if self._process.stdin is not None:
            with suppress(ConnectionError):
                self._process.stdin.write(data)
                await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        if self._terminal is not None:
            await self.write(b"\x04")
        elif self._process.stdin is not None:
            self._process.stdin.close()

    async def resize(self, rows: int, columns: int) -> None:
        if self._terminal is not None:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGWINCH)

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def close(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None
        transport = self._process._transport  # pyright: ignore  # noqa: SLF001 - no other way
        transport.close()  # pyright: ignore


async def run_check(process: SubprocessExec) -> tuple[int, bytes]:
    """Runs a health check's command to its end; its exit code and output."""
    output = bytearray()
    try:
        async for line in process.output():
            if len(output) < CHECK_OUTPUT_BYTES_MAX:
                output += line.data
        return await process.wait(), bytes(output)
    finally:
        await process.close()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            time.sleep(0.005)
