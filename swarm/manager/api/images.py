"""Images, as users ask for them: the node of the manager that was asked handles the bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import grpc.aio

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1 import image_pb2 as img
from swarm.api.v1.control_pb2_grpc import ControlStub
from swarm.api.v1.store_pb2 import Transaction
from swarm.manager.api.forwarding import Forwarding
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.core.validate import images
from swarm.manager.core.validate.images import Removal
from swarm.manager.image_nodes import ImageNodes
from swarm.manager.manager import Manager, Unavailable


class ImageMethods(ControlRequests):
    def __init__(self, manager: Manager, forwarding: Forwarding, nodes: ImageNodes) -> None:
        super().__init__(manager, forwarding)
        self._nodes = nodes

    async def ListImages(
        self, request: pb.ListImagesRequest, context: Context
    ) -> pb.ListImagesResponse:
        await self.read(context)
        return pb.ListImagesResponse(images=self.manager.store.images())

    async def GetImage(self, request: pb.GetImageRequest, context: Context) -> pb.GetImageResponse:
        await self.read(context)
        image = images.resolve(self.manager.store, request.reference)
        try:
            async with self._nodes.own() as node:
                config = (await node.Config(img.ImageConfigRequest(digest=image.id))).config
        except (Unavailable, grpc.aio.AioRpcError):
            config = b""
        return pb.GetImageResponse(image=image, config=config)

    async def TagImage(self, request: pb.TagImageRequest, context: Context) -> pb.TagImageResponse:
        return await self.forwarding.on_leader(
            context, request, self._tag, lambda channel: ControlStub(channel).TagImage
        )

    async def RemoveImage(
        self, request: pb.RemoveImageRequest, context: Context
    ) -> pb.RemoveImageResponse:
        return await self.forwarding.on_leader(
            context, request, self._remove, lambda channel: ControlStub(channel).RemoveImage
        )

    async def PruneImages(
        self, request: pb.PruneImagesRequest, context: Context
    ) -> pb.PruneImagesResponse:
        return await self.forwarding.on_leader(
            context, request, self._prune, lambda channel: ControlStub(channel).PruneImages
        )

    async def RegisterImages(
        self, request: pb.RegisterImagesRequest, context: Context
    ) -> pb.RegisterImagesResponse:
        return await self.forwarding.on_leader(
            context, request, self._register, lambda channel: ControlStub(channel).RegisterImages
        )

    async def LoadImage(
        self, request_iterator: AsyncIterator[img.LoadImageRequest], context: Context
    ) -> img.LoadImageResponse:
        async with self._nodes.own() as node:
            loaded = await node.Load(request_iterator)
        await self._make_known(loaded.images, context)
        return loaded

    async def SaveImage(
        self, request: img.SaveImageRequest, context: Context
    ) -> AsyncIterator[img.SaveImageResponse]:
        await self.read(context)
        found = [
            f"{images.saved_name(self.manager.store, text)}={image.id}"
            for text in request.references
            for image in (images.resolve(self.manager.store, text),)
        ]
        async with self._nodes.own() as node:
            async for piece in node.Save(img.SaveImageRequest(references=found)):
                yield piece

    async def PullImage(
        self, request: img.PullImageRequest, context: Context
    ) -> AsyncIterator[img.ImageProgress]:
        images.check_reference(request.reference)
        async with self._nodes.own() as node:
            async for progress in node.Pull(request):
                await self._make_known(progress.images, context)
                yield progress

    async def BuildImage(
        self, request_iterator: AsyncIterator[img.BuildImageRequest], context: Context
    ) -> AsyncIterator[img.ImageProgress]:
        await self.read(context)
        async with self._nodes.own() as node:
            async for progress in node.Build(self._with_bases(request_iterator)):
                await self._make_known(progress.images, context)
                yield progress

    async def _with_bases(
        self, requests: AsyncIterator[img.BuildImageRequest]
    ) -> AsyncIterator[img.BuildImageRequest]:
        """The images that the Dockerfile begins with, as far as the cluster knows them."""
        async for request in requests:
            if request.HasField("settings"):
                found = [
                    (name, images.find(self.manager.store, name)) for name in request.settings.bases
                ]
                request.settings.bases[:] = [
                    f"{name}={image.id if image is not None else ''}" for name, image in found
                ]
            yield request

    async def _make_known(self, found: Sequence[img.Image], context: Context) -> None:
        if not found:
            return
        own = self._nodes.own_node_id
        request = pb.RegisterImagesRequest(images=found)
        for image in request.images:
            image.keeper_node_ids[:] = [own]
        await self.forwarding.on_leader(
            context, request, self._register, lambda channel: ControlStub(channel).RegisterImages
        )

    async def _register(
        self, request: pb.RegisterImagesRequest, who: str
    ) -> pb.RegisterImagesResponse:
        def build() -> Transaction:
            return images.register(self.manager.store, request.images, who)

        await self.commit(request.request_id, build)
        return pb.RegisterImagesResponse()

    async def _tag(self, request: pb.TagImageRequest, who: str) -> pb.TagImageResponse:
        def build() -> Transaction:
            return images.tag(self.manager.store, request.source, request.target, who)

        await self.commit(request.request_id, build)
        return pb.TagImageResponse()

    async def _remove(self, request: pb.RemoveImageRequest, who: str) -> pb.RemoveImageResponse:
        if self.is_done(request.request_id):
            return pb.RemoveImageResponse(untagged=[request.reference])
        removal = Removal()

        def build() -> Transaction:
            nonlocal removal
            store = self.manager.store
            removal = images.remove(store, request.reference, request.force, who)
            return removal.transaction

        await self.commit(request.request_id, build)
        return pb.RemoveImageResponse(untagged=removal.untagged, deleted=removal.deleted)

    async def _prune(self, request: pb.PruneImagesRequest, who: str) -> pb.PruneImagesResponse:
        removal = Removal()

        def build() -> Transaction:
            nonlocal removal
            removal = images.prune(self.manager.store, request.all, who)
            return removal.transaction

        await self.commit(request.request_id, build)
        return pb.PruneImagesResponse(
            untagged=removal.untagged,
            deleted=removal.deleted,
            reclaimed_bytes=removal.reclaimed_bytes,
        )
