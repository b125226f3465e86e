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
from swarm.worker.images.registry import can_pull, pull
from swarm.worker.images.serving import ImageServer
from swarm.worker.images.store import ImageStore
from swarm.worker.runtime.demo import is_demo
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
            lambda digest: self._find(FindImageRequest(digest=digest)),
            lambda address, node: node_channel(address, node, bundle()),
        )
        self._server = ImageServer(self.store, self._fetcher, runtime, cluster_id, bundle)
        self._address = ""
        self._keeping: asyncio.Task[None] | None = None
        self._into_engine = asyncio.Lock()
        self._pulling = asyncio.Lock()

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
        """The image is where the runtime looks for it: taken from other nodes if it is one of the
        cluster's, from its registry if it is none. Raises RuntimeRefused, RuntimeFailed."""
        if self._runtime.name not in ("oci", "docker") or is_demo(run.image):
            return run
        name, _, digest = run.image.partition("@")
        if not digest:
            if await self._runtime.images.has(run.image):
                return run
            # It may have been built or loaded since the service was made.
            digest = await self._digest_of(run.image)
        try:
            if digest:
                await self._fetcher.ensure(digest)
        except UnknownImage:
            digest = ""
        if not digest:
            return await self._from_registry(run)
        if self._runtime.name == "oci":
            return replace(run, image=f"{name}@{digest}")
        return replace(run, image=await self.load_into(self._runtime.images, name, digest))

    async def _digest_of(self, reference: str) -> str:
        """What the cluster means by the name; empty for nothing. Raises RuntimeFailed."""
        try:
            found = await self._find(FindImageRequest(reference=reference))
        except UnknownImage:
            return ""
        except ConnectionError as error:
            raise RuntimeFailed(f"image {reference} can't be asked for: {error}") from None
        return found.image.id

    async def _from_registry(self, run: TaskRun) -> TaskRun:
        """An engine pulls by itself; else skopeo does, for this node alone."""
        if self._runtime.name != "oci" or not can_pull():
            return run
        async with self._pulling:
            digest = self.store.pulled(run.image)
            if not digest:
                with self.store.scratch() as folder:
                    archive = Path(folder) / "archive.tar"
                    try:
                        await pull(self._runtime, run.image, run.registry_auth, archive)
                    except RuntimeFailed as error:
                        raise RuntimeFailed(
                            f"{error}; the swarm has none of this name either: `swarmctl build` or "
                            "`image load` it"
                        ) from None
                    digest = await self.store.keep_pulled(archive, run.image)
        return replace(run, image=f"{run.image.partition('@')[0]}@{digest}")

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

    async def _find(self, wanted: FindImageRequest) -> FindImageResponse:
        """Asks all managers: each knows by itself who takes the image just now."""
        answers = await asyncio.gather(
            *(self._ask(address, wanted) for address in self.managers()), return_exceptions=True
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

    async def _ask(self, address: str, wanted: FindImageRequest) -> FindImageResponse:
        async with manager_channel(address, self._bundle()) as channel:
            try:
                return await DispatcherStub(channel).FindImage(wanted, timeout=FIND_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    name = wanted.digest or wanted.reference
                    raise UnknownImage(f"No such image: {name}", "image") from None
                raise ConnectionError(error.details()) from None
