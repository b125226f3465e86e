"""The syntax tree of a template. Each node prints as source again, as Go's errors quote it."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm.units import quote

Literal = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Node:
    """`position`: characters from the start of the source; what an error points at."""

    position: int


@dataclass(frozen=True, slots=True)
class Text(Node):
    """Text outside of actions."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Dot(Node):
    """The current value, `.`."""

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True)
class Nil(Node):
    """The literal `nil`."""

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A literal; `source` is how it was written."""

    value: Literal
    source: str

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True)
class Field(Node):
    """`.A.B`, looked up in the current value."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "." + ".".join(self.names)


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """`$x.A.B`; `name` has its dollar."""

    name: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.names))


@dataclass(frozen=True, slots=True)
class Function(Node):
    """A function by name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """`(pipeline).A.B`."""

    operand: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((str(self.operand), *self.names))


@dataclass(frozen=True, slots=True)
class Command(Node):
    """Operands in a row: a function or field with its arguments, or one value."""

    operands: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(
            f"({operand})" if isinstance(operand, Pipeline) else str(operand)
            for operand in self.operands
        )


@dataclass(frozen=True, slots=True)
class Pipeline(Node):
    """Commands joined by `|`; their value goes to `variables`, where there are any."""

    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    is_assignment: bool = False

    def __str__(self) -> str:
        target = ", ".join(self.variables)
        if target:
            target += " = " if self.is_assignment else " := "
        return target + " | ".join(str(command) for command in self.commands)


@dataclass(frozen=True, slots=True)
class Block(Node):
    """A run of nodes."""

    nodes: tuple[Statement, ...] = ()

    def __str__(self) -> str:
        return "".join(str(node) for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Action(Node):
    """`{{pipeline}}`."""

    pipeline: Pipeline

    def __str__(self) -> str:
        return f"{{{{{self.pipeline}}}}}"


@dataclass(frozen=True, slots=True)
class Control(Node):
    """`if`, `with` or `range`, by `keyword`, with its two branches."""

    keyword: str
    pipeline: Pipeline
    body: Block
    otherwise: Block | None

    def __str__(self) -> str:
        other = "" if self.otherwise is None else f"{{{{else}}}}{self.otherwise}"
        return f"{{{{{self.keyword} {self.pipeline}}}}}{self.body}{other}{{{{end}}}}"


@dataclass(frozen=True, slots=True)
class Jump(Node):
    """`break` or `continue`."""

    keyword: str

    def __str__(self) -> str:
        return f"{{{{{self.keyword}}}}}"


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`{{template "name" pipeline}}`."""

    name: str
    pipeline: Pipeline | None

    def __str__(self) -> str:
        argument = "" if self.pipeline is None else f" {self.pipeline}"
        return f"{{{{template {quote(self.name)}{argument}}}}}"


Operand = Dot | Nil | Constant | Field | Variable | Function | Chain | Pipeline
Statement = Text | Action | Control | Jump | Call


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed source: its main body, what it defines, and where it names which function first."""

    source: str
    body: Block
    definitions: dict[str, Block] = field(default_factory=dict[str, Block])
    functions: dict[str, int] = field(default_factory=dict[str, int])
