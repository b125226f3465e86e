"""The socket in front of gRPC: it says who is at the other end, and passes everything on."""

import os
from pathlib import Path

import grpc
import grpc.aio
import pytest

from swarm.api.v1.daemon_pb2 import InfoRequest, InfoResponse
from swarm.api.v1.daemon_pb2_grpc import DaemonServicer, add_DaemonServicer_to_server
from swarm.api.v1.daemon_pb2_grpc import DaemonStub as Stub
from swarm.manager.api.authorization import caller_of
from swarm.node.local_socket import LocalSocket
from swarm.security.roles import Role
from swarm.security.tls import local_server_credentials


class SaysWho(DaemonServicer):
    async def Info(self, request, context):
        caller = caller_of(context)
        assert caller.role is Role.LOCAL
        return InfoResponse(hostname=caller.who, error="x" * 300_000)


@pytest.mark.parametrize("folder", ["behind", "x" * 90], ids=["in its folder", "a name too long"])
async def test_the_peers_uid_reaches_the_handler(tmp_path: Path, folder: str) -> None:
    front = LocalSocket(tmp_path / "s.sock", tmp_path / folder)
    server = grpc.aio.server()
    add_DaemonServicer_to_server(SaysWho(), server)
    server.add_secure_port(f"unix:{front.behind}", local_server_credentials())
    await server.start()
    await front.start()
    try:
        assert (tmp_path / "s.sock").stat().st_mode & 0o777 == 0o660
        credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        async with grpc.aio.secure_channel(f"unix:{tmp_path}/s.sock", credentials) as channel:
            for _ in range(3):
                answer = await Stub(channel).Info(InfoRequest(), timeout=10)
        assert answer.hostname == f"uid {os.getuid()}"
        assert len(answer.error) == 300_000
    finally:
        await front.stop()
        await server.stop(None)
    assert not (tmp_path / "s.sock").exists()
    assert not front.behind.parent.exists()
