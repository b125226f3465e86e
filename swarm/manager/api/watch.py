"""Watching the store: what is, then what changes, with no gap between."""

from collections.abc import AsyncIterator, Iterable, Sequence

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.node_pb2 import Member, Node
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import Service, ServiceRevision
from swarm.api.v1.store_pb2 import (
    TABLE_CLUSTER,
    TABLE_CONFIG,
    TABLE_IMAGE,
    TABLE_MEMBER,
    TABLE_NODE,
    TABLE_SECRET,
    TABLE_SERVICE,
    TABLE_SERVICE_REVISION,
    TABLE_TASK,
    Object,
)
from swarm.api.v1.task_pb2 import Task
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.api.views import without_data, without_secrets
from swarm.manager.core.store import Store, StoreChange, StoreObject
from swarm.manager.core.validate.registry_login import without_login
from swarm.manager.manager import Unavailable

_PAGE = 200


class WatchMethods(ControlRequests):
    async def Watch(
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        await self.read(context)
        watch = self.manager.watches.open()
        try:
            # No await between opening the watch and reading the store: nothing falls between.
            for page in self._beginning(request):
                yield page
            while (changes := await watch.queue.get()) is not None:
                answer = _answer(changes, request)
                if answer.events:
                    yield answer
            raise Unavailable("the watch fell behind: begin it anew")
        finally:
            self.manager.watches.close(watch)

    def _beginning(self, request: pb.WatchRequest) -> list[pb.WatchResponse]:
        store = self.manager.store
        if request.after_revision:
            missed = store.changes_since(request.after_revision)
            if missed is not None:
                answer = _answer(missed, request)
                answer.revision, answer.current = store.revision, True
                return [answer]
        pages = [pb.WatchResponse(revision=store.revision)]
        for item in _all(store, request):
            if len(pages[-1].events) >= _PAGE:
                pages.append(pb.WatchResponse(revision=store.revision))
            pages[-1].events.append(pb.WatchEvent(object=to_object(item)))
        pages[-1].current = True
        return pages


def to_object(item: StoreObject) -> Object:
    """In its envelope, without secrets."""
    match item:
        case Cluster():
            return Object(cluster=without_secrets(item))
        case Node():
            return Object(node=item)
        case Service():
            return Object(service=without_login(item))
        case ServiceRevision():
            return Object(service_revision=item)
        case Task():
            return Object(task=item)
        case Member():
            return Object(member=item)
        case Secret():
            return Object(secret=without_data(item))
        case Config():
            return Object(config=item)
        case Image():
            return Object(image=item)


def _all(store: Store, request: pb.WatchRequest) -> Iterable[StoreObject]:
    """What is, of the tables asked for."""
    tables, service_id = set(request.tables), request.service_id
    if TABLE_CLUSTER in tables and (cluster := store.cluster()) is not None:
        yield cluster
    if TABLE_NODE in tables:
        yield from store.nodes()
    if TABLE_MEMBER in tables:
        yield from store.members()
    if TABLE_SECRET in tables:
        yield from store.secrets()
    if TABLE_CONFIG in tables:
        yield from store.configs()
    if TABLE_IMAGE in tables:
        yield from store.images()
    one = store.service(service_id) if service_id else None
    services = ([one] if one else []) if service_id else list(store.services())
    if TABLE_SERVICE in tables:
        yield from services
    if TABLE_SERVICE_REVISION in tables:
        for service in services:
            for revision in store.revisions_of_service(service.id):
                row = store.revision_row(service.id, revision)
                if row is not None:
                    yield row
    if TABLE_TASK in tables:
        yield from store.tasks_of_service(service_id) if service_id else store.tasks()


def _answer(changes: Sequence[StoreChange], request: pb.WatchRequest) -> pb.WatchResponse:
    answer = pb.WatchResponse()
    tables = set(request.tables)
    for change in changes:
        item = change.new if change.new is not None else change.old
        if item is None or change.table not in tables or not _concerns(item, request.service_id):
            continue
        answer.events.append(pb.WatchEvent(object=to_object(item), deleted=change.new is None))
        answer.revision = change.revision
    return answer


def _concerns(item: StoreObject, service_id: str) -> bool:
    if not service_id:
        return True
    match item:
        case Service():
            return item.id == service_id
        case ServiceRevision() | Task():
            return item.service_id == service_id
        case _:
            return True
