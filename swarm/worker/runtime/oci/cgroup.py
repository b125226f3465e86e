"""A container's control group, in version 1 (hybrid too) or 2: what it used, and whether it was
killed for want of memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from swarm.worker.runtime.port import Stats

ROOT = Path("/sys/fs/cgroup")


def group_path(netns_name: str) -> str:
    """Named as the task's network namespace, which no other task of this machine has.

    At the top, so that nothing is left when the runtime has removed it.
    """
    return f"/swarm-{netns_name}"


def oom_files(group: str) -> list[str]:
    """Where a line `oom_kill n` may stand."""
    return [f"{ROOT}/memory{group}/memory.oom_control", f"{ROOT}{group}/memory.events"]


def stats(group: str) -> Stats:
    if (ROOT / "cgroup.controllers").exists():
        own = Path(f"{ROOT}{group}")
        usage = _fields(own / "cpu.stat").get("usage_usec", 0) * 1000
        return Stats(
            usage,
            _number(own / "memory.current"),
            _number(own / "memory.max"),
            _number(own / "pids.current"),
        )
    memory = Path(f"{ROOT}/memory{group}")
    limit = _number(memory / "memory.limit_in_bytes")
    return Stats(
        _number(Path(f"{ROOT}/cpuacct{group}/cpuacct.usage")),
        _number(memory / "memory.usage_in_bytes"),
        limit if limit < 2**62 else 0,  # the kernel's word for none is a very large number
        _number(Path(f"{ROOT}/pids{group}/pids.current")),
    )


def _number(path: Path) -> int:
    with suppress(OSError, ValueError):  # "max" is no limit
        return int(path.read_text())
    return 0


def _fields(path: Path) -> dict[str, int]:
    with suppress(OSError, ValueError):
        return {key: int(value) for key, value in map(str.split, path.read_text().splitlines())}
    return {}
