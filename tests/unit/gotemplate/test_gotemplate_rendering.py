"""What templates render to. The expected texts are those of Docker's client 28.2 (Go 1.24)."""

from __future__ import annotations

import pytest

from swarm.gotemplate import Template

DATA: dict[str, object] = {
    "Name": "web",
    "s": "str",
    "n": None,
    "l": ["a", "b"],
    "m": {"x": {"y": "z"}, "k": "v"},
    "t": True,
    "e": [],
    "em": {},
    "h": "<a>&'\"",
    "mix": ["a", None, True, {"q": ["r"]}],
    "num": 1.5,
    "i": 3,
    "Label": lambda name: f"label of {name}",
}


def render(source: str) -> str:
    return Template.parse(source).render(DATA)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plain", "plain"),
        ("{{.s}}", "str"),
        ("{{.m.x.y}}", "z"),
        ("{{$.m.k}}", "v"),
        ("{{.n}}", "<no value>"),
        ("{{.foo}}", "<no value>"),
        ("{{.foo.bar.baz}}", "<no value>"),
        ("{{.mix}}", "[a <nil> true map[q:[r]]]"),
        ("{{.m}}", "map[k:v x:map[y:z]]"),
        ("{{.t}} {{.i}} {{.num}} {{.e}} {{.em}}", "true 3 1.5 [] map[]"),
        ("{{(.m).k}}{{(index .l 0) | upper}}", "vA"),
        ('{{.Label "a.b"}}', "label of a.b"),
        ("{{print .Name | printf `%s!`}}", "web!"),
    ],
)
def test_values(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "{{'a'}} {{0x1F}} {{1_000}} {{-5}} {{+5}} {{`raw\\n`}} {{\"q\\t\"}}|",
            "97 31 1000 -5 5 raw\\n q\t|",
        ),
        (
            "{{0b11}} {{0o17}} {{017}} {{1.5e3}} {{.5}} {{true}} {{false}}",
            "3 15 15 1500 0.5 true false",
        ),
        (r'{{"\x41é\101"}}', "AéA"),
        (r"{{'\n'}} {{'\''}}", "10 39"),
        ("{{print nil}}", "<nil>"),
    ],
)
def test_literals(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a  {{- 1 -}}  b", "a1b"),
        ("a {{- /* gone */ -}} b", "ab"),
        ("{{/* gone */}}z", "z"),
        ("{{.s -}}   y", "stry"),
        ("{{- 5 -}}", "5"),
        ("{{-5}}", "-5"),
        ("a\n{{- range .l}}\n{{.}}{{end -}}\n.", "a\na\nb."),
    ],
)
def test_trimming_and_comments(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{if .t}}yes{{else}}no{{end}}", "yes"),
        ("{{if .e}}yes{{else if eq .i 4}}four{{else if eq .i 3}}three{{else}}no{{end}}", "three"),
        ("{{if and .t .foo}}yes{{end}}", ""),
        ("{{with .m}}{{.k}}{{else}}no{{end}}", "v"),
        ("{{with .foo}}a{{else with .s}}b{{.}}{{end}}", "bstr"),
        ("{{with $x := .s}}{{$x}}{{end}}", "str"),
        ("{{range .l}}[{{.}}]{{end}}", "[a][b]"),
        ("{{range $i, $e := .l}}{{if $i}}, {{end}}{{$i}}={{$e}}{{end}}", "0=a, 1=b"),
        ("{{range $k, $v := .m.x}}{{$k}}={{$v}}{{end}}", "y=z"),
        ("{{range $v := .m}}{{$v}};{{end}}", "v;map[y:z];"),
        ("{{range .e}}x{{else}}empty{{end}}", "empty"),
        ("{{range .n}}x{{else}}empty{{end}}", "empty"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ('{{range .l}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}', "a"),
        ('{{range .l}}{{if eq . "a"}}{{continue}}{{end}}{{.}}{{end}}', "b"),
        ("{{range .l}}{{if true}}{{with .}}{{continue}}{{end}}{{end}}x{{end}}done", "done"),
        ("{{$x := 1}}{{range .l}}{{$x = .}}{{end}}{{$x}}", "b"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{$k := 0}}{{$v := 0}}{{range $k, $v = .l}}{{end}}{{$k}}{{$v}}", "1b"),
    ],
)
def test_control_structures(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{{define "T"}}[{{.}}{{$}}]{{end}}{{template "T" .s}}', "[strstr]"),
        ('{{define "a"}}{{.x}}{{end}}{{template "a" .m}} {{template "a"}}', "map[y:z] <no value>"),
        ('{{block "B" .s}}({{.}}){{end}}', "(str)"),
        ('{{$x := 1}}{{define "a"}}{{$x := 2}}{{$x}}{{end}}{{template "a"}}{{$x}}', "21"),
    ],
)
def test_templates_in_templates(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{eq 1 1}} {{eq .s `str`}} {{eq `a` `b` `a`}} {{eq true true}}", "true true true true"),
        ("{{eq .n nil}} {{eq .foo nil}} {{ne nil nil}} {{eq .s nil}}", "true true false false"),
        ("{{ne 1 2}} {{lt 1 2}} {{le 1 1}} {{gt 2 1}} {{ge 2 2}}", "true true true true true"),
        ("{{lt `a` `b`}} {{lt 1.5 2.5}} {{gt 1.5 2.5}}", "true true false"),
        ("{{and 1 0 `x`}} {{or 0 `` `y`}} {{not 0}} {{or false 5}} {{and 1 2}}", "0 y true 5 2"),
        ("{{and .foo .foo.bar (index .l 9)}}", "<no value>"),
        ("{{len .s}} {{len .l}} {{len .m}} {{len `é`}}", "3 2 2 2"),
        ("{{index .l 1}} {{index .m `x` `y`}} {{index .m `none`}}", "b z <no value>"),
        ("{{slice .s 1 2}} {{slice .l 1}} {{slice .s}}", "t [b] str"),
        ("{{.l | len | printf `%d items`}}", "2 items"),
    ],
)
def test_builtin_functions(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{json .h}} {{json .num}} {{json .l}} {{json .n}}", '"<a>&\'\\"" 1.5 ["a","b"] null'),
        ("{{json .m}}", '{"x":{"y":"z"},"k":"v"}'),
        ("{{join .l `,`}} {{join (split `a,b` `,`) `-`}}", "a,b a-b"),
        ("{{split `a,b` `,`}} {{split `abc` ``}}", "[a b] [a b c]"),
        (
            "{{upper `a`}} {{lower `A`}} {{title `foo-bar baz_qux o'neil`}}",
            "A a Foo-Bar Baz_qux O'Neil",
        ),
        ("{{pad `x` 1 2}}|{{pad `` 1 2}}|", " x  ||"),
        ("{{truncate `hello` 2}} {{truncate `ab` 5}}", "he ab"),
        ("{{html .h}}", "&lt;a&gt;&amp;&#39;&#34;"),
        ("{{html nil}}", "&lt;no value&gt;"),
        ("{{js .h}}", "\\u003Ca\\u003E\\u0026\\'\\\""),
        ('{{js "\\u2028é\\x01"}}', "\\u2028é\\u0001"),
        ("{{urlquery `a b/é` 1}} {{urlquery `a&b=c d~-_.`}}", "a+b%2F%C3%A91 a%26b%3Dc+d~-_."),
    ],
)
def test_functions_of_docker(source: str, expected: str) -> None:
    assert render(source) == expected


def test_functions_of_the_caller() -> None:
    template = Template.parse("{{greet .Name `!`}} {{upper `x`}}")
    functions = {"greet": lambda name, end: f"hello {name}{end}"}
    assert template.render({"Name": "web"}, functions=functions) == "hello web! X"


def test_a_template_renders_many_times() -> None:
    template = Template.parse("{{$x := .}}{{$x}}")
    assert [template.render(value) for value in (1, "b", None)] == ["1", "b", "<no value>"]
