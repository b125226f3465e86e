"""Deliberate bugs, each of which the simulator must find: one that finds nothing proves nothing.

A mutant replaces functions of production classes while it is applied, and never otherwise.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from swarm.simulation.mutants import consensus, disk, files, placement, recovery, store, updates
from swarm.simulation.mutants.patches import Maker


class Mutants:
    def __init__(self, makers: Mapping[str, Maker]) -> None:
        self._makers = makers

    @property
    def names(self) -> list[str]:
        return list(self._makers)

    @contextmanager
    def applied(self, name: str) -> Generator[None]:
        """While inside, the bug is there. No name, no bug."""
        patches = self._makers[name]() if name else []
        kept = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in patches]
        for owner, attribute, instead in patches:
            setattr(owner, attribute, instead)
        try:
            yield
        finally:
            for owner, attribute, original in kept:
                setattr(owner, attribute, original)


MUTANTS = Mutants(
    {
        **consensus.MAKERS,
        **store.MAKERS,
        **disk.MAKERS,
        **recovery.MAKERS,
        **updates.MAKERS,
        **placement.MAKERS,
        **files.MAKERS,
    }
)
