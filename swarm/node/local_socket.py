"""The unix socket that users reach, in front of gRPC's own.

gRPC does not tell who is at the other end of a unix socket. So this takes the connections,
asks the kernel for the peer's uid, and passes the bytes on from a socket whose name says it;
that name is what gRPC shows as the call's peer. gRPC's socket is in a folder of this user's
alone: in the node's state folder, where a kill leaves nothing that a later start does not find.
"""

import asyncio
import grp
import os
import shutil
import socket
import stat
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

from swarm.security.local_peer import peer_name
from swarm.sockets.listener import BACKLOG, Listener
from swarm.sockets.relay import Relay

# sockaddr_un takes 104 bytes on macOS, 108 on Linux, with the zero at the end.
_PATH_BYTES_MAX = 100
_LONGEST_NAME = peer_name(2**32 - 2, 10**9)


class LocalSocket:
    """Listens on `path`, 0660: `group` may use it, or whose group this process is in. `behind` is
    where gRPC is to listen: in `folder`, or in a temporary one where its name is too long for a
    socket."""

    def __init__(self, path: Path, folder: Path, group: str = "") -> None:
        self._path = path
        self._group = group
        self._folder = _empty_folder(folder)
        self.behind = self._folder / "grpc.sock"
        self._count = 0
        self._listener: Listener | None = None
        self._relays: set[Relay] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    def check(self) -> None:
        """OSError, in words, when the path is another daemon's, or no socket's, or nobody is in
        the group because there is none."""
        if len(os.fsencode(self._path)) > _PATH_BYTES_MAX:
            raise OSError(
                f"socket {self._path}: the path is too long, {_PATH_BYTES_MAX} bytes are the most: "
                "choose another with --socket"
            )
        _group_id(self._group)
        try:
            mode = self._path.stat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise OSError(f"{self._path} is there and no socket: choose another with --socket")
        if answers(self._path):
            raise OSError(
                f"another process listens on {self._path}: stop it, or choose another with --socket"
            )

    async def start(self) -> None:
        """OSError when the path can't be listened on."""
        self.check()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._listener = Listener(_listen(self._path, _group_id(self._group)), self._accepted)

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)
        for task in list(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for relay in list(self._relays):
            relay.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accepted(self, user: socket.socket) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(user))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _serve(self, user: socket.socket) -> None:
        try:
            to_grpc = await self._connect(_peer_uid(user))
        except OSError:
            user.close()
            return
        except BaseException:
            user.close()
            raise
        relay = Relay(self._relays.discard)
        self._relays.add(relay)
        with suppress(OSError):
            await relay.join(user, to_grpc)

    async def _connect(self, uid: int) -> socket.socket:
        self._count += 1
        name = self._folder / peer_name(uid, self._count)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.bind(str(name))
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, str(self.behind))
        except BaseException:
            connection.close()
            raise
        finally:
            # The name stays with the connection; the file is of no use.
            name.unlink(missing_ok=True)
        return connection


def _empty_folder(folder: Path) -> Path:
    if len(os.fsencode(folder / _LONGEST_NAME)) > _PATH_BYTES_MAX:
        return Path(tempfile.mkdtemp(prefix="swarmd-"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _group_id(name: str) -> int:
    """-1, which chown takes for "as it is", without a name."""
    if not name:
        return -1
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise OSError(
            f"there is no group {name} to give the socket to: make it with `groupadd --system "
            f"{name}`, or name another with --group"
        ) from None


def _listen(path: Path, group_id: int) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    old_mask = os.umask(0o117)
    try:
        listening.setblocking(False)
        listening.bind(str(path))
        os.chown(path, -1, group_id)
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(old_mask)
    return listening


def answers(path: Path) -> bool:
    """Whether somebody listens there. Blocking, for a moment."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # its backlog is full
        except OSError:
            return False
        return True


def _peer_uid(connection: socket.socket) -> int:
    """Linux's SO_PEERCRED; elsewhere the socket's file rights alone say who may come."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getuid()
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)
