"""Takes images from peers: performs what `worker.core.fetch` decides."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import grpc.aio

from swarm.api.v1 import image_pb2 as pb
from swarm.api.v1.image_pb2_grpc import ImagePeerStub
from swarm.worker.core import fetch as core
from swarm.worker.core.fetch import PIECE_BYTES, Fetch, Piece, WantedBlob
from swarm.worker.images.layout import ImageDamaged
from swarm.worker.images.pieces import PartialBlob, list_digest
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.port import RuntimeFailed, RuntimeRefused

if TYPE_CHECKING:
    from swarm.api.v1.image_pb2_grpc import ImagePeerAsyncStub

PIECE_TIMEOUT_S = 20.0

# Raises UnknownImage, or ConnectionError where no manager answers.
Find = Callable[[str], Awaitable[pb.FindImageResponse]]
# To a node, by address and id.
OpenChannel = Callable[[str, str], grpc.aio.Channel]


class UnknownImage(RuntimeRefused):
    """The cluster has no such image."""


class ImageFetcher:
    """One image at a time, so that none of their blobs comes twice: they share the link anyway."""

    def __init__(
        self, store: ImageStore, node_id: str, find: Find, open_channel: OpenChannel
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._find = find
        self._open_channel = open_channel
        self._one = asyncio.Lock()

    async def ensure(self, digest: str) -> None:
        """The image is here when this returns. Raises UnknownImage, RuntimeFailed."""
        if digest in self._store.layout.held():
            return
        async with self._one:
            if digest in self._store.layout.held():
                return
            try:
                found = await self._find(digest)
            except ConnectionError as error:
                raise RuntimeFailed(f"image {digest} can't be asked for: {error}") from None
            await self._take(found)

    async def _take(self, found: pb.FindImageResponse) -> None:
        layout = self._store.layout
        missing = [blob for blob in found.image.blobs if not layout.has_blob(blob.digest)]
        layout.arriving = {blob.digest for blob in found.image.blobs}
        try:
            if missing:
                fetch = Fetch(self._node_id, _wanted(missing), random.Random())
                await _Taking(self._store, found, fetch, self._find, self._open_channel).run()
            await self._store.adopt(found.image)
        except OSError as error:
            raise RuntimeFailed(f"image {found.image.id}: {error.strerror or error}") from None
        except ImageDamaged as error:
            raise RuntimeFailed(f"image {found.image.id} cannot be used: {error}") from None
        finally:
            layout.arriving = set()


class _Taking:
    def __init__(
        self,
        store: ImageStore,
        found: pb.FindImageResponse,
        fetch: Fetch,
        find: Find,
        open_channel: OpenChannel,
    ) -> None:
        self._store = store
        self._found = found
        self._blobs = {blob.digest: blob for blob in found.image.blobs}
        self._find = find
        self._open_channel = open_channel
        self._wanted = {blob.digest: blob for blob in fetch.blobs}
        self._fetch = fetch
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._addresses: dict[str, str] = {}
        self._opening = {digest: asyncio.Lock() for digest in self._blobs}
        self._events: asyncio.Queue[core.Event] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Raises RuntimeFailed when it can't be had, OSError."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._work(group)
                for task in self._tasks:
                    task.cancel()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            for channel in self._channels.values():
                await channel.close()
            for digest in self._blobs:
                self._store.partial.pop(digest, None)

    async def _work(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        self._know(self._found)
        event: core.Event = core.Begin(await asyncio.to_thread(self._left_over))
        self._events.put_nowait(core.PeersFound(list(self._addresses)))
        while True:
            for effect in self._fetch.handle(event, loop.time()):
                match effect:
                    case core.Done():
                        return
                    case core.GiveUp(reason):
                        raise RuntimeFailed(
                            f"image {_short(self._found.image)} can't be had from other nodes: "
                            f"{reason}"
                        )
                    case core.FindPeers():
                        self._spawn(group, self._find_peers())
                    case core.WatchPeer(peer):
                        self._spawn(group, self._watch(peer))
                    case core.Ask(peer, piece):
                        self._spawn(group, self._ask(peer, piece))
            event = await self._next_event()

    async def _next_event(self) -> core.Event:
        try:
            async with asyncio.timeout_at(self._fetch.next_wakeup()):
                return await self._events.get()
        except TimeoutError:
            return core.Tick()

    def _spawn(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
        task = group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _left_over(self) -> dict[str, set[int]]:
        """What an attempt before this one had taken already."""
        here: dict[str, set[int]] = {}
        layout = self._store.layout
        for digest in self._wanted:
            if layout.partial_path(digest).exists() and layout.has_piece_list(digest):
                partial = self._open_partial(digest, layout.piece_list(digest))
                if len(partial.here) == self._wanted[digest].pieces:
                    layout.adopt_partial(digest)
                here[digest] = set(partial.here)
        return here

    def _open_partial(self, digest: str, pieces: bytes) -> PartialBlob:
        path = self._store.layout.partial_path(digest)
        partial = PartialBlob(path, self._blobs[digest].size_bytes, pieces)
        partial.open()
        self._store.partial[digest] = partial
        return partial

    # What is asked

    async def _find_peers(self) -> None:
        try:
            self._know(await self._find(self._found.image.id))
        except (RuntimeRefused, ConnectionError) as error:
            self._events.put_nowait(core.PeersUnknown(str(error)))
        else:
            self._events.put_nowait(core.PeersFound(list(self._addresses)))

    def _know(self, found: pb.FindImageResponse) -> None:
        self._addresses.update((peer.node_id, peer.address) for peer in found.peers)

    def _stub(self, peer: str) -> ImagePeerAsyncStub:
        address = self._addresses[peer]
        if address not in self._channels:
            self._channels[address] = self._open_channel(address, peer)
        return ImagePeerStub(self._channels[address])

    async def _watch(self, peer: str) -> None:
        reason = f"node {peer} ended the conversation"
        try:
            request = pb.WatchPiecesRequest(blobs=list(self._wanted))
            async for answer in self._stub(peer).WatchPieces(request):
                pieces = [piece for here in answer.here for piece in self._pieces(here)]
                self._events.put_nowait(core.PeerHas(peer, pieces))
        except grpc.aio.AioRpcError as error:
            reason = f"node {peer}: {error.details()}"
        self._events.put_nowait(core.PeerLost(peer, reason))

    def _pieces(self, here: pb.PiecesHere) -> list[Piece]:
        wanted = self._wanted.get(here.blob)
        if wanted is None:
            return []
        numbers = range(wanted.pieces) if here.whole else here.pieces
        return [Piece(here.blob, number) for number in numbers if number < wanted.pieces]

    async def _ask(self, peer: str, piece: Piece) -> None:
        try:
            partial = await self._partial(peer, piece.blob)
            answer = await self._stub(peer).ReadPiece(
                pb.ReadPieceRequest(blob=piece.blob, piece=piece.number), timeout=PIECE_TIMEOUT_S
            )
            right = partial is not None and await asyncio.to_thread(
                _put_if_right, partial, piece.number, answer.data
            )
        except grpc.aio.AioRpcError as error:
            reason = f"node {peer}: {error.details()}"
            self._events.put_nowait(core.Failed(peer, piece, reason))
            return
        if partial is None or not right:
            self._events.put_nowait(core.Wrong(peer, piece))
            return
        if len(partial.here) == self._wanted[piece.blob].pieces:
            await self._complete(piece.blob)
        await self._store.tell()
        self._events.put_nowait(core.Arrived(peer, piece))

    async def _complete(self, digest: str) -> None:
        async with self._opening[digest]:
            if self._store.partial.pop(digest, None) is None:
                return
            try:
                await asyncio.to_thread(self._store.layout.adopt_partial, digest)
            except ImageDamaged as error:
                # Every piece was right: whoever made the image known was wrong about it.
                raise RuntimeFailed(str(error)) from None

    async def _partial(self, peer: str, digest: str) -> PartialBlob | None:
        """None: the peer's piece list is not the blob's."""
        async with self._opening[digest]:
            partial = self._store.partial.get(digest)
            if partial is not None:
                return partial
            blob = self._blobs[digest]
            if blob.size_bytes <= PIECE_BYTES:
                pieces = bytes.fromhex(digest.partition(":")[2])
            else:
                answer = await self._stub(peer).PieceList(
                    pb.PieceListRequest(blob=digest), timeout=PIECE_TIMEOUT_S
                )
                pieces = answer.digests
                if list_digest(pieces) != blob.pieces_digest:
                    return None
            await asyncio.to_thread(self._store.layout.write_piece_list, digest, pieces)
            return await asyncio.to_thread(self._open_partial, digest, pieces)


def _put_if_right(partial: PartialBlob, number: int, data: bytes) -> bool:
    right = len(data) <= PIECE_BYTES and partial.is_right(number, data)
    if right:
        partial.write(number, data)
    return right


def _short(image: pb.Image) -> str:
    return image.names[0] if image.names else image.id


def _wanted(blobs: Sequence[pb.ImageBlob]) -> list[WantedBlob]:
    return [WantedBlob(blob.digest, blob.size_bytes) for blob in blobs]
