"""Bugs in what becomes of secrets and configs."""

from __future__ import annotations

from typing import Any

from swarm.manager.core.dispatcher.dependencies import SentDependencies
from swarm.manager.core.store.tables import Tables
from swarm.simulation.mutants.patches import Maker, Patch


def secret_kept() -> list[Patch]:
    """A node is never told that none of its tasks needs a secret any more."""

    def withdrawn(self: SentDependencies) -> tuple[list[str], list[str], list[str]]:
        del self
        return [], [], []

    return [(SentDependencies, "withdrawn", withdrawn)]


def secret_in_use_goes() -> list[Patch]:
    """Whether services use a secret is not looked at when it is removed."""

    def services_using(self: Tables, table: Any, key: str) -> list[str]:
        del self, table, key
        return []

    return [(Tables, "services_using", services_using)]


MAKERS: dict[str, Maker] = {
    "secret-in-use-goes": secret_in_use_goes,
    "secret-kept": secret_kept,
}
