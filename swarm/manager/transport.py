"""Raft's messages between managers: one stream a peer, batches on it, bounded outboxes.

A message may be lost: Raft repeats what matters. So a full outbox drops, and says so; nothing
ever waits for a peer. Death is judged by Raft's own silence, never by gRPC.
"""

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field

import grpc
import grpc.aio

from swarm.api.v1.node_pb2 import Member
from swarm.api.v1.raft_pb2 import (
    MSG_APP,
    Message,
    RaftBatch,
    RaftStreamSummary,
    SnapshotChunk,
)
from swarm.api.v1.raft_pb2_grpc import RaftStub

log = logging.getLogger(__name__)

_OUTBOX_MESSAGES_MAX = 4_096
_OUTBOX_BYTES_MAX = 16 << 20
_BATCH_BYTES = 2 << 20
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 1.0
_SNAPSHOT_TIMEOUT_S = 600.0
_LAST_WORD_S = 1.0
# An append without entries says only what is committed: it waits this long for company.
_COMPANY_S = 0.005

# Which raft id is calling, of which incarnation of the cluster: see `membership.admission`.
RAFT_ID_METADATA = "swarm-raft-id"
INCARNATION_METADATA = "swarm-incarnation"
# Where to answer it: a member that is behind has not read of every other one yet.
ADDRESS_METADATA = "swarm-raft-address"

OpenChannel = Callable[[str], grpc.aio.Channel]


@dataclass(slots=True)
class _Outbox:
    messages: deque[Message] = field(default_factory=deque[Message])
    size_bytes: int = 0
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    due: asyncio.TimerHandle | None = None

    def put(self, message: Message) -> bool:
        size = message.ByteSize()
        full = (
            len(self.messages) >= _OUTBOX_MESSAGES_MAX or self.size_bytes + size > _OUTBOX_BYTES_MAX
        )
        if full:
            return False
        self.messages.append(message)
        self.size_bytes += size
        if message.type != MSG_APP or message.entries:
            self.filled.set()
        elif self.due is None:
            self.due = asyncio.get_running_loop().call_later(_COMPANY_S, self._fill)
        return True

    def _fill(self) -> None:
        self.due = None
        if self.messages:
            self.filled.set()

    async def take(self) -> RaftBatch:
        """All that waits, up to a batch's size."""
        await self.filled.wait()
        self.filled.clear()
        batch = RaftBatch()
        taken = 0
        while self.messages and taken < _BATCH_BYTES:
            message = self.messages.popleft()
            size = message.ByteSize()
            self.size_bytes -= size
            taken += size
            batch.messages.append(message)
        if self.messages:
            self.filled.set()
        return batch

    def clear(self) -> None:
        self.messages.clear()
        self.size_bytes = 0
        self.filled.clear()


