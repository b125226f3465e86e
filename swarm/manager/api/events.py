"""What happened and what happens, from the changes that this manager's store keeps."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence

from swarm.api.v1 import control_pb2 as pb
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.core.cluster_events import events_of
from swarm.manager.core.store import StoreChange
from swarm.manager.manager import Unavailable

_PAGE = 500


class EventMethods(ControlRequests):
    async def Events(
        self, request: pb.EventsRequest, context: Context
    ) -> AsyncIterator[pb.EventsResponse]:
        await self.read(context)
        watch = self.manager.watches.open()
        try:
            # No await between opening the watch and reading the store: nothing falls between.
            past, missed = self._past(request)
            reached = self.manager.store.revision
            yield pb.EventsResponse(missed=missed)
            for start in range(0, len(past), _PAGE):
                yield self._answer(past[start : start + _PAGE], request)
            yield pb.EventsResponse(revision=reached)
            while (left_s := _left_s(request)) is None or left_s > 0:
                changes = await _next(watch.queue, left_s)
                if changes is None:
                    raise Unavailable("the events came faster than they were taken: ask anew")
                answer = self._answer(changes, request)
                if answer.events:
                    answer.revision = changes[-1].revision
                    yield answer
        finally:
            self.manager.watches.close(watch)

    def _past(self, request: pb.EventsRequest) -> tuple[Sequence[StoreChange], bool]:
        """What is to be told of what happened, and whether some of it is not kept any more."""
        store = self.manager.store
        if request.after_revision:
            changes = store.changes_since(request.after_revision)
            return changes or (), changes is None
        if not request.since_ns:
            return (), False
        kept = store.changes_kept()
        forgotten = store.revision > len({change.revision for change in kept})
        missed = forgotten and (not kept or kept[0].at_ns > request.since_ns)
        return [change for change in kept if change.at_ns >= request.since_ns], missed

    def _answer(
        self, changes: Iterable[StoreChange], request: pb.EventsRequest
    ) -> pb.EventsResponse:
        until_ns = request.until_ns or float("inf")
        events = [
            event
            for event in events_of(changes, self.manager.store)
            if event.at_ns <= until_ns and (not request.kinds or event.kind in request.kinds)
        ]
        return pb.EventsResponse(events=events)


def _left_s(request: pb.EventsRequest) -> float | None:
    """Until the end that was asked for; None: there is none."""
    return (request.until_ns - time.time_ns()) / 1e9 if request.until_ns else None


async def _next(
    queue: "asyncio.Queue[Sequence[StoreChange] | None]", timeout_s: float | None
) -> Sequence[StoreChange] | None:
    """The next changes, none where the time is up; None where the watch was cut off."""
    try:
        async with asyncio.timeout(timeout_s):
            return await queue.get()
    except TimeoutError:
        return ()
