"""Variables in a compose file: $X, ${X}, ${X:-d}, ${X-d}, ${X:?err}, ${X?err}, ${X:+y}, ${X+y}, $$.

Defaults are texts with variables of their own. Keys are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping as Variables
from dataclasses import dataclass, field, replace

from swarm.compose.errors import ComposeError, Place
from swarm.compose.tree import Listing, Mapping, Node, Scalar

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
_DEPTH_MAX = 30
# A few lines of variables that stand for each other would fill any memory.
CHARACTERS_MAX = 4 << 20


class MissingVariableError(ValueError):
    """Of ${X:?…}: the message is the user's own."""


class InvalidTemplateError(ValueError):
    """A dollar that begins nothing."""


class TooLongError(ValueError):
    """Of variables that are made of variables."""

    def __init__(self) -> None:
        super().__init__(f"variables make more than {CHARACTERS_MAX >> 20} MiB of this file")


def substitute(
    text: str, variables: Variables[str, str], unset: Callable[[str], None], depth: int = 0
) -> str:
    """`unset` is told of names that have neither value nor default.

    Raises MissingVariableError, InvalidTemplateError or TooLongError.
    """
    if "$" not in text:
        return text
    if depth > _DEPTH_MAX:
        raise InvalidTemplateError(text)
    parts: list[str] = []
    start = size = 0
    while (dollar := text.find("$", start)) >= 0:
        parts.append(text[start:dollar])
        after = dollar + 1
        if text.startswith("$", after):
            parts.append("$")
            start = after + 1
        elif text.startswith("{", after):
            end = _closing(text, after)
            parts.append(_braced(text[after + 1 : end], variables, unset, depth))
            start = end + 1
        elif match := _NAME.match(text, after):
            parts.append(_value(match[0], variables, unset))
            start = match.end()
        else:
            raise InvalidTemplateError(text)
        size += len(parts[-1])
        if size > CHARACTERS_MAX:
            raise TooLongError
    return "".join([*parts, text[start:]])


def _closing(text: str, opening: int) -> int:
    """Where the brace at `opening` is closed; ${ within it opens another."""
    depth = 0
    position = opening
    while position < len(text):
        if text.startswith("${", position):
            depth += 1
            position += 1
        elif text[position] == "{" and position == opening:
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if not depth:
                return position
        position += 1
    raise InvalidTemplateError(text)


def _braced(
    inner: str, variables: Variables[str, str], unset: Callable[[str], None], depth: int
) -> str:
    match = _NAME.match(inner)
    if match is None:
        raise InvalidTemplateError("${" + inner + "}")
    name, rest = match[0], inner[match.end() :]
    if not rest:
        return _value(name, variables, unset)
    operator = next((o for o in _OPERATORS if rest.startswith(o)), None)
    if operator is None:
        raise InvalidTemplateError("${" + inner + "}")

    def word() -> str:
        return substitute(rest[len(operator) :], variables, unset, depth + 1)

    value = variables.get(name)
    there = value is not None and (value != "" or not operator.startswith(":"))
    match operator[-1]:
        case "-":
            return value if there and value is not None else word()
        case "+":
            return word() if there else ""
        case _:
            if there and value is not None:
                return value
            raise MissingVariableError(f"required variable {name} is missing a value: {word()}")


def _value(name: str, variables: Variables[str, str], unset: Callable[[str], None]) -> str:
    value = variables.get(name)
    if value is None:
        unset(name)
        return ""
    return value


@dataclass(slots=True)
class Interpolator:
    """Over whole trees; remembers what was not set, and where first."""

    variables: Variables[str, str]
    unset: dict[str, Place] = field(default_factory=dict[str, Place])
    _characters: int = 0

    def tree(self, node: Node, path: str = "") -> Node:
        """Raises ComposeError."""
        if isinstance(node, Mapping):
            entries = {
                key: self.tree(value, f"{path}.{key}" if path else key)
                for key, value in node.entries.items()
            }
            return replace(node, entries=entries)
        if isinstance(node, Listing):
            items = tuple(self.tree(item, f"{path}[{n}]") for n, item in enumerate(node.items))
            return replace(node, items=items)
        return self._scalar(node, path)

    def _scalar(self, node: Scalar, path: str) -> Scalar:
        if not isinstance(node.value, str) or "$" not in node.value:
            return node

        def unset(name: str) -> None:
            self.unset.setdefault(name, node.place)

        try:
            value = substitute(node.value, self.variables, unset)
            self._characters += len(value)
            if self._characters > CHARACTERS_MAX:
                raise TooLongError
            return replace(node, value=value)
        except TooLongError as error:
            raise ComposeError(node.place, str(error)) from None
        except MissingVariableError as error:
            raise ComposeError(node.place, f"{path}: {error}") from None
        except InvalidTemplateError:
            raise ComposeError(
                node.place,
                f'invalid interpolation format for {path}: "{_short(node.value)}"; '
                "write a literal $ as $$",
            ) from None


def _short(text: str) -> str:
    line = text.replace("\n", "\\n")
    return line if len(line) <= 60 else line[:57] + "..."
