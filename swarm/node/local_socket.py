"""The unix socket that users reach, in front of gRPC's own.

gRPC does not tell who is at the other end of a unix socket. So this takes the connections,
asks the kernel for the peer's uid, and passes the bytes on from a socket whose name says it;
that name is what gRPC shows as the call's peer. gRPC's socket is in a folder of this user's
alone: in the node's state folder, where a kill leaves nothing that a later start does not find.
"""

import asyncio
import os
import shutil
import socket
import stat
import struct
import tempfile
from pathlib import Path

from swarm.security.local_peer import peer_name

_CHUNK_BYTES = 1 << 16
# sockaddr_un takes 104 bytes on macOS, 108 on Linux, with the zero at the end.
_PATH_BYTES_MAX = 100
_LONGEST_NAME = peer_name(2**32 - 2, 10**9)


class LocalSocket:
    """Listens on `path`, 0660: its group may use it. `behind` is where gRPC is to listen: in
    `folder`, or in a temporary one where its name is too long for a socket."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = _empty_folder(folder)
        self.behind = self._folder / "grpc.sock"
        self._count = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def check(self) -> None:
        """OSError, in words, when the path is another daemon's, or no socket's."""
        if len(os.fsencode(self._path)) > _PATH_BYTES_MAX:
            raise OSError(
                f"socket {self._path}: the path is too long, {_PATH_BYTES_MAX} bytes are the most: "
                "choose another with --socket"
            )
        try:
            mode = self._path.stat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise OSError(f"{self._path} is there and no socket: choose another with --socket")
        if _answers(self._path):
            raise OSError(
                f"another process listens on {self._path}: stop it, or choose another with --socket"
            )

    async def start(self) -> None:
        """OSError when the path can't be listened on."""
        self.check()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        old_mask = os.umask(0o117)
        try:
            self._server = await asyncio.start_unix_server(self._accepted, self._path)
        finally:
            os.umask(old_mask)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            uid = _peer_uid(writer.get_extra_info("socket"))
            to_reader, to_writer = await self._connect(uid)
        except OSError:
            writer.close()
            return
        pumps = [
            asyncio.create_task(_pump(reader, to_writer)),
            asyncio.create_task(_pump(to_reader, writer)),
        ]
        try:
            # HTTP/2 has no half-closed connections worth keeping.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()
            to_writer.close()

    async def _connect(self, uid: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
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
        return await asyncio.open_unix_connection(sock=connection)


def _empty_folder(folder: Path) -> Path:
    if len(os.fsencode(folder / _LONGEST_NAME)) > _PATH_BYTES_MAX:
        return Path(tempfile.mkdtemp(prefix="swarmd-"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass


def _answers(path: Path) -> bool:
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
