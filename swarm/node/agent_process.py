"""The agent, a process of its own: containers, images and logs never share Raft's loop.

swarmd talks to it in lines of JSON on its stdin and stdout (`swarm.worker.main`). When swarmd
ends, its stdin ends, and so does the agent; tasks stay.
"""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 5.0


class AgentProcess:
    """Keeps an agent running, started anew when it dies. `on_event` gets what it says."""

    def __init__(self, config: dict[str, Any], on_event: Callable[[dict[str, Any]], None]) -> None:
        self._config = config
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._last_words: dict[str, Any] = {}
        self._failure = ""

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name="agent")

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def set_managers(self, addresses: list[str]) -> None:
        self._config["managers"] = addresses
        self._say({"cmd": "managers", "addresses": addresses})

    def change_settings(self, settings: dict[str, Any]) -> None:
        """Some of the keys of its configuration have other values from now on."""
        self._config |= settings
        self._say({"cmd": "settings", "settings": settings})

    def renewed(self) -> None:
        """The certificate on disk is a new one."""
        self._say({"cmd": "renewed"})

    async def stop(self, *, goodbye: bool = False, stop_tasks: bool = False) -> None:
        """End the agent. Tasks stay unless asked otherwise."""
        self._last_words = (
            {"cmd": "stop_all"} if stop_tasks else {"cmd": "stop", "goodbye": goodbye}
        )
        self._stopping.set()
        self._say(self._last_words)
        if self._keeper is not None:
            timeout_s = 60.0 if stop_tasks else 10.0
            _, running = await asyncio.wait({self._keeper}, timeout=timeout_s)
            if running and self._process is not None:
                self._process.kill()
                await self._keeper

    async def _keep(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            code = await self._run()
            if self._stopping.is_set():
                return
            if not self._failure:
                log.warning("the agent ended with exit code %d; it is started again", code)
            if asyncio.get_running_loop().time() - started > _BACKOFF_MAX_S:
                backoff_s = _BACKOFF_FIRST_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)

    async def _run(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "swarm.worker.main",
            "--config",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        self._say(self._config)
        if self._stopping.is_set():
            self._say(self._last_words)
        stdout = self._process.stdout
        assert stdout is not None
        while line := await stdout.readline():
            try:
                event = json.loads(line)
            except ValueError:
                log.warning("the agent said something that is not JSON")
            else:
                self._note_failure(event)
                self._on_event(event)
        return await self._process.wait()

    def _note_failure(self, event: dict[str, Any]) -> None:
        """Why the agent can't work is said once, not at every try."""
        failure = str(event.get("reason", "")) if event.get("event") == "failed" else ""
        if failure and failure != self._failure:
            log.error("the agent can't work: %s; it is tried again", failure)
        self._failure = failure

    def _say(self, command: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            return
        try:
            process.stdin.write(json.dumps(command).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # it is ending; the keeper sees that
