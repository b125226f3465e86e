"""Splits a command line into flags and arguments as pflag, Docker's flag library, does. Pure.

It differs from click's own parser in what Docker users type: `-f=value`, `--detach=false`,
`-dq=false`, a value that starts with a dash (`--name -x`), and in the words of its errors.
Source: the syntax chapter of github.com/spf13/pflag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class FlagError(Exception):
    """A flag that is unknown or lacks its value; the text is pflag's."""


@dataclass(frozen=True)
class FlagSpec:
    """How one flag is written: its key (for the caller), and whether it stands alone as a bool."""

    key: str
    is_bool: bool = False
    supported: bool = True


@dataclass
class ParsedLine:
    """Flags in the order typed, each with its spec and the text of its value; and arguments."""

    flags: list[tuple[FlagSpec, str]] = field(default_factory=list[tuple[FlagSpec, str]])
    arguments: list[str] = field(default_factory=list[str])


def parse_line(
    line: Sequence[str], specs: Mapping[str, FlagSpec], *, interspersed: bool
) -> ParsedLine:
    """Parse `line`. `specs` maps each spelling ("--name", "-n") to its flag.

    Not interspersed: everything from the first argument on is arguments, whatever it looks like.
    Raises FlagError.
    """
    parsed = ParsedLine()
    rest = list(reversed(line))
    while rest:
        word = rest.pop()
        if word == "--":
            parsed.arguments.extend(reversed(rest))
            break
        if word.startswith("--"):
            _long_flag(word, rest, specs, parsed)
        elif word.startswith("-") and len(word) > 1:
            _short_flags(word, rest, specs, parsed)
        else:
            parsed.arguments.append(word)
            if not interspersed:
                parsed.arguments.extend(reversed(rest))
                break
    return parsed


def _long_flag(
    word: str, rest: list[str], specs: Mapping[str, FlagSpec], parsed: ParsedLine
) -> None:
    name, equals, value = word.partition("=")
    if len(name) == 2 or name[2] == "-":
        raise FlagError(f"bad flag syntax: {word}")
    spec = specs.get(name)
    if spec is None:
        raise FlagError(f"unknown flag: {name}")
    _require_supported(spec, name)
    if equals:
        parsed.flags.append((spec, value))
    elif spec.is_bool:
        parsed.flags.append((spec, "true"))
    elif rest:
        parsed.flags.append((spec, rest.pop()))
    else:
        raise FlagError(f"flag needs an argument: {name}")


def _short_flags(
    word: str, rest: list[str], specs: Mapping[str, FlagSpec], parsed: ParsedLine
) -> None:
    """One word of one-letter flags: `-dq`, `-fvalue`, `-f=value`, `-d=false`."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        spec = specs.get(f"-{letter}")
        if spec is None:
            raise FlagError(f"unknown shorthand flag: '{letter}' in {word}")
        _require_supported(spec, f"-{letter}")
        if letters.startswith("=") and len(letters) > 1:
            parsed.flags.append((spec, letters[1:]))
            return
        if spec.is_bool:
            parsed.flags.append((spec, "true"))
        elif letters:
            parsed.flags.append((spec, letters))
            return
        elif rest:
            parsed.flags.append((spec, rest.pop()))
        else:
            raise FlagError(f"flag needs an argument: '{letter}' in {word}")


def _require_supported(spec: FlagSpec, name: str) -> None:
    if not spec.supported:
        raise FlagError(f"{name} is not supported yet")
