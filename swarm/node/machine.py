"""Facts about this machine, for `swarmd check`. Linux; blocking."""

import ctypes
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

_STA_UNSYNC = 0x40  # adjtimex(2)
_STATUS_OFFSET = 40  # of `status` in struct timex on 64-bit Linux
_TIMEX_BYTES = 256  # more than it takes
_FSYNCS = 30
_RECORD_BYTES = 4096


def has_module(name: str, root: Path = Path("/")) -> bool:
    """Whether the kernel has it: loaded, built in, or there to be loaded."""
    if (root / "sys/module" / name).exists():
        return True
    if name in _file_systems(root):
        return True
    modules = root / "lib/modules" / platform.release()
    wanted = {f"{name}.ko", *(f"{name}.ko.{packed}" for packed in ("xz", "zst", "gz"))}
    for index in ("modules.builtin", "modules.dep"):
        try:
            lines = (modules / index).read_text().splitlines()
        except OSError:
            continue
        if any(line.partition(":")[0].rpartition("/")[2] in wanted for line in lines):
            return True
    return False


def _file_systems(root: Path) -> set[str]:
    try:
        return {line.split()[-1] for line in (root / "proc/filesystems").read_text().splitlines()}
    except OSError:
        return set()


def has_link_type(kind: str) -> bool:
    """Whether network links of this kind can be made. As root: one is, for a moment, in a network
    namespace of its own, which a kernel without modules can answer, too."""
    command = ["unshare", "--net", "ip", "link", "add", "swarm-check", "type", kind]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def cgroup_controllers(root: Path = Path("/sys/fs/cgroup")) -> tuple[int, set[str]]:
    """The version of control groups, 0 for none, and the controllers that there are."""
    try:
        return 2, set((root / "cgroup.controllers").read_text().split())
    except OSError:
        pass
    try:
        found = {name for entry in root.iterdir() for name in entry.name.split(",")}
    except OSError:
        return 0, set()
    return (1, found) if found else (0, set())


def is_clock_synchronised() -> bool | None:
    """What the kernel was told by NTP's daemon; None where that can't be known."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state = ctypes.CDLL(None).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    status = int.from_bytes(buffer.raw[_STATUS_OFFSET : _STATUS_OFFSET + 4], "little")
    return not status & _STA_UNSYNC


def fsync_ms(folder: Path) -> tuple[float, float]:
    """Median and slowest of some writes like those of Raft's log, in milliseconds. OSError."""
    times: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_FSYNCS):
            file.write(os.urandom(_RECORD_BYTES))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), max(times)


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
