"""Secrets and configs of tasks on this node: files in memory, mounted into the containers."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from swarm.worker.runtime.port import Identity, RuntimeFailed, RuntimeRefused, TaskFile

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


class LaidFile(NamedTuple):
    path: Path  # on this machine
    target: str  # in the container


class TaskFiles:
    """Lays the files under a directory of this node's own on a tmpfs, whatever the disk."""

    def __init__(self, identity: Identity) -> None:
        name = f"{identity.cluster_id}\0{identity.node_id}"
        self._name = f"swarm-{hashlib.sha256(name.encode()).hexdigest()[:16]}"

    def lay(self, task_id: str, files: tuple[TaskFile, ...]) -> list[LaidFile]:
        """Raises RuntimeRefused where this machine has no tmpfs to write to."""
        if not files:
            return []
        directory = self._memory() / self._name / task_id
        laid: list[LaidFile] = []
        try:
            directory.parent.mkdir(mode=0o700, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
            for number, file in enumerate(files):
                path = directory / str(number)
                _write(path, file)
                laid.append(LaidFile(path, file.target))
        except OSError as error:
            raise RuntimeFailed(f"cannot lay secrets in memory: {error.strerror}") from None
        return laid

    def remove(self, task_id: str) -> None:
        """The node's directory goes with its last task."""
        for root in _candidates():
            directory = root / self._name / task_id
            if directory.is_dir():
                shutil.rmtree(directory, ignore_errors=True)
                with suppress(OSError):
                    directory.parent.rmdir()

    def _memory(self) -> Path:
        mounts = _mounts()
        for root in _candidates():
            if os.access(root, os.W_OK) and _file_system(root, mounts) in MEMORY_FILE_SYSTEMS:
                return root
        raise RuntimeRefused("secrets and configs need a tmpfs: mount one on /run", "files")


def _write(path: Path, file: TaskFile) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, file.data)
        if os.geteuid() == 0:
            os.fchown(descriptor, file.uid, file.gid)
        os.fchmod(descriptor, file.mode)
    finally:
        os.close(descriptor)


def _candidates() -> list[Path]:
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    return [Path(name) for name in ("/run", own, "/dev/shm") if name]  # noqa: S108 - it is a tmpfs


def _mounts() -> dict[Path, str]:
    """Mount points and their file systems (proc(5), mountinfo)."""
    mounts: dict[Path, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mounts[Path(before.split()[4])] = after.split()[0]
    return mounts


def _file_system(path: Path, mounts: dict[Path, str]) -> str:
    for parent in (path, *path.parents):
        if parent in mounts:
            return mounts[parent]
    return ""
