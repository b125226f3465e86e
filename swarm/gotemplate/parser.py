"""Source to syntax tree: a recursive descent with the grammar and the errors of text/template."""

from __future__ import annotations

from typing import NoReturn

from swarm.gotemplate import nodes
from swarm.gotemplate.errors import TemplateError
from swarm.gotemplate.lexer import Kind, Token, tokenize
from swarm.gotemplate.literals import parse_number, unquote
from swarm.units import quote

MAX_NESTING = 60
"""Control structures and parentheses within one another; Python's recursion limit is far."""

MAX_SOURCE = 1 << 20
"""Characters of a template."""

_OPERAND_STARTS = frozenset(
    (
        Kind.BOOL,
        Kind.CHARACTER,
        Kind.DOT,
        Kind.FIELD,
        Kind.IDENTIFIER,
        Kind.NUMBER,
        Kind.STRING,
        Kind.VARIABLE,
        Kind.LEFT_PAREN,
    )
)


def parse(source: str) -> nodes.Tree:
    """The tree of `source`. Raises TemplateError: `template: :LINE: what is wrong`."""
    if len(source) > MAX_SOURCE:
        raise TemplateError(f"template: :1: longer than {MAX_SOURCE} characters")
    return _Parser(source).tree()


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokenize(source)
        self._pushed: list[Token] = []
        self._last_position = 0
        self._nesting = 0
        self._range_depth = 0
        self._variables = ["$"]
        self._definitions: dict[str, nodes.Block] = {}
        self._functions: dict[str, int] = {}

    def tree(self) -> nodes.Tree:
        body, end = self._statements(top=True)
        if end is not None:
            self._fail(f"unexpected {{{{{end.text}}}}}")
        return nodes.Tree(self._source, body, self._definitions, self._functions)

    # Tokens

    def _next(self) -> Token:
        token = self._pushed.pop() if self._pushed else next(self._tokens)
        self._last_position = token.position
        return token

    def _push(self, *tokens: Token) -> None:
        """Give tokens back; the first of them is read next."""
        self._pushed.extend(reversed(tokens))

    def _peek(self) -> Token:
        token = self._next()
        self._push(token)
        return token

    def _next_non_space(self) -> Token:
        token = self._next()
        return self._next() if token.kind is Kind.SPACE else token

    def _peek_non_space(self) -> Token:
        token = self._next_non_space()
        self._push(token)
        return token

    def _expect(self, kind: Kind, context: str) -> Token:
        token = self._next_non_space()
        if token.kind is not kind:
            self._unexpected(token, context)
        return token

    # Errors

    def _fail(self, reason: str) -> NoReturn:
        line = self._source.count("\n", 0, self._last_position) + 1
        raise TemplateError(f"template: :{line}: {reason}")

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        if token.kind is Kind.ERROR:
            self._fail(token.text)
        self._fail(f"unexpected {token} in {context}")

    def _nest(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            self._fail(f"nested deeper than {MAX_NESTING}")

    # Statements

    def _statements(self, *, top: bool = False) -> tuple[nodes.Block, Token | None]:
        """Statements up to `{{end}}` or `{{else`, the keyword that ended them, or None at EOF."""
        found: list[nodes.Statement] = []
        start = self._peek_non_space().position
        while True:
            token = self._next()
            if token.kind is Kind.EOF:
                if not top:
                    self._fail("unexpected EOF")
                return nodes.Block(start, tuple(found)), None
            if token.kind is Kind.TEXT:
                found.append(nodes.Text(token.position, token.text))
            elif token.kind is Kind.LEFT:
                keyword = self._next_non_space()
                if keyword.kind is Kind.KEYWORD and keyword.text in ("end", "else"):
                    return nodes.Block(start, tuple(found)), keyword
                statement = self._action(keyword, top=top)
                if statement is not None:
                    found.append(statement)
            else:
                self._unexpected(token, "input")

    def _action(self, first: Token, *, top: bool) -> nodes.Statement | None:
        keyword = first.text if first.kind is Kind.KEYWORD else ""
        if keyword in ("if", "range", "with"):
            return self._control(keyword)
        if keyword == "define":
            if not top:
                self._unexpected(first, "command")
            self._define()
            return None
        if keyword == "block":
            return self._block()
        if keyword == "template":
            return self._template()
        if keyword in ("break", "continue"):
            return self._jump(first)
        self._push(first)
        position = self._peek().position
        pipeline = self._pipeline("command", Kind.RIGHT)
        return nodes.Action(position, pipeline)

    def _control(self, keyword: str) -> nodes.Control:
        self._nest()
        variables_before = len(self._variables)
        pipeline = self._pipeline(keyword, Kind.RIGHT)
        self._range_depth += keyword == "range"
        body, end = self._statements()
        self._range_depth -= keyword == "range"
        otherwise = None
        if end is not None and end.text == "else":
            otherwise, end = self._else(keyword)
        self._close(end)
        del self._variables[variables_before:]
        self._nesting -= 1
        return nodes.Control(pipeline.position, keyword, pipeline, body, otherwise)

    def _else(self, keyword: str) -> tuple[nodes.Block, Token | None]:
        """The other branch. `{{else if x}}` is an `{{if x}}` within it that shares its end."""
        following = self._peek_non_space()
        if following.kind is Kind.KEYWORD and following.text == keyword and keyword != "range":
            self._next_non_space()
            nested = self._control(keyword)
            return nodes.Block(nested.position, (nested,)), None
        self._expect(Kind.RIGHT, "else")
        otherwise, end = self._statements()
        if end is not None and end.text == "else":
            self._fail("expected end; found {{else}}")
        return otherwise, end

    def _close(self, end: Token | None) -> None:
        """Read the rest of `{{end}}`; a nested `else if` has read it already."""
        if end is not None:
            self._expect(Kind.RIGHT, "end")

    def _jump(self, keyword: Token) -> nodes.Jump:
        token = self._next_non_space()
        if token.kind is not Kind.RIGHT:
            self._unexpected(token, f"{{{{{keyword.text}}}}}")
        if not self._range_depth:
            self._fail(f"{{{{{keyword.text}}}}} outside {{{{range}}}}")
        return nodes.Jump(keyword.position, keyword.text)

    def _define(self) -> None:
        name = self._name("define clause")
        self._expect(Kind.RIGHT, "define clause")
        self._definition(name, "define")

    def _definition(self, name: str, context: str) -> None:
        self._nest()
        variables, self._variables = self._variables, ["$"]
        range_depth, self._range_depth = self._range_depth, 0
        body, end = self._statements()
        if end is None or end.text != "end":
            self._fail(f"unexpected {{{{else}}}} in {context} clause")
        self._close(end)
        self._variables, self._range_depth = variables, range_depth
        self._nesting -= 1
        if self._definitions.get(name, nodes.Block(0)).nodes and body.nodes:
            self._fail(f'template: multiple definition of template "{name}"')
        self._definitions[name] = body

    def _block(self) -> nodes.Call:
        name_token = self._peek_non_space()
        name = self._name("block clause")
        pipeline = self._pipeline("block clause", Kind.RIGHT)
        self._definition(name, "block")
        return nodes.Call(name_token.position, name, pipeline)

    def _template(self) -> nodes.Call:
        name_token = self._peek_non_space()
        name = self._name("template clause")
        pipeline = None
        if self._next_non_space_is(Kind.RIGHT):
            self._next_non_space()
        else:
            pipeline = self._pipeline("template clause", Kind.RIGHT)
        return nodes.Call(name_token.position, name, pipeline)

    def _next_non_space_is(self, kind: Kind) -> bool:
        return self._peek_non_space().kind is kind

    def _name(self, context: str) -> str:
        return self._unquoted(self._expect(Kind.STRING, context))

    # Pipelines

    def _pipeline(self, context: str, end: Kind) -> nodes.Pipeline:
        position = self._peek_non_space().position
        variables, is_assignment = self._targets(context)
        commands: list[nodes.Command] = []
        while True:
            token = self._next_non_space()
            if token.kind is end:
                self._check_pipeline(commands, context)
                return nodes.Pipeline(position, tuple(commands), variables, is_assignment)
            if token.kind in _OPERAND_STARTS or _is_nil(token):
                self._push(token)
                commands.append(self._command())
            else:
                self._unexpected(token, context)

    def _targets(self, context: str) -> tuple[tuple[str, ...], bool]:
        """The variables that a pipeline starts with: `$x :=`, `$x =`, `$k, $v :=`."""
        names: list[str] = []
        while self._peek_non_space().kind is Kind.VARIABLE:
            variable = self._next_non_space()
            after_variable = self._next()
            spaces = [after_variable] if after_variable.kind is Kind.SPACE else []
            token = self._next() if spaces else after_variable
            if token.kind in (Kind.DECLARE, Kind.ASSIGN):
                names.append(variable.text)
                is_assignment = token.kind is Kind.ASSIGN
                if is_assignment:
                    self._require_variable(variable.text)
                else:
                    self._variables.extend(names)
                return tuple(names), is_assignment
            if token.kind is Kind.COMMA and context == "range" and not names:
                names.append(variable.text)
                if self._peek_non_space().kind is not Kind.VARIABLE:
                    self._fail("range can only initialize variables")
                continue
            if token.kind is Kind.COMMA:
                self._fail(f"too many declarations in {context}")
            if names:
                self._fail("range can only initialize variables")
            self._push(variable, *spaces, token)
            break
        return (), False

    def _check_pipeline(self, commands: list[nodes.Command], context: str) -> None:
        if not commands:
            self._fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], start=2):
            if isinstance(command.operands[0], nodes.Constant | nodes.Dot | nodes.Nil):
                self._fail(f"non executable command in pipeline stage {stage}")

    def _command(self) -> nodes.Command:
        position = self._peek_non_space().position
        operands: list[nodes.Operand] = []
        while True:
            self._peek_non_space()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.RIGHT_PAREN):
                self._push(token)
            elif token.kind is not Kind.PIPE:
                self._unexpected(token, "operand")
            break
        if not operands:
            self._fail("empty command")
        return nodes.Command(position, tuple(operands))

    def _operand(self) -> nodes.Operand | None:
        node = self._term()
        if node is None or self._peek().kind is not Kind.FIELD:
            return node
        position = self._peek().position
        names: list[str] = []
        while self._peek().kind is Kind.FIELD:
            names.append(self._next().text[1:])
        if isinstance(node, nodes.Field):
            return nodes.Field(position, (*node.names, *names))
        if isinstance(node, nodes.Variable):
            return nodes.Variable(position, node.name, (*node.names, *names))
        if isinstance(node, nodes.Constant | nodes.Nil | nodes.Dot):
            self._fail(f"unexpected . after term {quote(str(node))}")
        return nodes.Chain(position, node, tuple(names))

    def _term(self) -> nodes.Operand | None:
        token = self._next_non_space()
        kind, position = token.kind, token.position
        if kind is Kind.IDENTIFIER:
            self._functions.setdefault(token.text, position)
            return nodes.Function(position, token.text)
        if kind is Kind.FIELD:
            return nodes.Field(position, (token.text[1:],))
        if kind is Kind.VARIABLE:
            self._require_variable(token.text)
            return nodes.Variable(position, token.text)
        if kind is Kind.DOT:
            return nodes.Dot(position)
        if _is_nil(token):
            return nodes.Nil(position)
        if kind is Kind.BOOL:
            return nodes.Constant(position, token.text == "true", token.text)
        if kind in (Kind.NUMBER, Kind.CHARACTER, Kind.STRING):
            return self._constant(token)
        if kind is Kind.LEFT_PAREN:
            self._nest()
            pipeline = self._pipeline("parenthesized pipeline", Kind.RIGHT_PAREN)
            self._nesting -= 1
            return pipeline
        self._push(token)
        return None

    def _constant(self, token: Token) -> nodes.Constant:
        if token.kind is Kind.STRING:
            return nodes.Constant(token.position, self._unquoted(token), token.text)
        if token.kind is Kind.CHARACTER:
            value = self._unquoted(token)
            if len(value) != 1:
                self._fail(f"malformed character constant: {token.text}")
            return nodes.Constant(token.position, ord(value), token.text)
        try:
            return nodes.Constant(token.position, parse_number(token.text), token.text)
        except ValueError as error:
            self._fail(f"{error}: {quote(token.text)}")

    def _unquoted(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError as error:
            self._fail(str(error))

    def _require_variable(self, name: str) -> None:
        if name not in self._variables:
            self._fail(f'undefined variable "{name}"')


def _is_nil(token: Token) -> bool:
    return token.kind is Kind.KEYWORD and token.text == "nil"
