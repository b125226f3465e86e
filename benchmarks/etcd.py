"""Three members of etcd on loopback, and puts to their leader."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import grpc
import grpc.aio

from benchmarks import processes
from benchmarks.closed_loop import Act, closed_loop
from benchmarks.report import Report
from benchmarks.writes import CREATIONS, ETCD, UPDATES, Used, row_of

_VALUE = b"v" * 256


class Etcd:
    def __init__(self, members: int = 3) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-etcd-"))
        self._clients = [_free_port() for _ in range(members)]
        self._peers = [_free_port() for _ in range(members)]
        self.processes: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        """RuntimeError where it has no leader in time."""
        group = ",".join(f"e{n}=http://127.0.0.1:{port}" for n, port in enumerate(self._peers))
        for number, (client, peer) in enumerate(zip(self._clients, self._peers, strict=True)):
            urls = {"client": f"http://127.0.0.1:{client}", "peer": f"http://127.0.0.1:{peer}"}
            self.processes.append(
                processes.start(
                    [
                        *("etcd", "--name", f"e{number}", "--log-level", "error"),
                        *("--data-dir", self.folder / str(number)),
                        *("--listen-client-urls", urls["client"]),
                        *("--advertise-client-urls", urls["client"]),
                        *("--listen-peer-urls", urls["peer"]),
                        *("--initial-advertise-peer-urls", urls["peer"]),
                        *("--initial-cluster", group),
                    ],
                    self.folder / f"log{number}",
                )
            )
        deadline = time.monotonic() + 30
        while not await self._leader_address():
            if time.monotonic() > deadline:
                raise RuntimeError(f"etcd: {processes.last_lines(self.folder / 'log0')}")
            await asyncio.sleep(0.1)

    async def leader_address(self) -> str:
        address = await self._leader_address()
        assert address
        return address

    async def _leader_address(self) -> str:
        for port in self._clients:
            address = f"127.0.0.1:{port}"
            with contextlib.suppress(grpc.aio.AioRpcError):
                async with grpc.aio.insecure_channel(address) as channel:
                    answer = fields(await _call(channel, "Maintenance/Status")(b"", timeout=1))
                # StatusResponse: header 1 (member_id 2), leader 4.
                header = answer.get(1)
                if isinstance(header, bytes) and answer.get(4) == fields(header).get(2):
                    return address
        return ""

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _call(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        f"/etcdserverpb.{method}"
    )
    return call


def put_request(key: bytes, value: bytes) -> bytes:
    """etcd's PutRequest: key 1, value 2."""
    return b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value


def fields(message: bytes) -> dict[int, int | bytes]:
    """The last value of each field of a protobuf message of numbers and messages."""
    found: dict[int, int | bytes] = {}
    position = 0

    def number() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        tag = number()
        size_or_value = number()
        if tag & 7 == 2:
            found[tag >> 3] = message[position : position + size_or_value]
            position += size_or_value
        else:
            found[tag >> 3] = size_or_value
    return found


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _puts(channels: list[grpc.aio.Channel], kind: str) -> Act:
    """New keys, or each client's own one again and again."""
    calls = [_call(channel, "KV/Put") for channel in channels]

    async def put(client: int, number: int) -> None:
        key = f"{client}-{number}" if kind == CREATIONS else str(client)
        await calls[client](put_request(key.encode(), _VALUE), timeout=30)

    return put


async def writes(counts: list[int], seconds: float, rounds: int, report: Report) -> None:
    etcd = Etcd()
    try:
        await etcd.start()
        address = await etcd.leader_address()
        for clients in counts:
            channels = [
                grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
                for _ in range(clients)
            ]
            for kind in (CREATIONS, UPDATES):
                used = Used([process.pid for process in etcd.processes])
                put = _puts(channels, kind)
                runs = [await closed_loop(clients, seconds, put) for _ in range(rounds)]
                report.add(row_of(kind, clients, ETCD, runs, used))
            for channel in channels:
                await channel.close()
    finally:
        etcd.stop()
