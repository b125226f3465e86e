"""From a command line to an exit code: the one place where exceptions become messages."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import click

from swarm.cli.errors import EXIT_ERROR, EXIT_INTERRUPTED, CliError

Translate = Callable[[Exception], CliError | None]


def run(
    root: click.Command,
    argv: Sequence[str] | None = None,
    *,
    prog_name: str = "swarmctl",
    translate: Translate | None = None,
) -> int:
    """Run `root` with `argv` (the process's own by default) and return the exit code.

    `translate` turns what a library raises, such as an RPC's error, into a `CliError`, or returns
    None; what nobody knows becomes one line, never a traceback. Ctrl-C gives 130.
    """
    _open_closed_streams()
    try:
        result = root.main(argv, prog_name=prog_name, standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_ERROR
    except Exception as error:
        known = translate(error) if translate else None
        failure = known or CliError(f"{prog_name}: {_one_line(error)}")
        failure.show()
        return failure.exit_code
    return result if isinstance(result, int) else 0


def _open_closed_streams() -> None:
    """Started with `>&-` there is no stdout at all: what is printed goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _discard_stdout() -> None:
    """The reader of our output is gone; keep Python from complaining about it at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
