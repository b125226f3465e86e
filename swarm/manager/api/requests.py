"""What the control methods share: linearizable reads, and changes made on the leader."""

from collections.abc import Callable
from typing import cast

from swarm.api.v1.control_pb2 import UpdateNodeRequest, UpdateServiceRequest
from swarm.api.v1.store_pb2 import Transaction, Verdict
from swarm.manager.api.forwarding import Forwarding
from swarm.manager.api.interceptor import Context
from swarm.manager.core import requests
from swarm.manager.manager import Manager

# A read that finds no leader for this long says so.
READ_TIMEOUT_S = 5.0
# As long before the caller's deadline, so that it is told why.
_ANSWER_S = 0.3


class ControlRequests:
    """Base of the control API's nouns."""

    def __init__(self, manager: Manager, forwarding: Forwarding) -> None:
        self.manager = manager
        self.forwarding = forwarding

    async def read(self, context: Context) -> None:
        """After this the store holds all that was committed before the request came."""
        remaining = cast("float | None", context.time_remaining())
        patience_s = READ_TIMEOUT_S if remaining is None else max(0.0, remaining - _ANSWER_S)
        await self.manager.read(min(patience_s, READ_TIMEOUT_S))

    async def commit(self, request_id: str, build: Callable[[], Transaction]) -> Verdict:
        """The verdict of the attempt that took effect (`core.requests.commit`)."""
        attempts = requests.commit(request_id, lambda: self.manager.store, build)
        try:
            transaction = next(attempts)
            while True:
                transaction = attempts.send(await self.manager.propose(transaction))
        except StopIteration as done:
            return cast("Verdict", done.value)

    def is_done(self, request_id: str) -> bool:
        """Did an earlier asking of this request take effect?"""
        return requests.effect_of(self.manager.store, request_id) is not None


def index_of(request: UpdateServiceRequest | UpdateNodeRequest) -> int | None:
    """The store's revision after which nobody may have changed it; None: any."""
    return request.check_index if request.HasField("check_index") else None
