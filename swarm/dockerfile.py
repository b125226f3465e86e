"""What has to be known of a Dockerfile beforehand: what it builds on, which line is which. Pure.

Builders check the rest. References: docs.docker.com/reference/dockerfile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

INSTRUCTIONS = frozenset(
    [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ]
)
_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(\S+)\s*")
_HEREDOC = re.compile(r"<<-?(['\"]?)(\w+)\1")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::([-+])([^}]*))?\}|(\w+))")
_FROM_FLAG = re.compile(r"--from=(\S+)")


class DockerfileError(ValueError):
    """The message begins with the line's number: `3: unknown instruction: FOO`."""


@dataclass(frozen=True, slots=True)
class Instruction:
    line: int
    keyword: str
    rest: str


def parse(text: str) -> list[Instruction]:
    """The instructions, each with the line that it begins on. Raises DockerfileError."""
    lines = text.removeprefix("\ufeff").splitlines()
    escape = _escape(lines)
    found: list[Instruction] = []
    at = 0
    while at < len(lines):
        start, logical = 0, ""
        while at < len(lines):
            line = lines[at].strip()
            at += 1
            if not line or line.startswith("#"):
                continue
            start = at if not logical else start
            logical += line.removesuffix(escape)
            if not line.endswith(escape):
                break
        if not logical.strip():
            continue
        found.append(_instruction(start, logical))
        if found[-1].keyword in ("RUN", "COPY", "ADD"):
            for _, end in _HEREDOC.findall(logical):
                while at < len(lines) and lines[at].strip() != end:
                    at += 1
                at += 1
    first = next((one for one in found if one.keyword != "ARG"), None)
    if first is None:
        raise DockerfileError("1: file with no instructions: it begins with FROM")
    if first.keyword != "FROM":
        raise DockerfileError(f"{first.line}: no build stage in current context: FROM comes first")
    return found


def bases(instructions: list[Instruction], build_args: Mapping[str, str]) -> list[str]:
    """The images that it begins with or copies from, none of its own stages, each once."""
    values: dict[str, str] = {}
    stages: set[str] = {"scratch"}
    found: dict[str, None] = {}
    is_before = True
    for one in instructions:
        if one.keyword == "ARG" and is_before:
            name, _, default = one.rest.partition("=")
            values[name.strip()] = build_args.get(name.strip(), default.strip("\"'"))
        elif one.keyword == "FROM":
            is_before = False
            words = [word for word in one.rest.split() if not word.startswith("--")]
            if words:
                name = _expanded(words[0], values)
                if name.lower() not in stages:
                    found[name] = None
            if len(words) == 3 and words[1].lower() == "as":
                stages.add(words[2].lower())
        elif one.keyword == "COPY" and (source := _FROM_FLAG.search(one.rest)):
            name = source[1]
            if name.lower() not in stages and not name.isdecimal():
                found[name] = None
    return list(found)


def line_of(instructions: list[Instruction], step: str) -> int:
    """The line of what a builder calls a step: `RUN make all`. 0: none is it."""
    wanted = " ".join(step.split())
    for one in instructions:
        shown = " ".join(f"{one.keyword} {one.rest}".split())
        if shown == wanted or (len(wanted) > 12 and shown.startswith(wanted.removesuffix("..."))):
            return one.line
    return 0


def _instruction(line: int, logical: str) -> Instruction:
    keyword, _, rest = logical.strip().partition(" ")
    if keyword.upper() not in INSTRUCTIONS:
        raise DockerfileError(f"{line}: unknown instruction: {keyword}")
    if not rest.strip():
        raise DockerfileError(f"{line}: {keyword.upper()} requires at least one argument")
    return Instruction(line, keyword.upper(), rest.strip())


def _escape(lines: list[str]) -> str:
    for line in lines:
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            break
        if directive[1].lower() == "escape":
            return directive[2]
    return "\\"


def _expanded(text: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        known = values.get(match[1] or match[4], "")
        if match[2] == "-":
            return known or match[3]
        if match[2] == "+":
            return match[3] if known else ""
        return known

    return _VARIABLE.sub(value, text)
