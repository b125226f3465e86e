"""`--plan` and `--check-index` of the verbs that change services and nodes; see plan.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from swarm.cli.errors import EXIT_USAGE, CliError
from swarm.cli.flags import STRING, UINT, docker_bool_option

Command = Callable[..., Any]


def plan_flags(command: Command) -> Command:
    """--plan, --check-index and the plan's --format."""
    for decorate in (
        docker_bool_option(
            "--plan",
            help="Show what would change and where tasks would run, and change nothing "
            "(exit code 0: nothing to do, 2: changes)",
        ),
        click.option(
            "--check-index",
            type=UINT,
            help="Refuse if it was changed after this index, which --plan prints",
        ),
        click.option("--format", type=STRING, help='Format of what --plan shows ("json")'),
    ):
        command = decorate(command)
    return command


def check_format(plan: bool, format: str | None) -> None:  # noqa: A002 - the flag's name
    """Raises CliError."""
    if format is not None and not plan:
        raise CliError("--format goes with --plan", EXIT_USAGE)
    if format not in (None, "json"):
        raise CliError(f'invalid argument "{format}" for "--format" flag: must be json', EXIT_USAGE)
