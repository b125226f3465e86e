"""The directory of one task that a monitor looks after: its files, and what they say."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from swarm.worker.runtime.port import ContainerState, Exit
from swarm.worker.runtime.processes import ProcessId, is_alive


@dataclass(frozen=True, slots=True)
class TaskProcess:
    """The first process of a task."""

    process: ProcessId
    started_at_ns: int


class TaskDir:
    """`run.json` is the driver's and comes last in `prepare`; monitor.py describes the others."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def task_id(self) -> str:
        return self.path.name

    @property
    def log(self) -> Path:
        return self.path / "log"

    def exists(self) -> bool:
        return self.path.is_dir()

    def read_run(self) -> dict[str, Any] | None:
        """What `prepare` noted; None where it did not come to its end."""
        return self._read("run.json")

    def write_run(self, content: dict[str, Any]) -> None:
        self._write("run.json", content)

    def read_launch(self) -> dict[str, Any] | None:
        return self._read("launch.json")

    def write_launch(self, content: dict[str, Any]) -> None:
        self._write("launch.json", content)

    def monitor(self) -> ProcessId | None:
        content = self._read("monitor.json")
        return ProcessId(content["pid"], content["start_time"]) if content else None

    def started(self) -> TaskProcess | None:
        content = self._read("started.json")
        if content is None:
            return None
        process = ProcessId(content["pid"], content["start_time"])
        return TaskProcess(process, content["started_at_ns"])

    def exit(self) -> Exit | None:
        content = self._read("exit.json")
        return Exit(**content) if content else None

    def write_lost(self) -> Exit:
        """Notes that nobody saw the end, as the monitor was killed."""
        lost = Exit(None, time.time_ns(), False, "its monitor was killed: how it ended is unknown")
        content = {
            "exit_code": lost.exit_code,
            "finished_at_ns": lost.finished_at_ns,
            "oom": lost.oom,
            "message": lost.message,
        }
        self._write("exit.json", content)
        return lost

    def state(self) -> ContainerState:
        """EXITED without `exit()` means that the monitor was killed."""
        if self.exit() is not None:
            return ContainerState.EXITED
        monitor = self.monitor()
        if monitor is None:
            return ContainerState.CREATED
        if is_alive(monitor):
            return ContainerState.RUNNING
        return ContainerState.EXITED

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return cast("dict[str, Any]", json.loads((self.path / name).read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, name: str, content: dict[str, Any]) -> None:
        fresh = self.path / f"{name}.new"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
        fresh.rename(self.path / name)