class _Peer:
    def __init__(self, member: Member, transport: "Transport") -> None:
        self.raft_id = member.raft_id
        self.address = member.address
        self.outbox = _Outbox()
        self._transport = transport
        self._channel: grpc.aio.Channel | None = None
        self._task = asyncio.create_task(self._run(), name=f"raft-peer-{member.raft_id}")

    def channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = self._transport.open_channel(self.address)
        return self._channel

    async def _run(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                await self._stream()
                backoff_s = _BACKOFF_FIRST_S
            except TimeoutError:
                pass
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    self._transport.refused(self.raft_id, error.details() or "")
            self._transport.unreachable(self.raft_id)
            self.outbox.clear()
            await self._drop_channel()
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)

    async def _stream(self) -> None:
        call = RaftStub(self.channel()).Stream(metadata=self._transport.introduction())
        sending: asyncio.Future[None] | None = None
        try:
            await call.wait_for_connection()
            sending = asyncio.ensure_future(self._send_batches(call))
            ended = asyncio.ensure_future(call.code())
            await asyncio.wait({sending, ended}, return_when=asyncio.FIRST_COMPLETED)
            # A write fails a moment before the stream says why it ended.
            code = await asyncio.wait_for(ended, _LAST_WORD_S)
            details = await call.details()
            raise grpc.aio.AioRpcError(
                code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details
            )
        finally:
            call.cancel()
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _send_batches(
        self, call: "grpc.aio.StreamUnaryCall[RaftBatch, RaftStreamSummary]"
    ) -> None:
        while True:
            await call.write(await self.outbox.take())

    async def _drop_channel(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._drop_channel()


class Transport:
    """Outgoing messages. `unreachable` is called when messages to a peer were lost, `refused`
    when a peer says why it does not take ours. `address` is this manager's own, `incarnation()`
    the store's."""

    def __init__(
        self,
        raft_id: int,
        address: str,
        incarnation: Callable[[], int],
        open_channel: OpenChannel,
        unreachable: Callable[[int], None],
        refused: Callable[[int, str], None],
    ) -> None:
        self.raft_id = raft_id
        self._address = address
        self._incarnation = incarnation
        self.open_channel = open_channel
        self.unreachable = unreachable
        self.refused = refused
        self._peers: dict[int, _Peer] = {}
        # Of `set_members`, and those that only said themselves who they are.
        self._members: dict[int, Member] = {}
        self._introduced: dict[int, Member] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def introduction(self) -> tuple[tuple[str, str], ...]:
        """Who this is, in a call's metadata."""
        return (
            (RAFT_ID_METADATA, str(self.raft_id)),
            (INCARNATION_METADATA, str(self._incarnation())),
            (ADDRESS_METADATA, self._address),
        )

    def set_members(self, members: Iterable[Member]) -> None:
        """Talk to these; a peer whose address changed gets a new connection."""
        self._members = {member.raft_id: member for member in members}
        self._connect()

    def introduce(self, raft_id: int, address: str) -> None:
        """It calls from there. Answered, as long as no member under that id is known: this manager
        may be behind, and its leader have joined since."""
        known = self._introduced.get(raft_id)
        if address and raft_id not in self._members and (known is None or known.address != address):
            self._introduced[raft_id] = Member(raft_id=raft_id, address=address)
            self._connect()

    def _connect(self) -> None:
        for raft_id in self._members:
            self._introduced.pop(raft_id, None)
        everybody = {**self._introduced, **self._members}
        wanted = {
            raft_id: member
            for raft_id, member in everybody.items()
            if not member.removed and raft_id != self.raft_id
        }
        for raft_id, peer in list(self._peers.items()):
            if raft_id not in wanted or wanted[raft_id].address != peer.address:
                del self._peers[raft_id]
                self._close_later(peer)
        for raft_id, member in wanted.items():
            if raft_id not in self._peers:
                self._peers[raft_id] = _Peer(member, self)

    def reconnect(self) -> None:
        """Use the node's new certificate from now on."""
        members = list(self._members.values())
        self.set_members(())
        self.set_members(members)

    def send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            peer = self._peers.get(message.to)
            if peer is not None and not peer.outbox.put(message):
                self.unreachable(message.to)

    async def send_snapshot(self, message: Message, pieces: Iterator[bytes]) -> bool:
        """Stream a snapshot; True when the peer has it, durable."""
        peer = self._peers.get(message.to)
        if peer is None:
            return False
        try:
            receipt = await RaftStub(peer.channel()).SendSnapshot(
                _snapshot_chunks(message, pieces),
                metadata=self.introduction(),
                timeout=_SNAPSHOT_TIMEOUT_S,
            )
        except grpc.aio.AioRpcError as error:
            log.info("snapshot to manager %d: %s", message.to, error.details())
            return False
        return receipt.accepted

    def _close_later(self, peer: _Peer) -> None:
        task = asyncio.create_task(peer.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        self.set_members(())
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)


async def _snapshot_chunks(
    message: Message, pieces: Iterator[bytes]
) -> AsyncIterator[SnapshotChunk]:
    """The file's pieces, read in a thread: neither the loop nor memory is held up."""
    checksum = 0
    yield SnapshotChunk(message=message)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        checksum = zlib.crc32(piece, checksum)
        yield SnapshotChunk(data=piece)
    yield SnapshotChunk(last=True, checksum=checksum)
