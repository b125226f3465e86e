"""Unpacks an image layer: run by path, it first makes the directory its root.

`python -I -S unpack.py DIRECTORY < layer` prints the sha256 of the uncompressed layer. As Docker
does it: inside the chroot no name in the archive, and no link it makes, can lead out of the
directory. Whiteouts become overlayfs' own (kernel, filesystems/overlayfs).
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import posixpath
import shutil
import stat
import sys
import tarfile
from typing import BinaryIO, cast

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
XATTR = "SCHILY.xattr."
COPY_BYTES = 1024 * 1024


class Hashed:
    """Passes reads on and digests what went by."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data


def decompressed(source: BinaryIO) -> BinaryIO:
    """By the first bytes. Raises ValueError for a compression that is not known."""
    head = source.peek(6)[:6]  # type: ignore[attr-defined] # pyright: ignore
    if head.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=source))
    if head.startswith(b"BZh"):
        return cast("BinaryIO", bz2.BZ2File(source))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast("BinaryIO", lzma.LZMAFile(source))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        raise ValueError("the layer is compressed with zstd, which is not supported here")
    return source


def unpack(source: BinaryIO, root: str) -> str:
    """Unpacks into `root`; the sha256 of the uncompressed layer."""
    hashed = Hashed(decompressed(source))
    directories: list[tuple[str, int]] = []
    with tarfile.open(fileobj=cast("BinaryIO", hashed), mode="r|") as tar:
        for member in tar:
            _place(tar, member, root, directories)
    while hashed.read(COPY_BYTES):
        pass  # padding after the archive's end belongs to the digest
    for path, mtime in reversed(directories):
        os.utime(path, (mtime, mtime))
    return hashed.digest.hexdigest()


def _place(
    tar: tarfile.TarFile, member: tarfile.TarInfo, root: str, directories: list[tuple[str, int]]
) -> None:
    path = _inside(root, member.name)
    parent, name = posixpath.split(path)
    if path == posixpath.normpath(root):
        _settle(path, member)
        return
    os.makedirs(parent, 0o755, exist_ok=True)  # noqa: PTH103 - pathlib is slow to import
    if name == OPAQUE:
        os.setxattr(parent, "trusted.overlay.opaque", b"y")
        return
    if name.startswith(WHITEOUT):
        hidden = posixpath.join(parent, name.removeprefix(WHITEOUT))
        _clear(hidden, keep_directory=False)
        os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0))
        return
    _clear(path, keep_directory=member.isdir())
    _make(tar, member, path, root)
    if not member.islnk():
        _settle(path, member)
    if member.isdir():
        directories.append((path, int(member.mtime)))


def _inside(root: str, name: str) -> str:
    """A name of the archive as a path below the root, whatever dots and slashes it has."""
    return posixpath.normpath(root + "/" + posixpath.normpath("/" + name).lstrip("/"))


def _clear(path: str, keep_directory: bool) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(path)  # noqa: PTH108
    elif not keep_directory:
        shutil.rmtree(path)


def _make(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, root: str) -> None:
    if member.isdir():
        if not os.path.isdir(path):  # noqa: PTH112
            os.mkdir(path)  # noqa: PTH102
    elif member.isreg():
        content = tar.extractfile(member)
        assert content is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            shutil.copyfileobj(content, file, COPY_BYTES)
    elif member.issym():
        os.symlink(member.linkname, path)  # noqa: PTH211
    elif member.islnk():
        os.link(_inside(root, member.linkname), path, follow_symlinks=False)
    elif member.isfifo():
        os.mkfifo(path)
    elif member.ischr() or member.isblk():
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(path, kind, os.makedev(member.devmajor, member.devminor))
    else:
        raise ValueError(f"{member.name} is of a kind that is not known")


def _settle(path: str, member: tarfile.TarInfo) -> None:
    """Owner, mode (after the owner: chown clears setuid), attributes, time."""
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if member.issym():
        return
    os.chmod(path, member.mode & 0o7777)  # noqa: PTH101
    for key, value in member.pax_headers.items():
        if key.startswith(XATTR):
            os.setxattr(path, key.removeprefix(XATTR), value.encode("utf-8", "surrogateescape"))
    os.utime(path, (member.mtime, member.mtime))


def main() -> None:
    # What unpacking may import must be in memory: in the chroot there is no Python.
    "".encode("idna").decode("utf-8", "surrogateescape")
    os.chroot(sys.argv[1])
    os.chdir("/")
    os.umask(0)
    try:
        print(unpack(sys.stdin.buffer, "/"))  # noqa: T201
    except (OSError, ValueError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
