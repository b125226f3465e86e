"""Errors that a user reads at the prompt, and the exit codes that go with them."""

from __future__ import annotations

import sys
from typing import IO, Any

import click

EXIT_ERROR = 1
EXIT_TEMPLATE = 64
"""`inspect --format` with a template that does not parse."""
EXIT_USAGE = 125
"""A flag that is unknown, unsupported or has a bad value."""
EXIT_INTERRUPTED = 130


class CliError(click.ClickException):
    """What was wrong, where, and what to do; ends the command with `exit_code`."""

    def __init__(self, message: str, exit_code: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # pyright: ignore[reportAttributeAccessIssue]

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message alone, as Docker does: no "Error:" before it."""
        if self.message:
            click.echo(self.message, file=file or sys.stderr)
