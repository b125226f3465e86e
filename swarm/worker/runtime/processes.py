"""Processes of this machine by pid and start time, which together name one process for good."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class ProcessId(NamedTuple):
    pid: int
    start_time: int  # clock ticks since boot, field 22 of /proc/PID/stat


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state (field 3) on; None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def is_alive(process: ProcessId) -> bool:
    """Whether that very process is there and no zombie."""
    fields = _stat(process.pid)
    return fields is not None and fields[0] not in "ZX" and int(fields[19]) == process.start_time


def open_pidfd(process: ProcessId) -> int | None:
    """A pidfd of that very process, or None where it has ended. The caller closes it."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    if is_alive(process):
        return descriptor
    os.close(descriptor)
    return None


def send_signal(process: ProcessId, number: int) -> None:
    """Signals that very process; one that has ended is no error."""
    descriptor = open_pidfd(process)
    if descriptor is None:
        return
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)
    os.close(descriptor)


async def wait_gone(process: ProcessId) -> None:
    """Returns when that very process has ended."""
    descriptor = open_pidfd(process)
    if descriptor is None:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def descendants(roots: set[int], sessions: set[int]) -> set[ProcessId]:
    """The roots that live, all below them, and all in `sessions`; one pass over /proc."""
    parents: dict[int, int] = {}
    found: dict[int, ProcessId] = {}
    members = set(roots)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            continue
        parents[pid] = int(fields[1])
        found[pid] = ProcessId(pid, int(fields[19]))
        if int(fields[3]) in sessions:
            members.add(pid)
    growing = True
    while growing:
        below = {pid for pid, parent in parents.items() if parent in members} - members
        members |= below
        growing = bool(below)
    return {found[pid] for pid in members if pid in found}
