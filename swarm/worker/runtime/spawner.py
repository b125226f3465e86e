"""The agent's side of monitor.py: one spawner process, a monitor forked for each launch."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from swarm.worker.runtime import monitor
from swarm.worker.runtime.port import RuntimeFailed
from swarm.worker.runtime.processes import ProcessId, wait_gone


class Spawner:
    """Starts monitors. Its process is started at the first launch, and again if it was killed."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._forked: dict[str, asyncio.Future[int]] = {}
        self._settled: dict[str, asyncio.Future[None]] = {}

    async def launch(self, directory: Path) -> None:
        """Returns when the task of that directory has started, or its monitor has given up.

        Its files tell which. Raises RuntimeFailed when no monitor can be started.
        """
        key = str(directory)
        if "\n" in key:
            raise RuntimeFailed(f"a task's directory has a line break in its name: {key!r}")
        process = await self._ensure()
        loop = asyncio.get_running_loop()
        forked = self._forked.setdefault(key, loop.create_future())
        settled = self._settled.setdefault(key, loop.create_future())
        try:
            assert process.stdin is not None
            process.stdin.write(os.fsencode(key) + b"\n")
            pid = await forked
            gone = asyncio.ensure_future(_wait_pid_gone(pid))
            await asyncio.wait({gone, settled}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        except OSError as error:
            raise RuntimeFailed(f"cannot start a monitor: {error.strerror}") from error
        finally:
            self._forked.pop(key, None)
            self._settled.pop(key, None)
            settled.cancel()

    async def close(self) -> None:
        """Ends the spawner; monitors stay."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        if self._reader is not None:
            # A monitor that still starts its task holds the pipe open.
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        transport = process._transport  # pyright: ignore  # noqa: SLF001 - asyncio has no other way
        transport.close()  # pyright: ignore

    async def _ensure(self) -> Process:
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    "-S",
                    monitor.__file__,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=DEVNULL,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    start_new_session=True,
                )
                self._reader = asyncio.create_task(self._read(self._process))
            return self._process

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            word, _, rest = line.rstrip(b"\n").partition(b" ")
            if word == b"forked":
                pid, _, directory = rest.partition(b" ")
                forked = self._forked.get(os.fsdecode(directory))
                if forked is not None and not forked.done():
                    forked.set_result(int(pid))
            elif word == b"settled":
                settled = self._settled.get(os.fsdecode(rest))
                if settled is not None and not settled.done():
                    settled.set_result(None)
        for forked in self._forked.values():
            if not forked.done():
                forked.set_exception(RuntimeFailed("the spawner of monitors was killed"))


async def _wait_pid_gone(pid: int) -> None:
    """The spawner reaps its monitors itself, so a pid may be gone, or a zombie, by now."""
    try:
        start_time = monitor.start_time(pid)
    except (OSError, IndexError):
        return
    await wait_gone(ProcessId(pid, start_time))
