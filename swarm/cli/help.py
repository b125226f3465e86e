"""The text of `--help`, in the layout of Docker's client (its cobra templates)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import cast

import click

from swarm.cli.flags import BoolFlag, Value

LINE_WIDTH = 79
_NAME_PADDING = 11
_NARROWEST_HELP = 24


def usage_line(ctx: click.Context, usage: str) -> str:
    """`Usage:  swarmctl service rm SERVICE [SERVICE...]`."""
    return f"Usage:  {ctx.command_path} {usage}".rstrip()


def default_usage(command: click.Command) -> str:
    """What follows the command's name, from its options and the metavars of its arguments."""
    pieces = ["[OPTIONS]"] if visible_options(command) else []
    for param in command.params:
        if not isinstance(param, click.Argument):
            continue
        name = param.metavar or (param.name or "").upper()
        if param.nargs == -1 and not param.metavar:
            name = f"{name} [{name}...]" if param.required else f"[{name}...]"
        elif not param.required and not name.startswith("["):
            name = f"[{name}]"
        pieces.append(name)
    return " ".join(pieces)


def visible_options(command: click.Command) -> list[click.Option]:
    """The options that help shows, sorted by their long names."""
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    return sorted(options, key=_sort_name)


def describe_options(title: str, options: Sequence[click.Option]) -> str:
    """The `Options:` section; empty when there are none."""
    if not options:
        return ""
    heads = [_option_head(option) for option in options]
    indent = max(len(head) for head in heads) + 3
    lines = [f"{title}:"]
    for head, option in zip(heads, options, strict=True):
        text = _wrapped(f"{option.help or ''}{_default_note(option)}", indent)
        lines.append(f"{head:<{indent}}{text}".rstrip())
    return "\n".join(lines)


def describe_commands(title: str, commands: Sequence[tuple[str, str]]) -> str:
    """A section that lists commands, `(name, short help)`; empty when there are none."""
    if not commands:
        return ""
    width = max(_NAME_PADDING, *(len(name) for name, _ in commands)) + 1
    lines = [f"  {name:<{width}}{help_text}".rstrip() for name, help_text in commands]
    return "\n".join([f"{title}:", *lines])


def _sort_name(option: click.Option) -> str:
    return max(option.opts, key=len).lstrip("-")


def _option_head(option: click.Option) -> str:
    long_names = [name for name in option.opts if name.startswith("--")]
    short_names = [name for name in option.opts if not name.startswith("--")]
    short = f"{short_names[0]}, " if short_names else "    "
    head = f"  {short}{long_names[0]}" if long_names else f"  {short_names[0]}"
    kind = _kind(option)
    return f"{head} {kind}" if kind else head


def _kind(option: click.Option) -> str:
    if isinstance(option, BoolFlag) or option.is_flag:
        return ""
    if option.metavar:
        return option.metavar
    kind = cast("click.ParamType[object]", option.type)
    return kind.name if isinstance(kind, Value) else "string"


def _default_note(option: click.Option) -> str:
    """` (default "vip")`, for a default that is not the zero of its kind, as pflag decides."""
    default = cast("object", option.default)
    if option.multiple or not isinstance(default, str | int | float) or not default:
        return ""
    if default is True:
        return " (default true)"
    if isinstance(default, str) and _kind(option) == "string":
        return f' (default "{default}")'
    return f" (default {default})"


def _wrapped(text: str, indent: int) -> str:
    width = max(LINE_WIDTH - indent, _NARROWEST_HELP)
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]]
    return ("\n" + " " * indent).join(lines)
