"""A node's part in the cluster's images: its store, what it serves, and what it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio

from swarm.api.v1.dispatcher_pb2_grpc import DispatcherStub
from swarm.api.v1.image_pb2 import FindImageRequest, FindImageResponse
from swarm.api.v1.image_pb2 import NodeImages as ReportedImages
from swarm.security.node_keys import NodeBundle
from swarm.security.tls import manager_channel, node_channel
from swarm.worker.images.fetcher import ImageFetcher, UnknownImage
from swarm.worker.images.layout import ImageDamaged, Layout
from swarm.worker.images.serving import ImageServer
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.port import Images, Runtime, RuntimeFailed, TaskRun

log = logging.getLogger(__name__)

FIND_TIMEOUT_S = 6.0
_KEEP_AGAIN_S = 5.0


class NodeImages:
    """`changed` is called when `reported` does."""

    def __init__(
        self,
        layout: Layout,
        cluster_id: str,
        node_id: str,
        runtime: Runtime,
        bundle: Callable[[], NodeBundle],
        changed: Callable[[], None],
    ) -> None:
        self.managers: Callable[[], list[str]] = list
        self.store = ImageStore(layout, changed)
        self._bundle = bundle
        self._runtime = runtime
        self._fetcher = ImageFetcher(
            self.store,
            node_id,
            self._find,
            lambda address, node: node_channel(address, node, bundle()),
        )
        self._server = ImageServer(self.store, self._fetcher, runtime, cluster_id, bundle)
        self._address = ""
        self._keeping: asyncio.Task[None] | None = None
        self._into_engine = asyncio.Lock()

    async def start(self, listen_host: str, advertise_host: str) -> None:
        """Serves from now on. Raises RuntimeFailed."""
        await asyncio.to_thread(self.store.clean)
        port = await self._server.start(listen_host)
        shown = f"[{advertise_host}]" if ":" in advertise_host else advertise_host
        self._address = f"{shown}:{port}"

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        await self._server.stop()

    @property
    def reported(self) -> ReportedImages:
        return ReportedImages(address=self._address, digests=self.store.held())

    # What managers want of this node

    def keep(self, digests: Sequence[str], forget: Sequence[str]) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        self._keeping = asyncio.create_task(self._keep(list(digests), set(forget)))

    async def _keep(self, digests: list[str], forget: set[str]) -> None:
        try:
            await self.store.forget(forget)
        except OSError as error:
            log.warning("images that the swarm has no more stay here: %s", error.strerror or error)
        while digests:
            for digest in list(digests):
                try:
                    await self._fetcher.ensure(digest)
                except UnknownImage:
                    pass  # gone meanwhile
                except RuntimeFailed as error:
                    log.warning("%s; it is tried again", error)
                    continue
                digests.remove(digest)
            if digests:
                await asyncio.sleep(_KEEP_AGAIN_S)

    # What tasks need

    async def provide(self, run: TaskRun) -> TaskRun:
        """The image is where the runtime looks for it, if it is one of the cluster's: those are
        named with their digest. Raises RuntimeRefused, RuntimeFailed."""
        name, _, digest = run.image.partition("@")
        if not digest or self._runtime.name not in ("oci", "docker"):
            return run
        try:
            await self._fetcher.ensure(digest)
        except UnknownImage:
            return run  # a registry's
        if self._runtime.name == "oci":
            return run
        return replace(run, image=await self.load_into(self._runtime.images, name, digest))

    async def load_into(self, engine: Images, name: str, digest: str) -> str:
        """Gives an engine with images of its own this one; what it calls it."""
        async with self._into_engine:
            try:
                config = self.store.layout.image(self.store.descriptor(digest)).config_digest
            except ImageDamaged as error:
                raise RuntimeFailed(str(error)) from None
            for known_as in (config, digest):
                if await engine.has(known_as):
                    return known_as
            with self.store.scratch() as folder:
                archive = Path(folder) / "archive.tar"
                await self.store.save([(digest, [name] if name else [])], archive)
                await engine.load(archive)
            for known_as in (config, digest):
                if await engine.has(known_as):
                    return known_as
            raise RuntimeFailed(f"the engine took image {digest}, but does not know it")

    async def _find(self, digest: str) -> FindImageResponse:
        """Asks all managers: each knows by itself who takes the image just now."""
        answers = await asyncio.gather(
            *(self._ask(address, digest) for address in self.managers()), return_exceptions=True
        )
        found = [answer for answer in answers if isinstance(answer, FindImageResponse)]
        if found:
            for other in found[1:]:
                found[0].peers.extend(other.peers)
            return found[0]
        for answer in answers:
            if isinstance(answer, UnknownImage):
                raise answer
        raise ConnectionError("no manager answers")

    async def _ask(self, address: str, digest: str) -> FindImageResponse:
        async with manager_channel(address, self._bundle()) as channel:
            try:
                request = FindImageRequest(digest=digest)
                return await DispatcherStub(channel).FindImage(request, timeout=FIND_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    raise UnknownImage(f"No such image: {digest}", "image") from None
                raise ConnectionError(error.details()) from None
