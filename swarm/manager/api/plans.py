"""What requests would lead to, and why things are as they are: computed from a copy of the store,
on the manager that is asked, beside its other work."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import TypeVar

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.raft_pb2 import ConfState
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.core.planning.explanation import explain
from swarm.manager.core.planning.plan import plan
from swarm.manager.core.store import RandomIds, Store

_Answer = TypeVar("_Answer")


class PlanMethods(ControlRequests):
    async def Plan(self, request: pb.PlanRequest, context: Context) -> pb.PlanResponse:
        ids = RandomIds(random.SystemRandom().getrandbits)
        return await self._aside(
            context, lambda store: plan(store, request.changes, ids, time.time_ns())
        )

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        return await self._aside(context, lambda store: explain(store, request, time.time_ns()))

    async def _aside(self, context: Context, work: Callable[[Store], _Answer]) -> _Answer:
        """In a thread, over a copy of the store as it is now."""
        await self.read(context)
        image = self.manager.store.snapshot(self.manager.store.applied_index, 0, ConfState())
        return await asyncio.to_thread(lambda: work(Store.from_image(image)))
