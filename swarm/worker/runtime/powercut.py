"""A power cut for a node of a local test cluster: all of its tasks die at once, unseen."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from swarm.worker.runtime.processes import ProcessId, descendants, is_alive
from swarm.worker.runtime.task_dir import TaskDir


def kill_node(state_dir: Path) -> int:
    """Kills the monitors and tasks of the `process` and `oci` runtimes under `state_dir`.

    That is RuntimeConfig's (select.py). Nothing is written, as in a power cut; what a reboot would
    take away (mounts, namespaces) stays until the task is removed. Returns how many tasks ran.
    """
    directories = [state_dir / kind / "tasks" for kind in ("process", "oci")]
    tasks = [
        TaskDir(path)
        for directory in directories
        if directory.is_dir()
        for path in directory.iterdir()
    ]
    roots: list[ProcessId] = []
    running = 0
    for task in tasks:
        started = task.started()
        recorded = [task.monitor(), started.process if started else None]
        alive = [process for process in recorded if process is not None and is_alive(process)]
        roots += alive
        running += bool(alive)
    pids = {process.pid for process in roots}
    # Frozen first, so that no monitor sees its task die and no task gets another child.
    _signal_all(descendants(pids, pids), signal.SIGSTOP)
    _signal_all(descendants(pids, pids), signal.SIGKILL)
    return running


def _signal_all(processes: set[ProcessId], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
