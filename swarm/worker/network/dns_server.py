"""The DNS server of a node: names of services from its table, others from the node's own servers.

Containers of a stack have it as their name server; what they send to its virtual address is
redirected here (`redirect.py`). UDP and TCP.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import dns.asyncquery
import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from swarm.worker.network.names import NameTable

# Tasks come and go; a service's own address stays.
TTL_S = 5
UPSTREAM_TIMEOUT_S = 2.0
# Each may hold a socket for as long as another server does not answer; a container that asks for
# more is not to take the agent's last descriptor. Who gets no answer asks again.
QUESTIONS_MAX = 256
_TCP_IDLE_S = 10.0
_LENGTH = struct.Struct("!H")


def upstreams(resolv_conf: Path = Path("/etc/resolv.conf")) -> list[str]:
    """The node's own name servers."""
    try:
        lines = resolv_conf.read_text(errors="replace").splitlines()
    except OSError:
        return []
    pairs = (line.split()[:2] for line in lines)
    named = [pair[1] for pair in pairs if len(pair) == 2 and pair[0] == "nameserver"]
    return [server for server in named if dns.inet.is_address(server)]


class DnsServer(asyncio.DatagramProtocol):
    """Listens on a free port of all addresses, for what is redirected to it."""

    def __init__(self, table: NameTable, servers: Sequence[str]) -> None:
        self._table = table
        self._servers = servers
        self._transport: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._conversations = 0
        self.port = 0

    async def start(self, host: str) -> None:
        """Raises OSError."""
        self._tcp = await asyncio.start_server(self._serve_tcp, host, 0, family=socket.AF_INET)
        self.port = self._tcp.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(host, self.port))

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in list(self._answering):
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What asyncio gives is one, and does not say so in its type.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if len(self._answering) >= QUESTIONS_MAX:
            return
        task = asyncio.create_task(self._answer_datagram(data, addr))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer_datagram(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        answer = await self.answer(data)
        if answer is None or self._transport is None:
            return
        size = answer.request_payload or 512
        with suppress(OSError):
            try:
                wire = answer.to_wire(max_size=size)
            except dns.exception.TooBig:
                answer.flags |= dns.flags.TC
                answer.answer.clear()
                wire = answer.to_wire()
            self._transport.sendto(wire, addr)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._conversations += 1
        try:
            async with asyncio.timeout(_TCP_IDLE_S):
                while self._conversations <= QUESTIONS_MAX:
                    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                    answer = await self.answer(await reader.readexactly(length))
                    if answer is None:
                        return
                    wire = answer.to_wire()
                    writer.write(_LENGTH.pack(len(wire)) + wire)
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, dns.exception.TooBig):
            pass
        finally:
            self._conversations -= 1
            writer.close()

    # What is answered

    async def answer(self, wire: bytes) -> dns.message.Message | None:
        """None: this is no question."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return None
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        addresses = self._table.resolve(name)
        if addresses is None and not self._table.is_ours(name):
            return await self._of_others(query)
        answer = dns.message.make_response(query, recursion_available=True)
        answer.flags |= dns.flags.AA
        if addresses is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A and addresses:
            answer.answer.append(dns.rrset.from_text(question.name, TTL_S, "IN", "A", *addresses))
        return answer

    async def _of_others(self, query: dns.message.Message) -> dns.message.Message:
        for server in self._servers:
            try:
                answer, _ = await dns.asyncquery.udp_with_fallback(
                    query, server, timeout=UPSTREAM_TIMEOUT_S
                )
            except (OSError, dns.exception.DNSException):
                continue
            return answer
        failed = dns.message.make_response(query, recursion_available=True)
        # Without a server of its own, the node knows no other names.
        failed.set_rcode(dns.rcode.SERVFAIL if self._servers else dns.rcode.NXDOMAIN)
        return failed
