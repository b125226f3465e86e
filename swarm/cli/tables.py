"""Lists as Docker's client prints them: tables, JSON lines, and the user's own templates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from swarm.cli.errors import CliError
from swarm.gotemplate import Template, TemplateError, to_json
from swarm.units import display_width

_MINIMUM_WIDTH = 10
_PADDING = 3
_TABLE = "table"
_JSON = "json"


@dataclass(frozen=True)
class Column:
    """A field of a list: its name in templates and JSON, its header, how its value is shortened.

    `truncate` is applied unless `--no-trunc`. Not `default`: the table shows it only when asked.
    """

    field: str
    header: str
    truncate: Callable[[str], str] | None = None
    default: bool = True


def print_list(
    rows: Iterable[Mapping[str, object]],
    columns: Sequence[Column],
    *,
    format: str | None = None,  # noqa: A002 - the flag's name
    quiet: bool = False,
    no_trunc: bool = False,
    quiet_field: str = "ID",
    out: TextIO | None = None,
) -> None:
    """Print rows (field to value) as `--format` says: table, table TEMPLATE, json or a TEMPLATE.

    `quiet` prints only `quiet_field`, where the format is the default one. Raises CliError for a
    template that is wrong, and then prints nothing.
    """
    text = render_list(
        rows,
        columns,
        format=format,
        quiet=quiet,
        no_trunc=no_trunc,
        quiet_field=quiet_field,
    )
    (out or sys.stdout).write(text)


def render_list(
    rows: Iterable[Mapping[str, object]],
    columns: Sequence[Column],
    *,
    format: str | None = None,  # noqa: A002 - the flag's name
    quiet: bool = False,
    no_trunc: bool = False,
    quiet_field: str = "ID",
) -> str:
    """The text that `print_list` prints."""
    shown = [_shortened(row, columns, no_trunc) for row in rows]
    chosen = format or _TABLE
    if chosen == _JSON:
        return "".join(f"{to_json(_plain(row))}\n" for row in shown)
    if chosen == _TABLE and quiet:
        return "".join(f"{row.get(quiet_field, '')}\n" for row in shown)
    if chosen == _TABLE:
        fields = [column.field for column in columns if column.default]
        headers = [column.header for column in columns if column.default]
        return tabulate([headers, *([_cell(row.get(f)) for f in fields] for row in shown)])
    if chosen.startswith(_TABLE):
        return _table_by_template(chosen.removeprefix(_TABLE), shown, columns)
    return "".join(f"{line}\n" for line in _lines_by_template(chosen, shown))


def tabulate(lines: Iterable[Sequence[str]]) -> str:
    """Cells in columns, each line ended, as Docker's tabwriter aligns them.

    A column is as wide as its widest cell and 3 spaces, at least 10. The last cell of a line is
    not padded. As in Go's tabwriter, a column is a run of lines that have a cell there.
    """
    table = [list(line) for line in lines]
    widths = _column_widths(table)
    text: list[str] = []
    for line, line_widths in zip(table, widths, strict=True):
        for cell, width in zip(line, line_widths, strict=False):
            text.append(cell + " " * (width - display_width(cell)))
        text.append(line[-1] if line else "")
        text.append("\n")
    return "".join(text)


def _column_widths(table: Sequence[Sequence[str]]) -> list[list[int]]:
    """For each line, the widths of all its cells but the last."""
    widths: list[list[int]] = [[] for _ in table]
    start = 0
    most_cells = max((len(line) for line in table), default=0)
    for column in range(most_cells - 1):
        start = 0
        while start < len(table):
            if len(table[start]) - 1 <= column:
                start += 1
                continue
            end = start
            width = _MINIMUM_WIDTH
            while end < len(table) and len(table[end]) - 1 > column:
                width = max(width, display_width(table[end][column]) + _PADDING)
                end += 1
            for line in range(start, end):
                widths[line].append(width)
            start = end
    return widths


def _shortened(
    row: Mapping[str, object], columns: Sequence[Column], no_trunc: bool
) -> Mapping[str, object]:
    """The row by field name, as Docker's JSON has it, with values cut where columns say so."""
    shown = {field: row[field] for field in sorted(row)}
    for column in () if no_trunc else columns:
        value = shown.get(column.field)
        if column.truncate is not None and isinstance(value, str):
            shown[column.field] = column.truncate(value)
    return shown


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    """The row without its methods."""
    return {field: value for field, value in row.items() if not callable(value)}


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _parse(source: str) -> Template:
    unescaped = source.strip(" ").replace("\\t", "\t").replace("\\n", "\n")
    try:
        return Template.parse(unescaped)
    except TemplateError as error:
        raise _bad_template(error) from error


def _lines_by_template(source: str, rows: Sequence[Mapping[str, object]]) -> list[str]:
    template = _parse(source)
    try:
        return [template.render(row, strict=True) for row in rows]
    except TemplateError as error:
        raise _bad_template(error) from error


def _bad_template(error: TemplateError) -> CliError:
    return CliError(f"template parsing error: {error}")


def _table_by_template(
    source: str, rows: Sequence[Mapping[str, object]], columns: Sequence[Column]
) -> str:
    lines = [_header(source, columns), *_lines_by_template(source, rows)]
    return tabulate(cells.split("\t") for line in lines for cells in line.split("\n"))


def _header(source: str, columns: Sequence[Column]) -> str:
    """The template applied to the columns' headers, with functions that leave them as they are."""
    headers: dict[str, object] = {column.field: column.header for column in columns}
    headers["Label"] = _label_header
    functions: dict[str, Callable[..., Any]] = dict.fromkeys(_SHAPING_FUNCTIONS, _first_text)
    try:
        return _parse(source).render(headers, functions=functions)
    except TemplateError:
        return ""


_SHAPING_FUNCTIONS = ("json", "split", "join", "title", "lower", "upper", "truncate")


def _first_text(*arguments: Any) -> str:
    """The header among the arguments: Docker's functions for headers take it first."""
    return str(arguments[0]) if arguments else ""


def _label_header(name: str) -> str:
    """`{{.Label "com.example.team-name"}}` has the header "team name"."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")
