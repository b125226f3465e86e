"""A swarmd whose manager also proposes by itself when it is told to: what Raft, disk and wire take
for a write, with no API in front.

    python -m benchmarks.proposing_daemon OPTIONS OF SWARMD

It listens on `proposals.sock` beside the daemon's socket. A line there is CLIENTS SECONDS; the
answer is a line of JSON: latencies in seconds, and how long it took.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import swarm.node.node as node_module
from benchmarks.closed_loop import closed_loop
from swarm.api.v1.store_pb2 import Transaction
from swarm.node.main import main
from swarm.node.node import Node

SOCKET = "proposals.sock"
# As many bytes as a put to etcd has.
_PAYLOAD = "v" * 256


class ProposingNode(Node):
    async def start(self) -> None:
        await super().start()
        path = Path(self.config.socket).with_name(SOCKET)
        self._proposals = await asyncio.start_unix_server(self._asked, path)

    async def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients, seconds = (await reader.readline()).split()
        result = await closed_loop(int(clients), float(seconds), self._propose)
        writer.write(json.dumps(result).encode() + b"\n")
        writer.close()

    async def _propose(self, client: int, number: int) -> None:
        del client, number
        assert self.manager_role is not None
        await self.manager_role.manager.propose(Transaction(who=_PAYLOAD))


if __name__ == "__main__":
    node_module.Node = ProposingNode
    main()
