"""The node's port for images: other nodes take pieces from it, managers do what users ask.

Mutual TLS; who may call what is in `_ALLOWED`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final

import grpc
import grpc.aio

from swarm.api.v1 import image_pb2 as pb
from swarm.api.v1.image_pb2_grpc import (
    ImageNodeServicer,
    ImagePeerServicer,
    add_ImageNodeServicer_to_server,
    add_ImagePeerServicer_to_server,
)
from swarm.security.errors import AccessDenied, SecurityError
from swarm.security.node_keys import NodeBundle
from swarm.security.roles import Role, authorize, caller_from_auth_context
from swarm.security.tls import node_server_credentials
from swarm.worker.images.builders import Builder, builder_of
from swarm.worker.images.fetcher import ImageFetcher, UnknownImage
from swarm.worker.images.layout import ImageDamaged
from swarm.worker.images.pieces import read_piece
from swarm.worker.images.reference import familiar, full_name, parse
from swarm.worker.images.registry import pull
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.demo import is_demo, write_demo_image
from swarm.worker.runtime.port import Runtime, RuntimeFailed, RuntimeRefused

log = logging.getLogger(__name__)

PORTION_BYTES = 1 << 20
# Pieces that are read at the same time: who asks for more waits a little.
_READS_MAX = 8
# Pieces that came within it are told of together.
_NEWS_S = 0.02
_NODES: Final = frozenset({Role.MANAGER, Role.WORKER})
_ALLOWED: Final = {
    **{f"/swarm.api.v1.ImagePeer/{n}": _NODES for n in ("WatchPieces", "PieceList", "ReadPiece")},
    **{
        f"/swarm.api.v1.ImageNode/{name}": frozenset({Role.MANAGER})
        for name in ("Load", "Save", "Pull", "Build", "Config")
    },
}
_OPTIONS = (
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)

Context = grpc.aio.ServicerContext[Any, Any]


class ImageServer:
    def __init__(
        self,
        store: ImageStore,
        fetcher: ImageFetcher,
        runtime: Runtime,
        cluster_id: str,
        bundle: Callable[[], NodeBundle],
    ) -> None:
        guard = _Guard(cluster_id)
        self._server = grpc.aio.server(options=_OPTIONS)
        add_ImagePeerServicer_to_server(_Peer(store, guard), self._server)
        add_ImageNodeServicer_to_server(_Node(store, fetcher, runtime, guard), self._server)
        self._credentials = node_server_credentials(bundle)

    async def start(self, host: str) -> int:
        """The port. Raises RuntimeFailed."""
        shown = f"[{host}]" if ":" in host else host
        try:
            port = self._server.add_secure_port(f"{shown}:0", self._credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise RuntimeFailed(f"images can't be served on {host}: it is no address of this node")
        await self._server.start()
        return port

    async def stop(self) -> None:
        await self._server.stop(0.2)


class _Guard:
    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id

    @asynccontextmanager
    async def __call__(self, context: Context, service: str, name: str) -> AsyncGenerator[None]:
        """Lets the caller in, and says in a status what went wrong."""
        try:
            caller = caller_from_auth_context(context.auth_context())
            method = f"/swarm.api.v1.{service}/{name}"
            authorize(caller, method, _ALLOWED, cluster_id=self._cluster_id)
            yield
        except AccessDenied as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except SecurityError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except UnknownImage as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except RuntimeRefused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (RuntimeFailed, ImageDamaged) as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except OSError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, error.strerror or str(error))


class _Peer(ImagePeerServicer):
    def __init__(self, store: ImageStore, guard: _Guard) -> None:
        self._store = store
        self._guard = guard
        self._reads = asyncio.Semaphore(_READS_MAX)

    async def WatchPieces(
        self, request: pb.WatchPiecesRequest, context: Context
    ) -> AsyncIterator[pb.WatchPiecesResponse]:
        async with self._guard(context, "ImagePeer", "WatchPieces"):
            told: dict[str, set[int]] = {}
            whole: set[str] = set()
            while True:
                here = [self._here(blob, told, whole) for blob in request.blobs]
                news = [one for one in here if one is not None]
                if news or not told:
                    yield pb.WatchPiecesResponse(here=news)
                    told.setdefault("", set())
                if len(whole) == len(set(request.blobs)):
                    # It is all there: what remains is to be asked, until the caller has enough.
                    await asyncio.Event().wait()
                async with self._store.news:
                    await self._store.news.wait()
                await asyncio.sleep(_NEWS_S)

    def _here(self, blob: str, told: dict[str, set[int]], whole: set[str]) -> pb.PiecesHere | None:
        if blob in whole:
            return None
        if self._store.layout.has_blob(blob):
            whole.add(blob)
            return pb.PiecesHere(blob=blob, whole=True)
        partial = self._store.partial.get(blob)
        before = told.setdefault(blob, set())
        fresh = partial.here - before if partial is not None else set[int]()
        before |= fresh
        return pb.PiecesHere(blob=blob, pieces=sorted(fresh)) if fresh else None

    async def PieceList(
        self, request: pb.PieceListRequest, context: Context
    ) -> pb.PieceListResponse:
        async with self._guard(context, "ImagePeer", "PieceList"):
            partial = self._store.partial.get(request.blob)
            if partial is not None:
                return pb.PieceListResponse(digests=partial.pieces)
            pieces = await asyncio.to_thread(self._store.layout.piece_list, request.blob)
            return pb.PieceListResponse(digests=pieces)
        raise AssertionError("the guard ends the call")

    async def ReadPiece(
        self, request: pb.ReadPieceRequest, context: Context
    ) -> pb.ReadPieceResponse:
        async with self._guard(context, "ImagePeer", "ReadPiece"), self._reads:
            path = self._store.layout.blob_path(request.blob)
            partial = self._store.partial.get(request.blob)
            if partial is not None and request.piece in partial.here:
                path = partial.path
            try:
                data = await asyncio.to_thread(read_piece, path, request.piece)
            except FileNotFoundError:
                # It grew up between the two looks.
                path = self._store.layout.blob_path(request.blob)
                data = await asyncio.to_thread(read_piece, path, request.piece)
            return pb.ReadPieceResponse(data=data)
        raise AssertionError("the guard ends the call")


class _Node(ImageNodeServicer):
    def __init__(
        self, store: ImageStore, fetcher: ImageFetcher, runtime: Runtime, guard: _Guard
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._runtime = runtime
        self._guard = guard

    async def Load(
        self, request_iterator: AsyncIterator[pb.LoadImageRequest], context: Context
    ) -> pb.LoadImageResponse:
        async with self._guard(context, "ImageNode", "Load"):
            with self._store.scratch() as folder:
                archive = Path(folder) / "archive.tar"
                await _spool((request.data async for request in request_iterator), archive)
                return pb.LoadImageResponse(images=await self._store.load(archive))
        raise AssertionError("the guard ends the call")

    async def Save(
        self, request: pb.SaveImageRequest, context: Context
    ) -> AsyncIterator[pb.SaveImageResponse]:
        async with self._guard(context, "ImageNode", "Save"):
            images: dict[str, list[str]] = {}
            for reference in request.references:
                name, _, digest = reference.rpartition("=")
                await self._fetcher.ensure(digest)
                names = images.setdefault(digest, [])
                names += [name] if name else []
            with self._store.scratch() as folder:
                archive = Path(folder) / "archive.tar"
                await self._store.save(list(images.items()), archive)
                file = await asyncio.to_thread(archive.open, "rb")
                try:
                    while data := await asyncio.to_thread(file.read, PORTION_BYTES):
                        yield pb.SaveImageResponse(data=data)
                finally:
                    file.close()

    async def Pull(
        self, request: pb.PullImageRequest, context: Context
    ) -> AsyncIterator[pb.ImageProgress]:
        async with self._guard(context, "ImageNode", "Pull"):
            yield pb.ImageProgress(text=f"Pulling {request.reference}\n")
            with self._store.scratch() as folder:
                archive = Path(folder) / "archive.tar"
                await pull(self._runtime, request.reference, request.registry_auth, archive)
                name = familiar(parse(request.reference))
                images = await self._store.load(archive, [name] if ":" in name else [])
            yield pb.ImageProgress(images=images)

    async def Build(
        self, request_iterator: AsyncIterator[pb.BuildImageRequest], context: Context
    ) -> AsyncIterator[pb.ImageProgress]:
        async with self._guard(context, "ImageNode", "Build"):
            builder = builder_of(self._runtime, self._store.layout.directory.parent / "builder")
            first = await anext(aiter(request_iterator), pb.BuildImageRequest())
            settings = first.settings
            with self._store.scratch() as folder:
                sent = Path(folder) / "context.tar"
                await _spool((request.data async for request in request_iterator), sent)
                await take_bases(builder, settings, Path(folder), self._store, self._fetcher)
                result = Path(folder) / "result.tar"
                async for text in builder.build(settings, sent, result):
                    yield pb.ImageProgress(text=text)
                images = await self._store.load(result, list(settings.names))
            yield pb.ImageProgress(images=images)

    async def Config(
        self, request: pb.ImageConfigRequest, context: Context
    ) -> pb.ImageConfigResponse:
        async with self._guard(context, "ImageNode", "Config"):
            await self._fetcher.ensure(request.digest)
            config = await asyncio.to_thread(self._store.config, request.digest)
            return pb.ImageConfigResponse(config=config)
        raise AssertionError("the guard ends the call")


async def take_bases(
    builder: Builder,
    settings: pb.BuildSettings,
    folder: Path,
    store: ImageStore,
    fetcher: ImageFetcher,
) -> None:
    """Images of the cluster are never asked of a registry, nor is the demonstration image."""
    for number, base in enumerate(settings.bases):
        name, _, digest = base.rpartition("=")
        archive = folder / f"base{number}.tar"
        if digest:
            await fetcher.ensure(digest)
            await store.save([(digest, [full_name(name)])], archive)
        elif is_demo(name):
            await write_demo_image(archive, full_name(name))
        else:
            continue
        await builder.take_base(full_name(name), archive)


async def _spool(portions: AsyncIterator[bytes], target: Path) -> None:
    file: IO[bytes] = await asyncio.to_thread(target.open, "wb")
    try:
        async for data in portions:
            await asyncio.to_thread(file.write, data)
    finally:
        await asyncio.to_thread(file.close)
