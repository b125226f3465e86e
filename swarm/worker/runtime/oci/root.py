"""A container's root: overlay mounts, and looking into it without being led out by its links."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
from pathlib import Path

from swarm.worker.runtime.port import RuntimeFailed, RuntimeRefused

OPTIONS_BYTES_MAX = 4095  # mount(2) takes a page
MNT_DETACH = 2
LINKS_MAX = 40
_MOUNTS = Path("/proc/self/mountinfo")

_libc = ctypes.CDLL(None, use_errno=True)


def mount_overlay(target: Path, layers: list[Path], upper: Path, work: Path) -> None:
    """Mounts `layers` (lowest first) with `upper` on top. Raises RuntimeFailed."""
    lower = ":".join(str(layer) for layer in reversed(layers))
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    if len(options) > OPTIONS_BYTES_MAX:
        raise RuntimeRefused(f"the image has too many layers ({len(layers)})", "image")
    found = _libc.mount(b"overlay", os.fsencode(target), b"overlay", 0, options.encode())
    if found != 0:
        why = os.strerror(ctypes.get_errno())
        raise RuntimeFailed(f"cannot mount an overlay at {target}: {why}")


def unmount(target: Path) -> None:
    """Whatever is mounted there goes; nothing there is no error."""
    while _libc.umount2(os.fsencode(target), MNT_DETACH) == 0:
        pass


def unmount_below(folder: Path) -> None:
    """Whatever is mounted in the folder goes, what lies deepest first."""
    if not _MOUNTS.exists():
        return
    prefix = f"{folder.resolve()}/"
    fields = (line.split(" ") for line in _MOUNTS.read_text(errors="surrogateescape").splitlines())
    places = [_unescaped(field[4]) for field in fields]
    for place in sorted(places, key=len, reverse=True):
        if place.startswith(prefix):
            unmount(Path(place))


def _unescaped(place: str) -> str:
    """The kernel writes a space as \\040 (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place)


def resolve_inside(root: Path, path: str) -> Path:
    """Where `path` leads inside `root`, its symbolic links followed as if root were `/`.

    Only for a root that nobody changes meanwhile. Raises RuntimeRefused for a loop of links.
    """
    waiting = [part for part in path.split("/") if part not in ("", ".")][::-1]
    there: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            there = there[:-1]
            continue
        candidate = root.joinpath(*there, part)
        if not candidate.is_symlink():
            there.append(part)
            continue
        links += 1
        if links > LINKS_MAX:
            raise RuntimeRefused(f"{path}: too many symbolic links in the image", "image")
        target = str(candidate.readlink())
        there = [] if target.startswith("/") else there
        waiting += [step for step in target.split("/") if step not in ("", ".")][::-1]
    return root.joinpath(*there)


def read_inside(root: Path, path: str) -> str:
    """A small text file of the container, "" where there is none."""
    try:
        inside = resolve_inside(root, path)
        if not stat.S_ISREG(inside.lstat().st_mode):
            return ""
        return inside.read_text(errors="replace")
    except OSError:
        return ""


def copy_up(source: Path, volume: Path) -> None:
    """Fills a new volume with what the image has at its place, owners and modes included."""
    if not source.is_dir():
        return
    shutil.copytree(source, volume, symlinks=True, dirs_exist_ok=True, copy_function=_copy_file)
    for there in [source, *source.rglob("*")]:
        found = there.lstat()
        here = volume / there.relative_to(source)
        os.chown(here, found.st_uid, found.st_gid, follow_symlinks=False)
        if not there.is_symlink():
            here.chmod(stat.S_IMODE(found.st_mode))


def _copy_file(source: str, target: str) -> None:
    mode = Path(source).lstat().st_mode
    if stat.S_ISREG(mode):
        shutil.copy2(source, target)
    elif stat.S_ISFIFO(mode):
        os.mkfifo(target)
    else:
        os.mknod(target, mode, Path(source).lstat().st_rdev)
