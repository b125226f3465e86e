"""Virtual time: one heap of (time, sequence, callback), and processes written as generators.

Nothing here knows what is simulated. What happens at the same time happens in the order in
which it was asked for, so a run is a function of its seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from typing import Any

from swarm.simulation.violation import Violation

# More happens within a virtual second only where something goes round in circles.
_STEPS_A_SECOND_MAX = 50_000

# What a process yields: seconds to sleep, or a signal (with a patience) to wait for.
Process = Generator["float | Wait", Any, Any]


class Loop:
    """`now` is virtual seconds since the simulation began: true time, which no node sees."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._sequence = 0
        self._second = 0
        self._steps_before = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, time: float, callback: Callable[..., None], *args: Any) -> None:
        """Call back at that time, or as soon as possible."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(time, self.now), self._sequence, callback, args))

    def after(self, delay: float, callback: Callable[..., None], *args: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, callback, args))

    def run_until(self, end: float) -> None:
        """Let everything happen that is due by `end`."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end:
            self.now, _, callback, args = pop(heap)
            self.steps += 1
            if int(self.now) != self._second:
                self._second, self._steps_before = int(self.now), self.steps
            elif self.steps - self._steps_before > _STEPS_A_SECOND_MAX:
                raise Violation("nobody goes round in circles", f"at {self.now:.3f} s")
            callback(*args)
        self.now = end


class Signal:
    """Something that will be known once, and who waits for it."""

    __slots__ = ("_loop", "_waiting", "is_set", "value")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: list[Callable[[], None]] = []
        self.is_set = False
        self.value: Any = None

    def set(self, value: Any = None) -> None:
        """Only the first time counts. Who waits goes on after the current event."""
        if self.is_set:
            return
        self.is_set, self.value = True, value
        for callback in self._waiting:
            self._loop.after(0.0, callback)
        self._waiting.clear()

    def when_set(self, callback: Callable[[], None]) -> None:
        if self.is_set:
            self._loop.after(0.0, callback)
        else:
            self._waiting.append(callback)


def either(loop: Loop, *signals: Signal) -> Signal:
    """Set as soon as one of them is."""
    first = Signal(loop)
    for signal in signals:
        signal.when_set(first.set)
    return first


class Wait:
    """Yielded by a process: go on with the signal's value, or None after `timeout_s`."""

    __slots__ = ("signal", "timeout_s")

    def __init__(self, signal: Signal, timeout_s: float | None = None) -> None:
        self.signal = signal
        self.timeout_s = timeout_s


class Running:
    """A process under way. `done` gets what it returns."""

    def __init__(self, loop: Loop, process: Process, alive: Callable[[], bool]) -> None:
        self.done = Signal(loop)
        self._loop = loop
        self._process = process
        self._alive = alive
        self._turn = 0
        loop.after(0.0, self._go_on, 0, None)

    def _go_on(self, turn: int, value: Any) -> None:
        """A wake-up of an earlier turn (the time-out of what was answered) is nothing."""
        if turn != self._turn:
            return
        self._turn += 1
        if not self._alive():
            self._process.close()
            return
        try:
            wish = self._process.send(value)
        except StopIteration as end:
            self.done.set(end.value)
            return
        turn = self._turn
        if isinstance(wish, Wait):
            signal = wish.signal
            signal.when_set(lambda: self._go_on(turn, signal.value))
            if wish.timeout_s is not None:
                self._loop.after(wish.timeout_s, self._go_on, turn, None)
        else:
            self._loop.after(wish, self._go_on, turn, None)


def spawn(loop: Loop, process: Process, alive: Callable[[], bool] = lambda: True) -> Running:
    """Run a process as long as `alive` says so, asked before each of its steps."""
    return Running(loop, process, alive)
