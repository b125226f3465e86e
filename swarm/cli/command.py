"""Commands and groups that parse, complain and explain as Docker's client does, on top of click.

click keeps what it is good at: declaring parameters, contexts, completion. The command line is
split by `flag_parser` (pflag's rules) and handed to click in a form that it can't misread.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import click
from click.core import ParameterSource

from swarm.cli import help as help_text
from swarm.cli.errors import EXIT_USAGE, CliError
from swarm.cli.flag_parser import FlagError, FlagSpec, parse_line
from swarm.cli.flags import BadFlagValue, BoolFlag, parse_bool

CONTEXT_SETTINGS = {"help_option_names": ["--help", "-h"]}


@dataclass(frozen=True)
class LazyCommand:
    """A subcommand whose module is imported only when it is used, so that help stays quick.

    `target` is "module:attribute"; `help` is the line in the parent's list.
    """

    name: str
    target: str
    help: str
    aliases: tuple[str, ...] = ()
    is_group: bool = True

    def load(self) -> click.Command:
        module, _, attribute = self.target.partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), attribute))


def changed(ctx: click.Context, name: str) -> bool:
    """Whether the flag with the python name `name` was typed (pflag's `Changed`)."""
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


class _DockerSyntax(click.Command):
    """What commands and groups share: flags as pflag reads them, errors in Docker's words."""

    def __init__(
        self,
        *args: Any,
        usage: str | None = None,
        aliases: Sequence[str] = (),
        unsupported: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        kwargs["context_settings"] = CONTEXT_SETTINGS | kwargs.get("context_settings", {})
        super().__init__(*args, **kwargs)
        self.usage = usage
        self.aliases = tuple(aliases)
        self.unsupported = tuple(word.partition("=")[0] for word in unsupported)

    def usage_line(self, ctx: click.Context) -> str:
        """The line that starts with `Usage:`."""
        usage = help_text.default_usage(self) if self.usage is None else self.usage
        return help_text.usage_line(ctx, usage)

    def get_usage(self, ctx: click.Context) -> str:
        return self.usage_line(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            from swarm.cli.completion import offer_names

            offer_names(self)
            return super().parse_args(ctx, args)
        options = {_key(p): p for p in self.get_params(ctx) if isinstance(p, click.Option)}
        try:
            parsed = parse_line(
                args, self._flag_specs(options), interspersed=ctx.allow_interspersed_args
            )
            words = [w for spec, value in parsed.flags for w in _click_words(options, spec, value)]
        except FlagError as error:
            raise self._flag_error(ctx, str(error)) from error
        try:
            rest = super().parse_args(ctx, [*words, "--", *parsed.arguments])
        except click.UsageError as error:
            raise self._docker_error(ctx, error, len(parsed.arguments)) from error
        self._arguments_parsed(ctx, parsed.arguments)
        return rest

    def _arguments_parsed(self, ctx: click.Context, arguments: Sequence[str]) -> None:
        """Called when flags and arguments are read and `--help` was not among them."""

    def _flag_specs(self, options: dict[str, click.Option]) -> dict[str, FlagSpec]:
        specs = {name: FlagSpec(name, supported=False) for name in self.unsupported}
        for key, option in options.items():
            spec = FlagSpec(key, is_bool=isinstance(option, BoolFlag) or option.is_flag)
            specs.update(dict.fromkeys(option.opts, spec))
        return specs

    def _flag_error(self, ctx: click.Context, reason: str) -> CliError:
        if reason.endswith("not supported yet"):
            return CliError(reason, EXIT_USAGE)
        return CliError(f"{reason}\n\n{self._hint(ctx)}", EXIT_USAGE)

    def _hint(self, ctx: click.Context) -> str:
        usage = self.usage_line(ctx)
        return f"{usage}\n\nRun '{ctx.command_path} --help' for more information"

    def _docker_error(self, ctx: click.Context, error: click.UsageError, count: int) -> CliError:
        """click's complaint about a value, a missing flag or the arguments, in Docker's words."""
        if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option):
            name = _key(error.param).lstrip("-")
            return self._flag_error(ctx, f'required flag(s) "{name}" not set')
        if isinstance(error, click.BadParameter) and isinstance(error.param, click.Option):
            return self._flag_error(ctx, _bad_value(error, error.param))
        expected = _expected_arguments(self, count)
        reason = f"'{ctx.command_path}' {expected}" if expected else error.format_message()
        return CliError(f"{ctx.find_root().info_name}: {reason}\n\n{self._hint(ctx)}")

    def _aliases_section(self, ctx: click.Context) -> str:
        if not self.aliases:
            return ""
        parent = f"{ctx.parent.command_path} " if ctx.parent else ""
        names = [ctx.command_path, *(parent + alias for alias in self.aliases)]
        return f"Aliases:\n  {', '.join(names)}"

    def _sections(self, ctx: click.Context) -> list[str]:
        title = "Options" if ctx.parent else "Global Options"
        options = help_text.describe_options(title, help_text.visible_options(self))
        return [self._aliases_section(ctx), options]

    def get_help(self, ctx: click.Context) -> str:
        about = (self.help or self.short_help or "").strip()
        sections = [self.usage_line(ctx), about, *self._sections(ctx), self.epilog or ""]
        return "\n\n".join(section for section in sections if section)


class DockerCommand(_DockerSyntax):
    """A verb. With `trailing_command` all from the first argument on belongs to the container."""

    def __init__(self, *args: Any, trailing_command: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_interspersed_args = not trailing_command


class DockerGroup(_DockerSyntax, click.Group):
    """A noun, or the root. `lazy` subcommands are imported when used; `unsupported` names flags
    (with dashes) and verbs (without) of Docker's that are not there yet."""

    command_class = DockerCommand
    group_class = type

    def __init__(self, *args: Any, lazy: Sequence[LazyCommand] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = {command.name: command for command in lazy}

    def usage_line(self, ctx: click.Context) -> str:
        options = "[OPTIONS] " if help_text.visible_options(self) else ""
        return help_text.usage_line(ctx, self.usage or f"{options}COMMAND")

    def _arguments_parsed(self, ctx: click.Context, arguments: Sequence[str]) -> None:
        if not arguments and not self.invoke_without_command:
            click.echo(self.get_help(ctx), err=True)
            ctx.exit(0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        name = self._canonical(cmd_name)
        if name not in self.commands and name in self._lazy:
            self.commands[name] = self._lazy[name].load()
        return self.commands.get(name)

    def _canonical(self, name: str) -> str:
        """The name of the command that `name` is an alias of; otherwise `name`."""
        for command in (*self._lazy.values(), *self.commands.values()):
            if name in getattr(command, "aliases", ()) and command.name:
                return command.name
        return name

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if ctx.resilient_parsing:  # Tab was pressed: no place for complaints
            return args[0], self.get_command(ctx, args[0]), args[1:]
        if args[0] == "help" and ctx.parent is None:
            # cobra's: `docker help service create` is `docker service create --help`.
            args = [*args[1:], "--help"]
            if len(args) == 1:
                click.echo(self.get_help(ctx))
                ctx.exit(0)
        command = self.get_command(ctx, args[0])
        if command is not None:
            return command.name, command, args[1:]
        if args[0] in self.unsupported:
            message = f"'{ctx.command_path} {args[0]}' is not supported yet"
            raise CliError(message, EXIT_USAGE)
        program = ctx.find_root().info_name
        raise CliError(
            f"{program}: unknown command: {ctx.command_path} {args[0]}\n\n{self._hint(ctx)}"
        )

    def _sections(self, ctx: click.Context) -> list[str]:
        groups: list[tuple[str, str]] = []
        verbs: list[tuple[str, str]] = []
        for name in self.list_commands(ctx):
            lazy = self._lazy.get(name)
            command = None if lazy else self.commands[name]
            if command is not None and command.hidden:
                continue
            about = lazy.help if lazy else _first_line(command)
            is_group = lazy.is_group if lazy else isinstance(command, click.Group)
            (groups if is_group else verbs).append((name, about))
        aliases, options = super()._sections(ctx)
        return [
            aliases,
            *([options] if ctx.parent else []),
            help_text.describe_commands("Management Commands", groups),
            help_text.describe_commands("Commands", verbs),
            *([] if ctx.parent else [options]),
            f"Run '{ctx.command_path} COMMAND --help' for more information on a command.",
        ]


def _first_line(command: click.Command | None) -> str:
    about = (command.short_help or command.help or "") if command else ""
    return about.strip().partition("\n")[0]


def _key(option: click.Option) -> str:
    """The spelling that names the option: the first long one."""
    return next((name for name in option.opts if name.startswith("--")), option.opts[0])


def _click_words(options: dict[str, click.Option], spec: FlagSpec, value: str) -> list[str]:
    """One flag as click reads it without doubt."""
    option = options[spec.key]
    if option.is_flag:
        try:
            return [spec.key] if parse_bool(value) else []
        except ValueError as error:
            raise FlagError(_invalid_argument(value, option, str(error))) from error
    return [f"{spec.key}={value}"] if spec.key.startswith("--") else [spec.key, value]


def _bad_value(error: click.BadParameter, option: click.Option) -> str:
    text = error.text if isinstance(error, BadFlagValue) else None
    if text is None:
        return f"invalid argument for {_flag_names(option)} flag: {error.message}"
    return _invalid_argument(text, option, error.message)


def _invalid_argument(text: str, option: click.Option, reason: str) -> str:
    return f'invalid argument "{text}" for {_flag_names(option)} flag: {reason}'


def _flag_names(option: click.Option) -> str:
    return '"' + ", ".join(sorted(option.opts, key=len)) + '"'


def _expected_arguments(command: click.Command, count: int) -> str:
    """What the command's declaration says about the number of arguments; empty if `count` fits."""
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    low = sum(abs(p.nargs) for p in arguments if p.required)
    unlimited = any(p.nargs == -1 for p in arguments)
    high = None if unlimited else sum(p.nargs for p in arguments)
    if count >= low and (high is None or count <= high):
        return ""
    if high is None:
        return f"requires at least {low} {_plural(low)}"
    if high == 0:
        return "accepts no arguments"
    if low == high:
        return f"requires {low} {_plural(low)}"
    if low == 0:
        return f"requires at most {high} {_plural(high)}"
    return f"requires at least {low} and at most {high} {_plural(high)}"


def _plural(count: int) -> str:
    return "argument" if count == 1 else "arguments"
