"""`inspect`: JSON, templates, and what happens when some objects are not there."""

from __future__ import annotations

import io

import pytest

from swarm.cli.errors import CliError
from swarm.cli.output import print_inspect, print_template

WEB = {"ID": "1", "Spec": {"Name": "web", "Labels": {}, "Args": ["<a>"]}}
DB = {"ID": "2", "Spec": {"Name": "db"}}


def inspect(*objects: object, template: str | None = None) -> str:
    out = io.StringIO()
    print_inspect(objects, format=template, out=out)
    return out.getvalue()


def test_an_indented_array() -> None:
    assert inspect(WEB) == (
        "[\n"
        "    {\n"
        '        "ID": "1",\n'
        '        "Spec": {\n'
        '            "Name": "web",\n'
        '            "Labels": {},\n'
        '            "Args": [\n'
        '                "<a>"\n'
        "            ]\n"
        "        }\n"
        "    }\n"
        "]\n"
    )
    assert inspect() == "[]\n"


def test_compact_json() -> None:
    assert inspect(DB, DB, template="json") == (
        '[{"ID":"2","Spec":{"Name":"db"}},{"ID":"2","Spec":{"Name":"db"}}]\n'
    )


def test_a_template_for_each() -> None:
    assert inspect(WEB, DB, template="{{.ID}}: {{.Spec.Name}}") == "1: web\n2: db\n"
    assert inspect(template="{{.ID}}") == "\n"


def test_found_ones_are_printed_before_the_errors() -> None:
    out = io.StringIO()
    with pytest.raises(CliError) as caught:
        print_inspect(
            [WEB], ["no such service: a", "no such service: b"], format="{{.ID}}", out=out
        )
    assert out.getvalue() == "1\n"
    assert caught.value.message == "no such service: a\nno such service: b"
    assert caught.value.exit_code == 1


def test_a_missing_field_is_an_error_of_that_object() -> None:
    out = io.StringIO()
    with pytest.raises(CliError) as caught:
        print_inspect([DB, {"Spec": {"Own": "it"}}], format="{{.Spec.Own}}", out=out)
    assert out.getvalue() == "it\n"
    assert caught.value.message == (
        'template parsing error: template: :1:7: executing "" at <.Spec.Own>: '
        'map has no entry for key "Own"'
    )


def test_a_template_that_does_not_parse() -> None:
    with pytest.raises(CliError, match="template: :1: unclosed action") as caught:
        inspect(WEB, template="{{.ID")
    assert caught.value.exit_code == 64


def test_our_own_views() -> None:
    out = io.StringIO()
    print_template("ID:\t{{.ID}}\n{{with .Foo}}{{.}}{{end}}", WEB, out)
    assert out.getvalue() == "ID:\t1\n"


def test_what_docker_leaves_out_where_it_is_empty_is_there_for_a_template() -> None:
    node = {"ID": "1", "Spec": {"Role": "worker"}}
    assert inspect(node, template="{{if .ManagerStatus}}m{{else}}w{{end}}") == "w\n"
    assert inspect(node, template="{{.Slot}}{{range .Ports}}p{{end}}{{.Spec.Name}}.") == "0.\n"
    assert inspect(DB, template="{{len .Spec.Env}} {{json .Spec}}") == '0 {"Name":"db"}\n'
    for template, reason in (
        ("{{.Nope}}", 'no entry for key "Nope"'),
        ("{{.ManagerStatus.Addr}}", "nil pointer"),
    ):
        with pytest.raises(CliError, match=reason):
            inspect(node, template=template)
