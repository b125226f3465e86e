"""Compose files on this machine, as commands are told to read them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarm.cli import regular_file
from swarm.cli.errors import CliError
from swarm.cli.flags import LIST, STRING

if TYPE_CHECKING:
    from swarm.compose.project import Note, Project
    from swarm.compose.stack import Stack

Command = Callable[..., Any]


def file_flags(*names: str) -> Callable[[Command], Command]:
    """Which files, with which variables and profiles; `names` are those of the files' flag."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option(
                "--profile", "profiles", type=LIST, multiple=True, help="Enable a profile"
            ),
            click.option(
                "--env-file",
                "env_files",
                type=STRING,
                multiple=True,
                help="Read variables for the files from here rather than from .env",
            ),
            click.option(
                *names,
                "files",
                type=LIST,
                multiple=True,
                help='Path to a Compose file, or "-" to read from stdin',
            ),
        ):
            command = option(command)
        return command

    return decorate


def read_project(
    files: Sequence[str],
    environment: Mapping[str, str],
    *,
    env_files: Sequence[str] = (),
    profiles: Iterable[str] = (),
    project_folder: str = "",
) -> Project:
    """Raises CliError."""
    from swarm.compose.errors import ComposeError
    from swarm.compose.loader import Loader

    loader = Loader(_read, environment, str(Path.cwd()), str(Path.home()))
    try:
        return loader.load(
            files, env_files=env_files, profiles=profiles, project_folder=project_folder
        )
    except ComposeError as error:
        raise CliError(str(error)) from None


def read_stack(project: Project, name: str) -> Stack:
    """Raises CliError."""
    from swarm.compose.errors import ComposeError
    from swarm.compose.stack import check_stack_name, stack_of

    try:
        check_stack_name(name)
        return stack_of(project, name)
    except (ComposeError, ValueError) as error:
        raise CliError(str(error)) from None


def say(notes: Iterable[Note]) -> None:
    """Each once, on stderr."""
    for line in dict.fromkeys(map(str, notes)):
        click.echo(line, err=True)


def found_files(environment: Mapping[str, str]) -> list[str]:
    """COMPOSE_FILE, or those that docker compose would find here or above. Raises CliError."""
    from swarm.compose.loader import DEFAULT_FILES, OVERRIDE_FILES

    named = environment.get("COMPOSE_FILE", "")
    if named:
        return named.split(environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep)
    for folder in (Path.cwd(), *Path.cwd().parents):
        files = [folder / name for name in DEFAULT_FILES if (folder / name).is_file()]
        if files:
            overrides = [folder / name for name in OVERRIDE_FILES if (folder / name).is_file()]
            return [str(path) for path in (files[0], *overrides[:1])]
    raise CliError("no configuration file provided: not found: name one with -f")


def _read(path: str) -> bytes:
    """Raises OSError."""
    return regular_file.read_all(sys.stdin.buffer) if path == "-" else regular_file.read(path)
