"""A disk of its own for each manager: ext4 in a file, on a loop device, so that an fsync means
what it says and a full disk is full. Needs root."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

# Log segments of 64 MiB (one in use, one in reserve, one on its way out) and snapshots.
SIZE_BYTES = 400 << 20
_SMALLEST = 4096


class Disk:
    """Mounted at `folder` until `close`. Its file has no name any more, and the kernel frees loop
    device and blocks when it is unmounted, or with the mount namespace of whoever made it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.full = False
        image = folder.with_name(f"{folder.name}.img")
        folder.mkdir(exist_ok=True)
        with image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        try:
            # No blocks in reserve for root: it runs the daemons.
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
            subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
        finally:
            image.unlink()

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """To the last block; called again, also with what was freed since."""
        self.full = True
        ballast = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            space = os.statvfs(self.folder)
            step = max(space.f_bavail * space.f_frsize, _SMALLEST)
            while step >= _SMALLEST:
                try:
                    os.posix_fallocate(ballast, os.fstat(ballast).st_size, step)
                except OSError:
                    step //= 2
        finally:
            os.close(ballast)

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)
        self.full = False

    def close(self) -> None:
        with suppress(OSError):
            subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)
