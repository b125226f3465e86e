"""Group commit: all transactions that wait go into one log entry, each with its own verdict.

While an entry is under way, what comes in collects for the next; where much comes in, a few
entries are under way at once.
A transaction whose entry was in flight when leadership was lost is neither done nor failed:
it is answered as unknown, and repeated by its request id.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm.api.v1.store_pb2 import LogPayload, Transaction, Verdict
from swarm.manager.core.effects import Answer
from swarm.manager.core.store.grouping import BATCH_BYTES_MAX, BATCH_CHANGES_MAX

# An entry costs every manager the same work whatever is in it, so another one sets out while
# entries are under way only when so many transactions wait.
_WORTH_AN_ENTRY = 32
_IN_FLIGHT_MAX = 4
_WAITING_MAX = 10_000

NOBODY = 0


@dataclass(slots=True)
class _InFlight:
    index: int
    tokens: list[int]


@dataclass(slots=True)
class Proposer:
    _waiting: deque[tuple[int, Transaction]] = field(default_factory=deque[tuple[int, Transaction]])
    _in_flight: deque[_InFlight] = field(default_factory=deque[_InFlight])

    def add(self, token: int, transaction: Transaction) -> bool:
        """False when too many wait already. Token NOBODY: no answer is wanted."""
        if len(self._waiting) >= _WAITING_MAX:
            return False
        self._waiting.append((token, transaction))
        return True

    @property
    def wants_to_propose(self) -> bool:
        if not self._in_flight:
            return bool(self._waiting)
        return len(self._waiting) >= _WORTH_AN_ENTRY and len(self._in_flight) < _IN_FLIGHT_MAX

    def next_batch(self, now_ns: int) -> tuple[LogPayload, list[int]]:
        """As many of those that wait as one entry takes, and whom each is for."""
        payload = LogPayload(proposed_at_ns=now_ns)
        tokens: list[int] = []
        size = changes = 0
        while self._waiting:
            token, transaction = self._waiting[0]
            size += transaction.ByteSize()
            changes += len(transaction.changes)
            if tokens and (size > BATCH_BYTES_MAX or changes > BATCH_CHANGES_MAX):
                break
            self._waiting.popleft()
            payload.transactions.append(transaction)
            tokens.append(token)
        return payload, tokens

    def proposed(self, index: int, tokens: list[int]) -> None:
        self._in_flight.append(_InFlight(index, tokens))

    def put_back(self, payload: LogPayload, tokens: list[int]) -> None:
        """The entry was refused for now: in front again, in order."""
        self._waiting.extendleft(zip(reversed(tokens), reversed(payload.transactions), strict=True))

    def applied(self, index: int, verdicts: Sequence[Verdict]) -> list[Answer]:
        """Answers for the entry at this index, if it is one of ours."""
        if not self._in_flight or self._in_flight[0].index != index:
            return []
        tokens = self._in_flight.popleft().tokens
        return [
            Answer(token, verdict)
            for token, verdict in zip(tokens, verdicts, strict=True)
            if token != NOBODY
        ]

    def lost_leadership(self) -> list[Answer]:
        """What was under way is unknown; what only waited was never proposed."""
        answers = [
            Answer(token, None)
            for entry in self._in_flight
            for token in entry.tokens
            if token != NOBODY
        ]
        answers += [
            Answer(token, None, refused="leadership was lost before it was proposed")
            for token, _ in self._waiting
            if token != NOBODY
        ]
        self._in_flight.clear()
        self._waiting.clear()
        return answers
