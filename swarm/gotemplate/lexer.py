"""Splits a template's source into tokens, by the rules of Go's text/template.

Errors are tokens too: the parser raises them when it gets there, as Go does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

LEFT = "{{"
RIGHT = "}}"
KEYWORDS = frozenset(
    (
        "block",
        "break",
        "continue",
        "define",
        "else",
        "end",
        "if",
        "nil",
        "range",
        "template",
        "with",
    )
)
_SPACE = " \t\r\n"
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(
    r"[+-]?(0[xX][0-9a-fA-F_]*|0[bB][01_]*|0[oO][0-7_]*"
    r"|[0-9][0-9_]*(\.[0-9_]*)?([eE][+-]?[0-9_]+)?|\.[0-9][0-9_]*([eE][+-]?[0-9_]+)?)"
)
_QUOTED = {
    '"': re.compile(r'"(?:[^"\\\n]|\\[^\n])*"'),
    "'": re.compile(r"'(?:[^'\\\n]|\\[^\n])*'"),
    "`": re.compile(r"`[^`]*`"),
}
_UNTERMINATED = {
    '"': "unterminated quoted string",
    "'": "unterminated character constant",
    "`": "unterminated raw quoted string",
}


class Kind(Enum):
    """What a token is; the values serve messages only."""

    TEXT = "text"
    LEFT = "left delimiter"
    RIGHT = "right delimiter"
    SPACE = "space"
    FIELD = "field"
    VARIABLE = "variable"
    IDENTIFIER = "identifier"
    KEYWORD = "keyword"
    BOOL = "bool"
    STRING = "string"
    CHARACTER = "character"
    NUMBER = "number"
    DOT = "dot"
    PIPE = "|"
    LEFT_PAREN = "("
    RIGHT_PAREN = ")"
    DECLARE = ":="
    ASSIGN = "="
    COMMA = ","
    OTHER = "other character"
    ERROR = "error"
    EOF = "EOF"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the source; `position` counts characters from its start."""

    kind: Kind
    text: str
    position: int

    def __str__(self) -> str:
        """As Go's messages name it."""
        if self.kind is Kind.EOF:
            return "EOF"
        if self.kind is Kind.ERROR:
            return self.text
        if self.kind in (Kind.KEYWORD, Kind.DOT):
            return f"<{self.text}>"
        if len(self.text) > 10:
            return f'"{self.text[:10]}"...'
        return f'"{self.text}"'


def tokenize(source: str) -> Iterator[Token]:
    """The tokens of `source`, ending with EOF or with the first ERROR."""
    position = 0
    while True:
        start = source.find(LEFT, position)
        text = source[position:] if start < 0 else source[position:start]
        trimmed = _trims_left(source, start)
        kept = text.rstrip(_SPACE) if trimmed else text
        if kept:
            yield Token(Kind.TEXT, kept, position)
        if start < 0:
            yield Token(Kind.EOF, "", len(source))
            return
        inside = start + len(LEFT) + (2 if trimmed else 0)
        if source.startswith("/*", inside):
            end = _comment_end(source, inside)
            if isinstance(end, Token):
                yield end
                return
            position = end
            continue
        yield Token(Kind.LEFT, LEFT, start)
        position = inside
        depth = 0
        while True:
            token, position, depth = _inside(source, position, depth)
            yield token
            if token.kind is Kind.ERROR:
                return
            if token.kind is Kind.RIGHT:
                break


def _trims_left(source: str, start: int) -> bool:
    """Whether the delimiter at `start` is `{{- `, which eats the space before it."""
    if start < 0 or source[start + 2 : start + 3] != "-":
        return False
    return source[start + 3 : start + 4] in tuple(_SPACE)


def _right_delimiter(source: str, position: int) -> int | None:
    """Where the text after `}}` or ` -}}` at `position` starts; None without a delimiter there."""
    if source.startswith(RIGHT, position):
        return position + len(RIGHT)
    if source[position : position + 1] in tuple(_SPACE) and source.startswith(
        "-" + RIGHT, position + 1
    ):
        end = position + 2 + len(RIGHT)
        while end < len(source) and source[end] in _SPACE:
            end += 1
        return end
    return None


def _comment_end(source: str, start: int) -> int | Token:
    close = source.find("*/", start + 2)
    if close < 0:
        return Token(Kind.ERROR, "unclosed comment", start)
    end = _right_delimiter(source, close + 2)
    if end is None:
        return Token(Kind.ERROR, "comment ends before closing delimiter", start)
    return end


