"""A user's change, on its way to its one effect: who handles it, what is proposed, what the
answer means.

Each attempt has an id that follows from the request's, and the store remembers ids with their
verdicts. So a request asked again, of another leader too, walks the same attempts and finds the one
that was made; what was under way when leadership was lost is unknown, and is asked again.
"""

import functools
import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass

from swarm.api.v1.store_pb2 import VERDICT_OK, Transaction, Verdict
from swarm.manager.core.store import Store, check_size
from swarm.manager.core.store.ids import id_from_number
from swarm.manager.core.validate import ErrorCode, InvalidRequest, refusal, verdict_of

_ATTEMPTS = 5
# Of one call to the leader; another manager may lead by then.
_CALL_S = 5.0
# How long to wait for somebody else to lead before looking again.
LOOK_AGAIN_S = 0.1


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


def commit(
    request_id: str, store: Callable[[], Store], build: Callable[[], Transaction]
) -> Generator[Transaction, Verdict, Verdict]:
    """Build a transaction from the store as it is, and commit it. Where another change came
    between, it is built again; what can't be is an InvalidRequest.

    Yields what to propose, is sent the verdict on it, and returns that of the attempt that took
    effect. `store` gives the store of the moment: a snapshot may replace it. Without a request
    id nothing is remembered.

    The same request may be on its way a second time, because its sender had no answer. So a
    refusal that follows from what is stored is proposed as well: the log decides whether it or
    the effect came first, and no copy that arrives late undoes what a client was told.
    """
    verdict = Verdict()
    for attempt_id in _attempts(request_id):
        known = store().verdict(attempt_id) if attempt_id else None
        verdict = known or (yield _transaction(attempt_id, build))
        if verdict.code == VERDICT_OK:
            return verdict
        if verdict.refused:
            break
    raise refusal(verdict)


def effect_of(store: Store, request_id: str) -> Verdict | None:
    """The verdict with which an earlier asking of this request took effect, if one did."""
    if not request_id:
        return None
    verdicts = map(store.verdict, _attempts(request_id))
    return next((v for v in verdicts if v is not None and v.code == VERDICT_OK), None)


def _attempts(request_id: str) -> list[str]:
    return [f"{request_id}#{attempt}" if request_id else "" for attempt in range(_ATTEMPTS)]


def _transaction(attempt_id: str, build: Callable[[], Transaction]) -> Transaction:
    """Raises InvalidRequest for what is wrong whenever it is asked, and without an id."""
    try:
        transaction = build()
        too_large = check_size(transaction)
        if too_large:
            raise InvalidRequest(too_large)
    except InvalidRequest as invalid:
        if not attempt_id or invalid.code is ErrorCode.INVALID:
            raise
        transaction = Transaction(refusal=verdict_of(invalid))
    transaction.request_id = attempt_id
    return transaction


@dataclass(frozen=True, slots=True)
class Here:
    """This manager leads: perform it."""


@dataclass(frozen=True, slots=True)
class AskLeader:
    """Pass it on, once; no answer within `timeout_s` means that the outcome is unknown."""

    raft_id: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class NobodyLeads:
    """There is nobody to ask now."""


Step = Here | AskLeader | NobodyLeads


@dataclass(frozen=True, slots=True)
class Route:
    """Where a change is made: by the leader, to whom a follower passes it on with one hop.

    `forwarded`: it came from a follower. `deadline`: until when it is worth trying, in the clock
    of the `now` of each call, with the time taken off that telling why takes.
    """

    forwarded: bool
    deadline: float

    def next(self, *, leads: bool, leader: int, myself: int, now: float) -> Step:
        """`leads`: and knows all that was committed before. `leader`: 0 for nobody."""
        if leads:
            return Here()
        if self.forwarded or leader in (0, myself):
            # Its sender knows better now, or soon; and one that has just begun to lead will know.
            return NobodyLeads()
        return AskLeader(leader, max(LOOK_AGAIN_S, min(_CALL_S, self.deadline - now)))

    def ask_again(self, now: float) -> bool:
        """Whether what is unknown or could not be asked is asked again, with its id."""
        return not self.forwarded and now <= self.deadline


def is_given_up(asked: int, leader: int) -> bool:
    """A leader that fell silent answers nobody: who waits for it gives up when another leads."""
    return leader not in (0, asked)
