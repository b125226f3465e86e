"""What a stack's parts are called in the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.compose.fields import Fields
from swarm.compose.tree import Mapping


@dataclass(frozen=True, slots=True)
class Names:
    stack: str

    def scoped(self, name: str) -> str:
        """NAME of STACK: STACK_NAME, as Docker has it."""
        return f"{self.stack}_{name}"

    def of_resource(self, name: str, fields: Fields) -> tuple[str, bool]:
        """The name of a volume, secret or config, and whether somebody else made it: `external`,
        or what used to be written as external.name. Takes both keys."""
        external = fields.node.get("external")
        own = fields.text("name")
        if isinstance(external, Mapping):
            inner = fields.fields("external")
            assert inner is not None, "it is there"
            return inner.text("name") or own or name, True
        if fields.boolean("external"):
            return own or name, True
        return own or self.scoped(name), False
