"""Raft's messages and snapshots from other managers."""

import asyncio
from collections.abc import AsyncIterator

from swarm.api.v1.raft_pb2 import (
    Message,
    RaftBatch,
    RaftStreamSummary,
    SnapshotChunk,
    SnapshotReceipt,
)
from swarm.api.v1.raft_pb2_grpc import RaftServicer
from swarm.api.v1.store_pb2 import SnapshotPiece
from swarm.disk import NoSpaceError
from swarm.manager.api.authorization import caller_of
from swarm.manager.api.interceptor import Context
from swarm.manager.core.membership import admission
from swarm.manager.core.store import Restoration, Store
from swarm.manager.core.validate import ErrorCode, InvalidRequest
from swarm.manager.manager import Manager, Unavailable
from swarm.manager.snapshots import SnapshotWriter
from swarm.manager.transport import ADDRESS_METADATA, INCARNATION_METADATA, RAFT_ID_METADATA

# After each piece of a snapshot, which takes about as long. Whoever takes one has no vote to give
# meanwhile: it leaves time to the leader that sends, and to what else is on its own processors.
_PAUSE_S = 0.004


class RaftApi(RaftServicer):
    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def Stream(  # type: ignore[override]
        self, request_iterator: AsyncIterator[RaftBatch], context: Context
    ) -> RaftStreamSummary:
        sender = self._sender(context)
        async for batch in request_iterator:
            # A stream speaks for its own member alone, and for no longer than it is one.
            self._sender(context)
            self._manager.received([m for m in batch.messages if m.from_ == sender])
        return RaftStreamSummary()

    async def SendSnapshot(  # type: ignore[override]
        self, request_iterator: AsyncIterator[SnapshotChunk], context: Context
    ) -> SnapshotReceipt:
        """Write it down and read it into fresh tables, piece by piece, then hand both over."""
        sender = self._sender(context)
        first = await anext(aiter(request_iterator))
        message: Message = first.message
        if message.from_ != sender:
            raise InvalidRequest("the snapshot is not the caller's", ErrorCode.INVALID)
        disk = self._manager.disk
        try:
            writer = await disk.on_snapshot_thread(disk.begin_snapshot, message.snapshot)
            try:
                store = await self._receive(request_iterator, writer)
            except BaseException:
                writer.discard()
                raise
        except NoSpaceError as error:
            raise Unavailable(f"the snapshot finds no room: {error}") from None
        self._manager.received_snapshot(message, store)
        return SnapshotReceipt(accepted=True)

    async def _receive(self, chunks: AsyncIterator[SnapshotChunk], writer: SnapshotWriter) -> Store:
        restoration = Restoration()
        on_thread = self._manager.disk.on_snapshot_thread
        async for chunk in chunks:
            if chunk.last:
                await on_thread(writer.commit, chunk.checksum)
                return restoration.finish()
            await on_thread(writer.write, chunk.data)
            piece = SnapshotPiece.FromString(chunk.data)
            restoration.add(piece)
            self._manager.new_rows.came(len(piece.objects))
            await asyncio.sleep(_PAUSE_S)
        raise InvalidRequest("the snapshot's end is missing", ErrorCode.INVALID)

    def _sender(self, context: Context) -> int:
        """The member that calls. One that was removed is told so, by a word that it knows."""
        metadata = dict(context.invocation_metadata() or ())
        sender = int(metadata.get(RAFT_ID_METADATA, "0"))
        incarnation = int(metadata.get(INCARNATION_METADATA, "0"))
        node_id = caller_of(context).node_id
        refused = admission.refusal(self._manager.store, sender, node_id, incarnation)
        if refused:
            raise InvalidRequest(refused, ErrorCode.FAILED_PRECONDITION)
        self._manager.introduced(sender, str(metadata.get(ADDRESS_METADATA, "")))
        return sender
