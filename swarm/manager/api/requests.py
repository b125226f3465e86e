"""What the control methods share: linearizable reads, and changes made on the leader."""

import functools
import hashlib
from collections.abc import Callable
from typing import cast

from swarm.api.v1.store_pb2 import VERDICT_OK, Transaction, Verdict
from swarm.manager.api.forwarding import Forwarding
from swarm.manager.api.interceptor import Context
from swarm.manager.core.store import check_size
from swarm.manager.core.store.ids import id_from_number
from swarm.manager.core.validate import InvalidRequest, refusal
from swarm.manager.manager import Manager

# A read that finds no leader for this long says so.
READ_TIMEOUT_S = 5.0
# As long before the caller's deadline, so that it is told why.
_ANSWER_S = 0.3
_ATTEMPTS = 5


class RequestIds:
    """Ids that follow from a request's id: asked again of another leader, the same request
    makes the same objects."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._count = 0

    def new(self) -> str:
        self._count += 1
        return _id_for(f"{self._request_id}:{self._count}")


@functools.lru_cache(maxsize=64)
def _id_for(text: str) -> str:
    """Asked for when the transaction is built, and again when it is answered."""
    return id_from_number(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


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
        """Build a transaction from the store as it is, and commit it. Where another change came
        between, it is built again; what can't be is an InvalidRequest of `build`.

        Every attempt has an id of its own that follows from the request's, so that the request
        asked again of another leader walks the same attempts and finds the one that was made.
        """
        verdict = Verdict()
        for attempt in range(_ATTEMPTS):
            attempt_id = f"{request_id}#{attempt}" if request_id else ""
            known = self.manager.store.verdict(attempt_id) if attempt_id else None
            verdict = known or await self._propose(attempt_id, build())
            if verdict.code == VERDICT_OK:
                return verdict
        raise refusal(verdict)

    def is_done(self, request_id: str) -> bool:
        """Did an earlier asking of this request take effect?"""
        verdicts = (
            self.manager.store.verdict(f"{request_id}#{attempt}") for attempt in range(_ATTEMPTS)
        )
        return bool(request_id) and any(v is not None and v.code == VERDICT_OK for v in verdicts)

    async def _propose(self, attempt_id: str, transaction: Transaction) -> Verdict:
        too_large = check_size(transaction)
        if too_large:
            raise InvalidRequest(too_large)
        transaction.request_id = attempt_id
        return await self.manager.propose(transaction)
