"""What must not leave a machine in a bug report, taken out of text."""

from __future__ import annotations

import re

REDACTED = "<redacted>"

_PATTERNS = (
    (re.compile(r"SWMTKN-[\w-]+"), REDACTED),
    (re.compile(r"SWMKEY-[\w-]+"), REDACTED),
    # Keys and certificates, also one that the text's end has cut off.
    (re.compile(r"-----BEGIN [^-]+-----.*?(-----END [^-]+-----|\Z)", re.DOTALL), REDACTED),
    # user:password@ in URLs.
    (re.compile(r"(\w+://)[^/\s:@]+:[^/\s@]+@"), rf"\1{REDACTED}@"),
    (re.compile(r"(?i)(authorization:\s*)\S.*"), rf"\1{REDACTED}"),
    # NAME=value and name: value, where the name says what it is.
    (
        re.compile(
            r"""(?ix)
            ([\w-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key)[\w-]*["']?\s*[=:]\s*)
            ("[^"]*"|'[^']*'|\S+)"""
        ),
        rf"\1{REDACTED}",
    ),
)


def redact(text: str) -> str:
    """Tokens, keys, passwords; whoever knows that a text is nothing but secret leaves it out."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
