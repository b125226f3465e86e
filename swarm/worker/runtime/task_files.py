"""Secrets and configs of tasks on this node: files in memory, mounted into the containers."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from swarm.worker.runtime.port import RuntimeFailed, RuntimeRefused, TaskFile

MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


class LaidFile(NamedTuple):
    path: Path  # on this machine
    target: str  # in the container


class TaskFiles:
    """Lays the files under a directory of this node's own on a tmpfs, whatever the disk."""

    def __init__(self, *owner: str) -> None:
        """`owner`: words that are this runtime's on this node alone."""
        name = "\0".join(owner)
        self._name = f"swarm-{hashlib.sha256(name.encode()).hexdigest()[:16]}"

    def lay(self, task_id: str, files: tuple[TaskFile, ...]) -> list[LaidFile]:
        """Raises RuntimeRefused where this machine has no tmpfs to write to."""
        if not files:
            return []
        names = [str(number) for number in range(len(files))]
        directory = self.lay_named(task_id, dict(zip(names, files, strict=True)))
        return [
            LaidFile(directory / name, file.target) for name, file in zip(names, files, strict=True)
        ]

    def lay_named(
        self, task_id: str, files: Mapping[str, TaskFile], user: tuple[int, int] | None = None
    ) -> Path:
        """The directory with the files by their names in it, which is `user`'s (uid, gid).

        Raises RuntimeRefused where this machine has no tmpfs to write to.
        """
        _refuse_foreign_owners(files.values())
        directory = self._memory() / self._name / task_id
        try:
            _make(directory)
            if user is not None:
                os.chown(directory, *user)
            for name, file in files.items():
                for folder in reversed(Path(name).parents[:-1]):
                    (directory / folder).mkdir(exist_ok=True)
                    (directory / folder).chmod(0o755)  # whatever our umask is
                _write(directory / name, file)
        except OSError as error:
            raise RuntimeFailed(f"cannot lay secrets in memory: {error.strerror}") from None
        return directory

    def remove(self, task_id: str) -> None:
        """The node's directory goes with its last task."""
        for root in memory_folders():
            directory = root / self._name / task_id
            if directory.is_dir():
                shutil.rmtree(directory, ignore_errors=True)
                with suppress(OSError):
                    directory.parent.rmdir()

    def _memory(self) -> Path:
        mounts = _mounts()
        for root in memory_folders():
            if os.access(root, os.W_OK) and _file_system(root, mounts) in MEMORY_FILE_SYSTEMS:
                return root
        raise RuntimeRefused("secrets and configs need a tmpfs: mount one on /run", "files")


def _make(directory: Path) -> None:
    """The directory of a task, in that of its node. Raises RuntimeRefused, OSError."""
    parent = directory.parent
    while True:
        parent.mkdir(mode=0o700, exist_ok=True)
        found = parent.lstat()
        # On /dev/shm anybody could have been here first.
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            raise RuntimeRefused(f"{parent} belongs to somebody else: remove it", "files")
        with suppress(FileNotFoundError):  # the node's last task was removed in between
            # Others may go through, to a task's directory that is theirs, but see no names.
            parent.chmod(0o711)
            directory.mkdir(mode=0o700, exist_ok=True)
            return


def _refuse_foreign_owners(files: Iterable[TaskFile]) -> None:
    """Only root may give a file away; 0 stands for whoever swarmd runs as."""
    if os.geteuid() == 0:
        return
    for file in files:
        if file.uid not in (0, os.geteuid()) or file.gid not in (0, os.getegid()):
            raise RuntimeRefused(
                f"{file.target}: swarmd runs without root and cannot give it to uid {file.uid}, "
                f"gid {file.gid}",
                "files",
            )


def _write(path: Path, file: TaskFile) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        left = memoryview(file.data)
        while left:
            left = left[os.write(descriptor, left) :]
        if os.geteuid() == 0:
            os.fchown(descriptor, file.uid, file.gid)
        os.fchmod(descriptor, file.mode)
    finally:
        os.close(descriptor)


def memory_folders() -> list[Path]:
    """Where a tmpfs may be; whether it is one is another question."""
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
