"""What requests would lead to, computed on the manager that is asked, beside its other work."""

import asyncio
import random
import time

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.raft_pb2 import ConfState
from swarm.manager.api.interceptor import Context
from swarm.manager.api.requests import ControlRequests
from swarm.manager.core.planning.plan import plan
from swarm.manager.core.store import RandomIds, Store


class PlanMethods(ControlRequests):
    async def Plan(self, request: pb.PlanRequest, context: Context) -> pb.PlanResponse:
        await self.read(context)
        image = self.manager.store.snapshot(self.manager.store.applied_index, 0, ConfState())

        def work() -> pb.PlanResponse:
            ids = RandomIds(random.SystemRandom().getrandbits)
            return plan(Store.from_image(image), request.changes, ids, time.time_ns())

        return await asyncio.to_thread(work)
