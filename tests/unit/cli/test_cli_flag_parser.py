"""Command lines as pflag splits them; the messages are those of Docker's client 28.2."""

from __future__ import annotations

import pytest

from swarm.cli.flag_parser import FlagError, FlagSpec, ParsedLine, parse_line

NAME = FlagSpec("--name")
DETACH = FlagSpec("--detach", is_bool=True)
QUIET = FlagSpec("--quiet", is_bool=True)
GONE = FlagSpec("--isolation", supported=False)
SPECS = {
    "--name": NAME,
    "-n": NAME,
    "--detach": DETACH,
    "-d": DETACH,
    "--quiet": QUIET,
    "-q": QUIET,
    "--isolation": GONE,
    "-x": GONE,
}


def parse(line: str, *, interspersed: bool = True) -> ParsedLine:
    return parse_line(line.split(), SPECS, interspersed=interspersed)


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("--name web", [("--name", "web")]),
        ("--name=web", [("--name", "web")]),
        ("--name=", [("--name", "")]),
        ("--name=a=b", [("--name", "a=b")]),
        ("--name -d", [("--name", "-d")]),
        ("-n web", [("--name", "web")]),
        ("-nweb", [("--name", "web")]),
        ("-n=web", [("--name", "web")]),
        ("-d", [("--detach", "true")]),
        ("-dq", [("--detach", "true"), ("--quiet", "true")]),
        ("-dq=false", [("--detach", "true"), ("--quiet", "false")]),
        ("-dnweb", [("--detach", "true"), ("--name", "web")]),
        ("--detach=false", [("--detach", "false")]),
    ],
)
def test_flags(line: str, flags: list[tuple[str, str]]) -> None:
    parsed = parse(line)
    assert [(spec.key, value) for spec, value in parsed.flags] == flags
    assert parsed.arguments == []


def test_a_bool_does_not_take_the_next_word() -> None:
    parsed = parse("--detach false -q x")
    assert [value for _, value in parsed.flags] == ["true", "true"]
    assert parsed.arguments == ["false", "x"]


def test_flags_among_arguments() -> None:
    assert parse("a --name web b -d").arguments == ["a", "b"]
    assert parse("a -- -d --name").arguments == ["a", "-d", "--name"]
    assert parse("a - b").arguments == ["a", "-", "b"]


def test_not_interspersed_leaves_everything_from_the_first_argument() -> None:
    parsed = parse("--name web image sh -c --name x -- y", interspersed=False)
    assert parsed.arguments == ["image", "sh", "-c", "--name", "x", "--", "y"]
    assert len(parsed.flags) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--foo", "unknown flag: --foo"),
        ("--foo=bar", "unknown flag: --foo"),
        ("-z", "unknown shorthand flag: 'z' in -z"),
        ("-dz", "unknown shorthand flag: 'z' in -dz"),
        ("--name", "flag needs an argument: --name"),
        ("-n", "flag needs an argument: 'n' in -n"),
        ("-dn", "flag needs an argument: 'n' in -dn"),
        ("--=x", "bad flag syntax: --=x"),
        ("---x", "bad flag syntax: ---x"),
        ("--isolation=x", "--isolation is not supported yet"),
        ("--isolation", "--isolation is not supported yet"),
        ("-dx", "-x is not supported yet"),
    ],
)
def test_errors(line: str, message: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(line)
    assert str(caught.value) == message
