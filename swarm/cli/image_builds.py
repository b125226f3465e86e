"""Images that a compose file says how to build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.cli.errors import CliError

if TYPE_CHECKING:
    from swarm.cli.client import Client
    from swarm.compose.stack import Build


def build_images(client: Client, builds: Sequence[Build]) -> None:
    """Raises CliError for the first that can't be built, before anything is deployed."""
    from swarm.api.v1.image_pb2 import BuildSettings
    from swarm.cli.build import build_image

    for build in builds:
        context = Path(build.context)
        if not context.is_dir():
            raise CliError(f"{build.place}: the build context {build.context} is no folder")
        settings = BuildSettings(
            names=[build.image], build_args=build.arguments, target=build.target
        )
        file = str(context / build.dockerfile) if build.dockerfile else None
        try:
            build_image(client, settings, context, file)
        except CliError as error:
            raise CliError(f"{build.place}: service {build.service}: {error.message}") from None
