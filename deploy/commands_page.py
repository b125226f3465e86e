"""docs/commands.md from the help texts. `--check` only says whether it is up to date."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from swarm.cli.main import cli
from swarm.node.main import command as swarmd

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
HEAD = """# Commands

What `--help` says, verb by verb; written by `make commands`.
"""


def main() -> int:
    parts = [HEAD]
    for name, root in (("swarmctl", cli), ("swarmd", swarmd)):
        parts += [f"## {path}\n\n```text\n{text}\n```\n" for path, text in helps(root, name, None)]
    text = "\n".join(parts)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        print("docs/commands.md is not what --help says: run `make commands`")
        return 1
    return 0


def helps(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[tuple[str, str]]:
    """Of a command and all below it: what it is called by, and its help."""
    # click wraps swarmd's own help to the terminal: the page has always the same width.
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=80, max_content_width=80
    )
    with context:
        text = command.get_help(context)
        yield context.command_path, "\n".join(line.rstrip() for line in text.splitlines())
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                if found is not None and not found.hidden:
                    yield from helps(found, child, context)


if __name__ == "__main__":
    sys.exit(main())
