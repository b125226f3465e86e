"""What a set of compose files says, once they are one."""

from __future__ import annotations

from collections.abc import Mapping as Variables
from dataclasses import dataclass, field

from swarm.compose.errors import Place
from swarm.compose.tree import Mapping


@dataclass(frozen=True, slots=True)
class Note:
    """For stderr: what of a file has no effect, or was guessed."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True, slots=True)
class Project:
    """Services by name, in canonical form; those of profiles that are not wanted are left out."""

    # The file's `name`, or "".
    name: str
    folder: str
    # The whole, as `config` shows it.
    tree: Mapping
    services: dict[str, Mapping]
    volumes: dict[str, Mapping]
    networks: dict[str, Mapping]
    secrets: dict[str, Mapping]
    configs: dict[str, Mapping]
    environment: Variables[str, str]
    # Contents of the files that secrets and configs name, by path.
    contents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    notes: tuple[Note, ...] = ()
