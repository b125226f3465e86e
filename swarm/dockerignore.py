"""`.dockerignore`: which files of a context are not sent. Pure.

Patterns are Go's filepath.Match with `**`; the last one that matches a file or a folder above it
decides, and `!` takes back (moby patternmatcher).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass


class BadPattern(ValueError):  # noqa: N818 - says what is the case
    """The message begins with the line's number."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    regex: re.Pattern[str]
    takes_back: bool


class Ignore:
    def __init__(self, text: str) -> None:
        """Raises BadPattern."""
        self._patterns: list[_Pattern] = []
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
            pattern = line.strip()
            if not pattern or line.startswith("#"):
                continue
            takes_back = pattern.startswith("!")
            pattern = posixpath.normpath(pattern.removeprefix("!").strip()).lstrip("/")
            if pattern in ("", "."):
                continue
            try:
                regex = re.compile(_regex(pattern))
            except (re.error, IndexError):
                raise BadPattern(f"{number}: syntax error in pattern: {line.strip()}") from None
            self._patterns.append(_Pattern(regex, takes_back))

    @property
    def takes_back(self) -> bool:
        """Whether a file below an ignored folder may have to be sent all the same."""
        return any(pattern.takes_back for pattern in self._patterns)

    def matches(self, path: str) -> bool:
        """`path` is relative to the context, with slashes."""
        parts = path.split("/")
        names: Sequence[str] = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        ignored = False
        for pattern in self._patterns:
            if pattern.takes_back == ignored and any(map(pattern.regex.fullmatch, names)):
                ignored = not pattern.takes_back
        return ignored


def _regex(pattern: str) -> str:
    out = ""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern[at : at + 1] == "*":
            at += 1
            if pattern[at : at + 1] == "/":
                at += 1
                out += "(?:.*/)?"
            else:
                out += ".*"
        elif char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            end = pattern.index("]", at + 1) if "]" in pattern[at + 1 :] else -1
            if end < 0:
                raise re.error("unterminated set")
            out += "[" + pattern[at:end].replace("\\", "\\\\") + "]"
            at = end + 1
        elif char == "\\":
            out += re.escape(pattern[at])
            at += 1
        else:
            out += re.escape(char)
    return out
