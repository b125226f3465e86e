"""Runs a syntax tree over a value, with the semantics and the errors of Go's text/template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from swarm.gotemplate import nodes
from swarm.gotemplate.errors import TemplateError
from swarm.gotemplate.formatting import Formatter
from swarm.gotemplate.functions import GoFunction, Signature, standard_functions
from swarm.gotemplate.values import (
    MISSING,
    as_mapping,
    as_sequence,
    is_mapping,
    is_nil,
    is_sequence,
    sorted_items,
    truth,
    type_name,
)
from swarm.units import quote

MAX_DEPTH = 150
"""Nested blocks, parentheses and template calls while rendering."""

_LONGEST_QUOTE = 100
_KINDS = {"s": "string", "i": "int", "l": "[]string"}
_NOTHING: Any = object()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rendering may use: steps of evaluation, and characters made on the way."""

    steps: int
    characters: int


class _Break(Exception):  # noqa: N818 - control flow, no error
    """`{{break}}`."""


class _Continue(Exception):  # noqa: N818 - control flow, no error
    """`{{continue}}`."""


class Execution:
    """One rendering. `strict`: a missing key is an error (Docker's `inspect`), unless `absent`
    says what it is where it is not there."""

    def __init__(
        self,
        tree: nodes.Tree,
        data: Any,
        *,
        strict: bool,
        functions: Mapping[str, Callable[..., Any]],
        limits: Limits,
        absent: Mapping[str, object],
    ) -> None:
        self._tree = tree
        self._absent = absent
        self._strict = strict
        self._limits = limits
        self._steps = 0
        self._depth = 0
        self._name = ""
        self._current: nodes.Node = tree.body
        self._formatter = Formatter(limits.characters)
        self._functions = standard_functions(self._formatter)
        self._functions |= {name: GoFunction(call) for name, call in functions.items()}
        self._variables: list[tuple[str, Any]] = [("$", data)]
        self._output: list[str] = []
        self._data = data

    def run(self) -> str:
        """The rendered text. Raises TemplateError."""
        for name, position in self._tree.functions.items():
            if name not in self._functions and name not in ("and", "or"):
                line = self._tree.source.count("\n", 0, position) + 1
                raise TemplateError(f'template: :{line}: function "{name}" not defined')
        self._block(self._tree.body, self._data)
        return "".join(self._output)

    # Errors and limits

    def _error(self, node: nodes.Node | None, reason: str) -> TemplateError:
        """An error that points at `node`, or at what was looked at last."""
        node = node or self._current
        before = self._tree.source[: node.position]
        line = before.count("\n") + 1
        column = node.position - (before.rfind("\n") + 1)
        quoted = str(node)
        if len(quoted) > _LONGEST_QUOTE:
            quoted = quoted[:_LONGEST_QUOTE] + "..."
        place = f":{line}:{column}: executing {quote(self._name)} at <{quoted}>"
        return TemplateError(f"template: {place}: {reason}")

    def _step(self, node: nodes.Node) -> None:
        self._current = node
        self._steps += 1
        if self._steps > self._limits.steps:
            raise self._error(node, f"more than {self._limits.steps} steps")

    def _enter(self, node: nodes.Node) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(node, f"nested deeper than {MAX_DEPTH}")

    def _counted(self, node: nodes.Node, make: Callable[[], Any]) -> Any:
        """What `make` returns; an error of the formatter's budget gets its place."""
        try:
            return make()
        except TemplateError as error:
            raise self._error(node, str(error)) from error

    # Statements

    def _block(self, block: nodes.Block, dot: Any) -> None:
        self._enter(block)
        for statement in block.nodes:
            self._step(statement)
            self._statement(statement, dot)
        self._depth -= 1

    def _statement(self, statement: nodes.Statement, dot: Any) -> None:
        if isinstance(statement, nodes.Text):
            self._counted(statement, lambda: self._write(statement.text))
        elif isinstance(statement, nodes.Action):
            value = self._pipeline(statement.pipeline, dot)
            if not statement.pipeline.variables:
                self._counted(statement, lambda: self._write(self._printed(value)))
        elif isinstance(statement, nodes.Control):
            self._control(statement, dot)
        elif isinstance(statement, nodes.Call):
            self._call(statement, dot)
        else:
            raise _Break if statement.keyword == "break" else _Continue

    def _write(self, text: str) -> None:
        self._output.append(self._formatter.take(text))

    def _printed(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        return "<no value>" if is_nil(value) else self._formatter.format(value)

    def _control(self, control: nodes.Control, dot: Any) -> None:
        variables_before = len(self._variables)
        depth = self._depth
        try:
            value = self._pipeline(control.pipeline, dot)
            if control.keyword == "range":
                self._range(control, value, dot)
            elif truth(value):
                self._block(control.body, value if control.keyword == "with" else dot)
            elif control.otherwise is not None:
                self._block(control.otherwise, dot)
        finally:
            del self._variables[variables_before:]
            self._depth = depth

    def _range(self, control: nodes.Control, value: Any, dot: Any) -> None:
        variables_before = len(self._variables)
        depth = self._depth
        is_empty = True
        for key, item in self._pairs(control, value):
            is_empty = False
            self._step(control.body)
            self._range_variables(control.pipeline, key, item)
            try:
                self._block(control.body, item)
            except _Break:
                break
            except _Continue:
                continue
            finally:
                del self._variables[variables_before:]
                self._depth = depth
        if is_empty and control.otherwise is not None:
            self._block(control.otherwise, dot)

    def _pairs(self, control: nodes.Control, value: Any) -> Iterable[tuple[Any, Any]]:
        if is_nil(value):
            return ()
        if is_sequence(value):
            return zip(count(), as_sequence(value), strict=False)
        if is_mapping(value):
            return sorted_items(as_mapping(value))
        if isinstance(value, int) and not isinstance(value, bool):
            if len(control.pipeline.variables) > 1:
                raise self._error(None, f"can't use {value} to iterate over more than one variable")
            return ((number, number) for number in range(value))
        raise self._error(None, f"range can't iterate over {self._printed(value)}")

    def _range_variables(self, pipeline: nodes.Pipeline, key: Any, item: Any) -> None:
        names = pipeline.variables
        values = (item,) if len(names) == 1 else (key, item)
        for name, value in zip(names, values, strict=False):
            if pipeline.is_assignment:
                self._assign(name, value)
            else:
                self._variables.append((name, value))

    def _call(self, call: nodes.Call, dot: Any) -> None:
        body = self._tree.definitions.get(call.name)
        if body is None:
            raise self._error(call, f"template {quote(call.name)} not defined")
        value = MISSING if call.pipeline is None else self._pipeline(call.pipeline, dot)
        variables, self._variables = self._variables, [("$", value)]
        name, self._name = self._name, call.name
        self._enter(call)
        self._block(body, value)
        self._depth -= 1
        self._variables, self._name = variables, name

    # Pipelines

    def _pipeline(self, pipeline: nodes.Pipeline, dot: Any) -> Any:
        self._enter(pipeline)
        value: Any = _NOTHING
        for command in pipeline.commands:
            value = self._command(command, dot, value)
        self._depth -= 1
        is_range = len(pipeline.variables) > 1
        for name in pipeline.variables if not is_range else ():
            if pipeline.is_assignment:
                self._assign(name, value)
            else:
                self._variables.append((name, value))
        return value

    def _command(self, command: nodes.Command, dot: Any, final: Any) -> Any:
        first = command.operands[0]
        self._step(first)
        if isinstance(first, nodes.Function):
            return self._function(command, first, dot, final)
        has_arguments = len(command.operands) > 1 or final is not _NOTHING
        if isinstance(first, nodes.Field):
            return self._fields(dot, dot, first.names, command, final)
        if isinstance(first, nodes.Variable):
            value = self._variable(first)
            if first.names:
                return self._fields(dot, value, first.names, command, final)
        elif isinstance(first, nodes.Chain):
            value = self._operand(first.operand, dot)
            return self._fields(dot, value, first.names, command, final)
        elif isinstance(first, nodes.Nil):
            raise self._error(first, "nil is not a command")
        elif isinstance(first, nodes.Pipeline):
            value = self._pipeline(first, dot)
        else:
            value = first.value if isinstance(first, nodes.Constant) else dot
        if has_arguments:
            raise self._error(first, f"can't give argument to non-function {first}")
        return value

    def _operand(self, operand: nodes.Operand, dot: Any) -> Any:
        """The value of an argument."""
        self._step(operand)
        if isinstance(operand, nodes.Dot):
            return dot
        if isinstance(operand, nodes.Constant):
            return operand.value
        if isinstance(operand, nodes.Nil):
            return None
        if isinstance(operand, nodes.Pipeline):
            return self._pipeline(operand, dot)
        command = nodes.Command(operand.position, (operand,))
        return self._command(command, dot, _NOTHING)

    def _variable(self, node: nodes.Variable) -> Any:
        for name, value in reversed(self._variables):
            if name == node.name:
                return value
        raise self._error(node, f"undefined variable: {node.name}")

    def _assign(self, name: str, value: Any) -> None:
        for index in range(len(self._variables) - 1, -1, -1):
            if self._variables[index][0] == name:
                self._variables[index] = (name, value)
                return

    # Fields

    def _fields(
        self,
        dot: Any,
        value: Any,
        names: tuple[str, ...],
        command: nodes.Command,
        final: Any,
    ) -> Any:
        """`value` followed along `names`; arguments go to the last, which then is a method."""
        of_map = False
        for name in names[:-1]:
            value = self._field(value, name, (), of_map=of_map)
            of_map = True
        arguments = [self._operand(operand, dot) for operand in command.operands[1:]]
        if final is not _NOTHING:
            arguments.append(final)
        if arguments:
            self._current = command.operands[0]
        return self._field(value, names[-1], arguments, of_map=of_map)

    def _field(self, value: Any, name: str, arguments: Iterable[Any], *, of_map: bool) -> Any:
        if value is MISSING:
            if self._strict:
                raise self._error(None, f"nil data; no entry for key {quote(name)}")
            return MISSING
        if value is None:
            raise self._error(None, f"nil pointer evaluating interface {{}}.{name}")
        if not is_mapping(value):
            kind = "interface {}" if of_map else type_name(value)
            raise self._error(None, f"can't evaluate field {name} in type {kind}")
        found = as_mapping(value).get(name, self._absent.get(name, MISSING))
        if callable(found):
            return self._invoke(None, name, found, tuple(arguments))
        if arguments:
            raise self._error(None, f"{name} is not a method but has arguments")
        if found is MISSING and self._strict:
            raise self._error(None, f"map has no entry for key {quote(name)}")
        return found

    # Functions

    def _function(self, command: nodes.Command, node: nodes.Function, dot: Any, final: Any) -> Any:
        if node.name in ("and", "or"):
            return self._short_circuit(command, node, dot, final)
        function = self._functions[node.name]
        operands = command.operands[1:]
        if function.signature is not None:
            self._check_count(node, function.signature, len(operands) + (final is not _NOTHING))
        arguments: list[Any] = []
        for index, operand in enumerate(operands):
            value = self._operand(operand, dot)
            arguments.append(self._checked(operand, function, index, value))
        if final is not _NOTHING:
            arguments.append(self._checked(node, function, len(operands), final))
        return self._invoke(command, node.name, function.call, arguments)

    def _invoke(
        self,
        node: nodes.Node | None,
        name: str,
        function: Callable[..., Any],
        arguments: Iterable[Any],
    ) -> Any:
        try:
            return function(*arguments)
        except TemplateError as error:
            raise self._error(node, str(error)) from error
        except Exception as error:
            raise self._error(node, f"error calling {name}: {_one_line(error)}") from error

    def _short_circuit(
        self, command: nodes.Command, node: nodes.Function, dot: Any, final: Any
    ) -> Any:
        """`and` and `or`: arguments are evaluated until the outcome is known."""
        operands = command.operands[1:]
        if not operands and final is _NOTHING:
            raise self._error(node, f"wrong number of args for {node.name}: want at least 1 got 0")
        value: Any = None
        for operand in operands:
            value = self._operand(operand, dot)
            if truth(value) == (node.name == "or"):
                return value
        return value if final is _NOTHING else final

    def _check_count(self, node: nodes.Node, signature: Signature, got: int) -> None:
        want = signature.required
        if got >= want and (signature.variadic or got <= want):
            return
        least = "at least " if signature.variadic else ""
        raise self._error(node, f"wrong number of args for {node}: want {least}{want} got {got}")

    def _checked(self, node: nodes.Operand, function: GoFunction, index: int, value: Any) -> Any:
        """`value` as an argument: nothing is nil, and it must be of the kind that is wanted."""
        value = None if value is MISSING else value
        if function.signature is None:
            return value
        kind = function.signature.kind(index)
        if kind == "a" or _is_kind(value, kind):
            return value
        wanted = _KINDS[kind]
        if isinstance(node, nodes.Constant) and kind == "l":
            raise self._error(node, f"can't handle {node} for arg of type {wanted}")
        if isinstance(node, nodes.Constant):
            raise self._error(node, f"expected {_expected(wanted)}; found {node}")
        if isinstance(node, nodes.Nil):
            raise self._error(node, f"cannot assign nil to {wanted}")
        if is_nil(value):
            raise self._error(node, f"invalid value; expected {wanted}")
        raise self._error(node, f"wrong type for value; expected {wanted}; got {type_name(value)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _expected(wanted: str) -> str:
    return "integer" if wanted == "int" else wanted


def _is_kind(value: Any, kind: str) -> bool:
    if kind == "s":
        return isinstance(value, str)
    if kind == "l":
        return is_sequence(value)
    return isinstance(value, int) and not isinstance(value, bool)
