"""Lists. The expected texts are what Docker's client 28.2 printed for the same two services."""

from __future__ import annotations

import io
import json

import pytest

from swarm.cli.errors import CliError
from swarm.cli.tables import Column, print_list, render_list, tabulate
from swarm.units import truncate_id

COLUMNS = (
    Column("ID", "ID", truncate_id),
    Column("Name", "NAME"),
    Column("Mode", "MODE"),
    Column("Replicas", "REPLICAS"),
    Column("Image", "IMAGE"),
    Column("Ports", "PORTS"),
    Column("Labels", "LABELS", default=False),
)
ROWS: list[dict[str, object]] = [
    {
        "ID": "abcdefghijklmnopqrstuvwxy",
        "Name": "web",
        "Mode": "replicated",
        "Replicas": "2/3",
        "Image": "nginx:latest",
        "Ports": "*:8080->80/tcp",
        "Labels": "a=b",
        "Label": lambda name: f"<{name}>",
    },
    {
        "ID": "bbcdefghijklmnopqrstuvwxy",
        "Name": "日本a-very-long-name-here",
        "Mode": "global",
        "Replicas": "2/3",
        "Image": "redis",
        "Ports": "",
        "Labels": "",
        "Label": lambda name: "",
    },
]


def test_the_default_table() -> None:
    assert render_list(ROWS, COLUMNS) == (
        "ID             NAME                        MODE         REPLICAS   IMAGE          PORTS\n"
        "abcdefghijkl   web                         replicated   2/3        nginx:latest   "
        "*:8080->80/tcp\n"
        "bbcdefghijkl   日本a-very-long-name-here   global       2/3        redis          \n"
    )


def test_no_rows_leave_the_header() -> None:
    assert render_list([], COLUMNS[:2]) == "ID        NAME\n"
    assert render_list([], COLUMNS, format="json") == ""


def test_quiet_and_no_trunc() -> None:
    assert render_list(ROWS, COLUMNS, quiet=True) == "abcdefghijkl\nbbcdefghijkl\n"
    full = render_list(ROWS, COLUMNS, quiet=True, no_trunc=True)
    assert full == "abcdefghijklmnopqrstuvwxy\nbbcdefghijklmnopqrstuvwxy\n"
    assert render_list(ROWS, COLUMNS, quiet=True, quiet_field="Mode") == "replicated\nglobal\n"
    assert render_list(ROWS[:1], COLUMNS, quiet=True, format="{{.Name}}") == "web\n"


def test_json_lines_hold_all_fields_by_name() -> None:
    lines = render_list(ROWS, COLUMNS, format="json").splitlines()
    first = json.loads(lines[0])
    assert list(first) == ["ID", "Image", "Labels", "Mode", "Name", "Ports", "Replicas"]
    assert first["ID"] == "abcdefghijkl"
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.Name}}", "web\n日本a-very-long-name-here\n"),
        (r"x\ty", "x\ty\nx\ty\n"),
        (
            r"table {{.Name}}\t{{.Image}}",
            (
                "NAME                        IMAGE\n"
                "web                         nginx:latest\n"
                "日本a-very-long-name-here   redis\n"
            ),
        ),
        (
            r"table {{.ID}} {{.Mode | upper}}\t{{json .Ports}}",
            (
                "ID MODE                   PORTS\n"
                'abcdefghijkl REPLICATED   "*:8080->80/tcp"\n'
                'bbcdefghijkl GLOBAL       ""\n'
            ),
        ),
        (
            r'table {{.Label "com.example.team-name"}}\t{{.Labels}}',
            (
                "team name                 LABELS\n"
                "<com.example.team-name>   a=b\n"
                "                          \n"
            ),
        ),
        ("table {{pad .Mode 2 3}}|", "  MODE   |\n  replicated   |\n  global   |\n"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    assert render_list(ROWS, COLUMNS, format=template) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.ID", "template parsing error: template: :1: unclosed action"),
        (
            "{{.Foo}}",
            (
                'template parsing error: template: :1:2: executing "" at <.Foo>: '
                'map has no entry for key "Foo"'
            ),
        ),
    ],
)
def test_a_wrong_template_prints_nothing(template: str, message: str) -> None:
    out = io.StringIO()
    with pytest.raises(CliError) as caught:
        print_list(ROWS, COLUMNS, format=template, out=out)
    assert caught.value.message == message
    assert caught.value.exit_code == 1
    assert out.getvalue() == ""


def test_print_list_writes() -> None:
    out = io.StringIO()
    print_list(ROWS, COLUMNS, format="{{.Mode}}", out=out)
    assert out.getvalue() == "replicated\nglobal\n"


def test_columns_are_runs_of_lines_that_have_a_cell_there() -> None:
    lines = [("a", "b", "c"), ("a long one here", "x"), ("d",), ("e", "f")]
    assert tabulate(lines) == (
        "a                 b         c\na long one here   x\nd\ne         f\n"
    )
