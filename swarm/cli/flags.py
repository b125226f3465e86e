"""The kinds of values that Docker's flags take, and the flags that many commands share.

A bad value prints what Docker prints: `invalid argument "x" for "--replicas" flag: …`; the part
after the colon is what the types here raise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import click

from swarm import units
from swarm.cli.errors import EXIT_USAGE, CliError

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_UINT64_MAX = 2**64 - 1
_INT64_MAX = 2**63 - 1


class Value(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] - generic since 8.5
    """A click type with Docker's name for the kind of value, and a parser of its text."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Any:
        """Parse what was typed; a value of another type is a default that is parsed already."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            raise BadFlagValue(value, str(error)) from error

    def __repr__(self) -> str:
        return self.name.upper()


class BadFlagValue(click.BadParameter):
    """The text of a flag's value does not parse; the message is Go's reason."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(reason)
        self.text = text


class BoolFlag(click.Option):
    """A flag that stands alone for true, and takes `=false` and the like."""


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {units.quote(text)}: invalid syntax")


def _parse_integer(text: str, low: int, high: int, function: str) -> int:
    digits = text[1:] if low < 0 and text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"strconv.{function}: parsing {units.quote(text)}: invalid syntax")
    # Longer than any number in range, so that a huge one is not converted at all.
    number = int(text) if len(text) <= 21 else high + 1
    if not low <= number <= high:
        raise ValueError(f"strconv.{function}: parsing {units.quote(text)}: value out of range")
    return number


def _parse_uint(text: str) -> int:
    return _parse_integer(text, 0, _UINT64_MAX, "ParseUint")


def _parse_int(text: str) -> int:
    return _parse_integer(text, -_INT64_MAX - 1, _INT64_MAX, "ParseInt")


def _parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        reason = f"strconv.ParseFloat: parsing {units.quote(text)}: invalid syntax"
        raise ValueError(reason) from error


STRING = Value("string", str)
LIST = Value("list", str)
BOOL = Value("", parse_bool)
UINT = Value("uint", _parse_uint)
INT = Value("int", _parse_int)
FLOAT = Value("float", _parse_float)
DURATION = Value("duration", units.parse_duration)
BYTES = Value("bytes", units.parse_bytes)
DECIMAL = Value("decimal", units.parse_cpus)


def metavar(name: str) -> Value:
    """A text value that is called otherwise in the help: "mount", "port", "secret"."""
    return Value(name, str)


def docker_bool_option(
    *names: str,
    help: str,  # noqa: A002 - click's own word for it
    default: bool | None = False,
    hidden: bool = False,
) -> Decorator[F]:
    """`--detach`, `--detach=false`, `-d=0`. With `default=None` one sees that it was not typed."""
    return click.option(*names, cls=BoolFlag, type=BOOL, default=default, help=help, hidden=hidden)


_FORMAT_HELP = """Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template."""

_INSPECT_FORMAT_HELP = """Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template."""


def format_option() -> Decorator[F]:
    """`--format` of a list."""
    return click.option("--format", "format", type=STRING, help=_FORMAT_HELP)


def inspect_format_option() -> Decorator[F]:
    """`-f, --format` of an inspect command."""
    return click.option("--format", "-f", "format", type=STRING, help=_INSPECT_FORMAT_HELP)


def filter_option() -> Decorator[F]:
    """`-f, --filter key=value`, repeatable."""
    return click.option(
        "--filter",
        "-f",
        "filter",
        type=metavar("filter"),
        multiple=True,
        help="Filter output based on conditions provided",
    )


def quiet_option(
    help: str = "Only display IDs",  # noqa: A002 - click's own word for it
) -> Decorator[F]:
    """`-q, --quiet`."""
    return docker_bool_option("--quiet", "-q", help=help)


def no_trunc_option() -> Decorator[F]:
    """`--no-trunc`."""
    return docker_bool_option("--no-trunc", help="Don't truncate output")


def parse_filters(values: Sequence[str], allowed: Collection[str]) -> dict[str, list[str]]:
    """What `--filter key=value` asked for: the values of each key (any of them may match).

    Raises CliError for text without "=" and for a key that this list does not know.
    """
    filters: dict[str, list[str]] = {}
    for text in values:
        key, equals, value = text.partition("=")
        key = key.strip().lower()
        if not equals:
            reason = "bad format of filter (expected name=value)"
            raise CliError(
                f'invalid argument {units.quote(text)} for "-f, --filter" flag: {reason}',
                EXIT_USAGE,
            )
        if key not in allowed:
            known = ", ".join(sorted(allowed))
            raise CliError(f"invalid filter '{key}': choose from {known}")
        filters.setdefault(key, []).append(value.strip())
    return filters
