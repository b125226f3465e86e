"""A power cut for a node of a local test cluster: all of its tasks die at once, unseen."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

from swarm.worker.runtime.processes import ProcessId, descendants, is_alive, open_pidfd
from swarm.worker.runtime.task_dir import TaskDir

GONE_TIMEOUT_S = 10.0


def kill_node(state_dir: Path) -> int:
    """Kills the monitors and tasks of the `process` and `oci` runtimes under `state_dir`.

    That is RuntimeConfig's (select.py). Nothing is written, as in a power cut; what a reboot would
    take away (mounts, namespaces) stays until the task is removed. Returns how many tasks ran,
    when all are dead.
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
    doomed = descendants(pids, pids)
    descriptors = [found for found in map(open_pidfd, doomed) if found is not None]
    _signal_all(doomed, signal.SIGKILL)
    _wait_gone(descriptors)
    return running


def _wait_gone(descriptors: list[int]) -> None:
    """Waits for the processes of these pidfds, which are readable at their end."""
    deadline = time.monotonic() + GONE_TIMEOUT_S
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(descriptor)


def _signal_all(processes: set[ProcessId], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
