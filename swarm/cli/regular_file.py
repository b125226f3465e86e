"""Files that a user names: read at once and whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

# Far above what a compose file, a Dockerfile, a secret or a config may have.
BYTES_MAX = 8 << 20
_OWN_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")


def read(path: str | Path) -> bytes:
    """Raises OSError, also for a device, a pipe that nobody may ever write to, and too much."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        # What a shell makes of <(COMMAND) is one of this process's own descriptors.
        if str(path).startswith(_OWN_DESCRIPTORS):
            os.set_blocking(file.fileno(), True)
        elif stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        elif not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return read_all(file)


def read_all(file: BinaryIO) -> bytes:
    """Raises OSError where that is too much."""
    content = file.read(BYTES_MAX + 1)
    if len(content) > BYTES_MAX:
        raise OSError(errno.EFBIG, f"it is larger than {BYTES_MAX} bytes")
    return content
