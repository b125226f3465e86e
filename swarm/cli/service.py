"""`swarmctl service`: the noun; its verbs are in service_*.py."""

from __future__ import annotations

import click

from swarm.cli.command import DockerGroup, LazyCommand


def _verb(name: str, target: str, about: str, *aliases: str) -> LazyCommand:
    return LazyCommand(name, f"swarm.cli.{target}", about, aliases, is_group=False)


@click.group(
    cls=DockerGroup,
    name="service",
    help="Manage Swarm services",
    lazy=(
        _verb("create", "service_create:create", "Create a new service"),
        _verb(
            "inspect",
            "service_list:inspect",
            "Display detailed information on one or more services",
        ),
        _verb("logs", "service_logs:logs", "Fetch the logs of a service or task"),
        _verb("ls", "service_list:ls", "List services", "list"),
        _verb("ps", "service_list:ps", "List the tasks of one or more services"),
        _verb("rm", "service_update:rm", "Remove one or more services", "remove"),
        _verb(
            "rollback",
            "service_update:rollback",
            "Revert changes to a service's configuration",
        ),
        _verb("scale", "service_update:scale", "Scale one or multiple replicated services"),
        _verb("update", "service_update:update", "Update a service"),
    ),
)
def service() -> None:
    pass
