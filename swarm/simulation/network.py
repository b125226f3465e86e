"""The wire: every message has its own fate, drawn from the seed and from what is cut."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from swarm.simulation.loop import Loop


@dataclass(slots=True)
class Weather:
    """How bad the network is for everybody. Probabilities per message."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    reorder: bool = False


class Network:
    """Links are directed: a cut may be one way only. Nodes are named."""

    def __init__(self, loop: Loop, rng: random.Random) -> None:
        self.weather = Weather()
        self.counts = {"dropped": 0, "duplicated": 0, "delayed": 0}
        self._loop = loop
        self._rng = rng
        self._cut: set[tuple[str, str]] = set()
        # The last arrival on each link: what keeps an order.
        self._arrival: dict[tuple[str, str], float] = {}

    def cut(self, source: str, target: str) -> None:
        self._cut.add((source, target))

    def heal(self) -> None:
        self._cut.clear()

    @property
    def is_whole(self) -> bool:
        return not self._cut

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cut

    def datagram(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        """May be lost, come twice, late, or in another order."""
        if source == target:
            self._loop.after(0.0, arrive)
            return
        weather, rng = self.weather, self._rng
        if (source, target) in self._cut:
            return
        if weather.drop and rng.random() < weather.drop:
            self.counts["dropped"] += 1
            return
        self._loop.at(self._time_of_arrival(source, target, ordered=not weather.reorder), arrive)
        if weather.duplicate and rng.random() < weather.duplicate:
            self.counts["duplicated"] += 1
            self._loop.after(rng.uniform(0.001, 0.5), arrive)

    def segment(self, source: str, target: str, arrive: Callable[[], None]) -> bool:
        """A piece of a stream: in order, never twice. False: it is lost, and with it the stream."""
        if source == target:
            self._loop.after(0.0, arrive)
            return True
        if (source, target) in self._cut:
            return False
        weather = self.weather
        if weather.drop and self._rng.random() < weather.drop / 4:
            self.counts["dropped"] += 1
            return False
        self._loop.at(self._time_of_arrival(source, target, ordered=True), arrive)
        return True

    def _time_of_arrival(self, source: str, target: str, *, ordered: bool) -> float:
        rng = self._rng
        delay = 0.0003 + 0.0015 * rng.random()
        if self.weather.delay and rng.random() < self.weather.delay:
            self.counts["delayed"] += 1
            delay += rng.uniform(0.01, 0.6)
        at = self._loop.now + delay
        if ordered:
            link = (source, target)
            at = max(at, self._arrival.get(link, 0.0))
            self._arrival[link] = at
        return at
