"""Images that a compose file says how to build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.cli.errors import CliError

if TYPE_CHECKING:
    from swarm.compose.stack import Build


def build_images(builds: Sequence[Build]) -> None:
    """Raises CliError for the first that can't be built, before anything is deployed."""
    for build in builds:
        if not Path(build.context).is_dir():
            raise CliError(f"{build.place}: the build context {build.context} is no folder")
        raise CliError(
            f"{build.place}: service {build.service} is to be built, and building is not supported "
            "yet: build and load its image on the nodes, and name it with image: instead of build:"
        )
