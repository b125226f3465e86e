"""Linearizable reads: many wait for one ReadIndex round, then for this store to catch up.

Raft dissertation, section 6.4. No lease is used: a clock that stands still must not make a
read stale.
"""

from dataclasses import dataclass, field

# A round not answered after this many ticks is asked again: its messages were lost, or the
# leader was.
_ROUND_TICKS = 10
_ROUNDS_MAX = 4


@dataclass(slots=True)
class _Round:
    context: bytes
    tokens: list[int]
    asked_at_tick: int


@dataclass(slots=True)
class Reads:
    """`nonce`: eight random bytes of this process, so that no context is ever used twice."""

    nonce: bytes
    _waiting: list[int] = field(default_factory=list[int])
    _rounds: dict[bytes, _Round] = field(default_factory=dict[bytes, _Round])
    _confirmed: list[tuple[int, list[int]]] = field(default_factory=list[tuple[int, list[int]]])
    _counter: int = 0
    _tick: int = 0

    def add(self, token: int) -> None:
        self._waiting.append(token)

    def tick(self) -> None:
        """Rounds that were not answered in time go back to the queue."""
        self._tick += 1
        late = [
            round_
            for round_ in self._rounds.values()
            if self._tick - round_.asked_at_tick > _ROUND_TICKS
        ]
        for round_ in late:
            del self._rounds[round_.context]
            self._waiting.extend(round_.tokens)

    def lost_leader(self) -> None:
        """Whoever was asked will not answer: ask the next leader."""
        for round_ in self._rounds.values():
            self._waiting.extend(round_.tokens)
        self._rounds.clear()

    def next_context(self) -> bytes | None:
        """The context of a round to ask for now, if anybody waits."""
        if not self._waiting or len(self._rounds) >= _ROUNDS_MAX:
            return None
        self._counter += 1
        context = self.nonce + self._counter.to_bytes(8, "big")
        self._rounds[context] = _Round(context, self._waiting, self._tick)
        self._waiting = []
        return context

    def confirmed(self, context: bytes, index: int) -> None:
        """The leader led when it was asked, and had committed up to `index`."""
        round_ = self._rounds.pop(context, None)
        if round_ is not None:
            self._confirmed.append((index, round_.tokens))

    def ready(self, applied: int) -> list[int]:
        """Tokens whose read may be served from a store that has applied this much."""
        if not self._confirmed:
            return []
        tokens = [t for index, tokens in self._confirmed if index <= applied for t in tokens]
        self._confirmed = [item for item in self._confirmed if item[0] > applied]
        return tokens