def _inside(source: str, position: int, depth: int) -> tuple[Token, int, int]:
    """The next token within an action, where it ends, and how many parentheses are open then."""
    end = _right_delimiter(source, position)
    if end is not None:
        if depth:
            return Token(Kind.ERROR, "unclosed left paren", position), position, depth
        return Token(Kind.RIGHT, RIGHT, position), end, depth
    if position >= len(source):
        return Token(Kind.ERROR, "unclosed action", position), position, depth
    char = source[position]
    if char in _SPACE:
        return *_space(source, position), depth
    if char == "(":
        return Token(Kind.LEFT_PAREN, char, position), position + 1, depth + 1
    if char == ")":
        if not depth:
            return Token(Kind.ERROR, "unexpected right paren", position), position, depth
        return Token(Kind.RIGHT_PAREN, char, position), position + 1, depth - 1
    return *_simple(source, position), depth


def _space(source: str, position: int) -> tuple[Token, int]:
    end = position
    while end < len(source) and source[end] in _SPACE and _right_delimiter(source, end) is None:
        end += 1
    return Token(Kind.SPACE, source[position:end], position), end


def _simple(source: str, position: int) -> tuple[Token, int]:
    char = source[position]
    if char in _QUOTED:
        return _quoted(source, position)
    if char == "." and not source[position + 1 : position + 2].isdigit():
        return _dotted(source, position, Kind.FIELD, Kind.DOT)
    if char == "$":
        return _dotted(source, position, Kind.VARIABLE, Kind.VARIABLE)
    if char.isdigit() or char in "+-.":
        return _number(source, position)
    if char == "_" or char.isalpha():
        return _word(source, position)
    if source.startswith(":=", position):
        return Token(Kind.DECLARE, ":=", position), position + 2
    for kind in (Kind.PIPE, Kind.ASSIGN, Kind.COMMA):
        if char == kind.value:
            return Token(kind, char, position), position + 1
    if char == ":":
        return Token(Kind.ERROR, "expected :=", position), position
    if char.isascii() and char.isprintable():
        return Token(Kind.OTHER, char, position), position + 1
    reason = f"unrecognized character in action: {code_point(char)}"
    return Token(Kind.ERROR, reason, position), position


def _quoted(source: str, position: int) -> tuple[Token, int]:
    char = source[position]
    match = _QUOTED[char].match(source, position)
    if match is None:
        return Token(Kind.ERROR, _UNTERMINATED[char], position), position
    kind = Kind.CHARACTER if char == "'" else Kind.STRING
    return Token(kind, match[0], position), match.end()


def _number(source: str, position: int) -> tuple[Token, int]:
    match = _NUMBER.match(source, position)
    end = match.end() if match else position + 1  # a sign alone: the parser says what is wrong
    after = source[end : end + 1]
    if after == "_" or after.isalnum() or (match is not None and after in ("+", "-")):
        bad = source[position : end + 1]
        return Token(Kind.ERROR, f'bad number syntax: "{bad}"', position), position
    return Token(Kind.NUMBER, source[position:end], position), end


def _dotted(source: str, position: int, named: Kind, bare: Kind) -> tuple[Token, int]:
    """`.Name` or `$name`, or the dot or dollar alone."""
    word = _WORD.match(source, position + 1)
    if word is None:
        return Token(bare, source[position], position), position + 1
    return _ended(source, Token(named, source[position : word.end()], position), word.end())


def _word(source: str, position: int) -> tuple[Token, int]:
    word = _WORD.match(source, position)
    assert word is not None, "the caller saw a letter"
    text = word[0]
    if text in KEYWORDS:
        kind = Kind.KEYWORD
    elif text in ("true", "false"):
        kind = Kind.BOOL
    else:
        kind = Kind.IDENTIFIER
    return _ended(source, Token(kind, text, position), word.end())


def _ended(source: str, token: Token, end: int) -> tuple[Token, int]:
    """`token`, unless what follows it can't follow a name."""
    after = source[end : end + 1]
    if not after or after in _SPACE or after in ".,|:=()" or source.startswith(RIGHT, end):
        return token, end
    return Token(Kind.ERROR, f"bad character {code_point(after)}", token.position), end


def code_point(char: str) -> str:
    """A character as Go's %#U shows it: U+0040 '@'."""
    shown = f" '{char}'" if char.isprintable() else ""
    return f"U+{ord(char):04X}{shown}"
