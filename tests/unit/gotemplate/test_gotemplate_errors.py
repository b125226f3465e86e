"""What templates complain about. The words are those of Docker's client 28.2 (Go 1.24)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.gotemplate import UNTRUSTED_LIMITS, Limits, Template, TemplateError

DATA: dict[str, object] = {
    "s": "str",
    "n": None,
    "l": ["a", "b"],
    "m": {"x": {"y": "z"}, "k": "v"},
    "t": True,
    "i": 3,
}


def parse_error(source: str) -> str:
    with pytest.raises(TemplateError) as caught:
        Template.parse(source)
    return str(caught.value)


def render_error(source: str, *, strict: bool = False) -> str:
    template = Template.parse(source)
    with pytest.raises(TemplateError) as caught:
        template.render(DATA, strict=strict)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{.s", "unclosed action"),
        ("{{if}}x{{end}}", "missing value for if"),
        ("{{if .s}}x", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{if .s}}a{{else}}b{{else}}c{{end}}", "expected end; found {{else}}"),
        ("{{if 1}}{{else if}}{{end}}", "missing value for if"),
        ("{{.s | 5}}", "non executable command in pipeline stage 2"),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{if true}}{{$y := 1}}{{end}}{{$y}}", 'undefined variable "$y"'),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{continue}}", "{{continue}} outside {{range}}"),
        ("{{/* c }}z", "unclosed comment"),
        ("{{/* a */ }}", "comment ends before closing delimiter"),
        ("{{@}}", 'unexpected "@" in command'),
        ("{{.d@}}", "bad character U+0040 '@'"),
        ('{{"abc}}', "unterminated quoted string"),
        ("{{`abc}}", "unterminated raw quoted string"),
        ("{{'ab'}}", "malformed character constant: 'ab'"),
        ("{{(1}}", "unclosed left paren"),
        ("{{1)}}", "unexpected right paren"),
        ("{{1.foo}}", 'bad number syntax: "1.f"'),
        ("{{ - 5}}", 'illegal number syntax: "-"'),
        ("{{99999999999999999999}}", 'integer overflow: "99999999999999999999"'),
        ("{{.d.s.}}", "unexpected <.> in operand"),
        ('{{"a".b}}', 'unexpected . after term "\\"a\\""'),
        ('{{"\\z"}}', "invalid syntax"),
        ("{{range $a, $b, $c := .d}}{{end}}", "too many declarations in range"),
    ],
)
def test_a_template_that_does_not_parse(source: str, reason: str) -> None:
    assert parse_error(source) == f"template: :1: {reason}"


def test_the_line_of_a_parse_error() -> None:
    assert parse_error("a\nb\n{{.s") == "template: :3: unclosed action"


def test_an_unknown_function() -> None:
    assert render_error("\n{{foo}}") == 'template: :2: function "foo" not defined'


@pytest.mark.parametrize(
    ("source", "place", "reason"),
    [
        ("{{.n.x}}", '1:4: executing "" at <.n.x>', "nil pointer evaluating interface {}.x"),
        (
            "{{.s.foo}}",
            '1:4: executing "" at <.s.foo>',
            "can't evaluate field foo in type interface {}",
        ),
        ("{{range .s}}x{{end}}", '1:8: executing "" at <.s>', "range can't iterate over str"),
        (
            "{{index .l 5}}",
            '1:2: executing "" at <index .l 5>',
            "error calling index: index out of range: 5",
        ),
        (
            "{{index .l `a`}}",
            '1:2: executing "" at <index .l `a`>',
            "error calling index: cannot index slice/array with type string",
        ),
        (
            "{{index .t 1}}",
            '1:2: executing "" at <index .t 1>',
            "error calling index: can't index item of type bool",
        ),
        ("{{len .t}}", '1:2: executing "" at <len .t>', "error calling len: len of type bool"),
        (
            "{{slice .s 5 9}}",
            '1:2: executing "" at <slice .s 5 9>',
            "error calling slice: index out of range: 5",
        ),
        (
            "{{slice .l 2 1}}",
            '1:2: executing "" at <slice .l 2 1>',
            "error calling slice: invalid slice index: 2 > 1",
        ),
        ("{{upper 1}}", '1:8: executing "" at <1>', "expected string; found 1"),
        (
            "{{upper .t}}",
            '1:8: executing "" at <.t>',
            "wrong type for value; expected string; got bool",
        ),
        ("{{upper .foo}}", '1:8: executing "" at <.foo>', "invalid value; expected string"),
        ("{{upper nil}}", '1:8: executing "" at <nil>', "cannot assign nil to string"),
        (
            "{{eq 1 1.0}}",
            '1:2: executing "" at <eq 1 1.0>',
            "error calling eq: incompatible types for comparison",
        ),
        (
            "{{eq .l .l}}",
            '1:2: executing "" at <eq .l .l>',
            "error calling eq: non-comparable type [a b]: []interface {}",
        ),
        (
            "{{eq 1}}",
            '1:2: executing "" at <eq 1>',
            "error calling eq: missing argument for comparison",
        ),
        (
            "{{lt true false}}",
            '1:2: executing "" at <lt true false>',
            "error calling lt: invalid type for comparison",
        ),
        ("{{len}}", '1:2: executing "" at <len>', "wrong number of args for len: want 1 got 0"),
        (
            "{{index}}",
            '1:2: executing "" at <index>',
            "wrong number of args for index: want at least 1 got 0",
        ),
        ("{{nil}}", '1:2: executing "" at <nil>', "nil is not a command"),
        ("{{.s `arg`}}", '1:2: executing "" at <.s>', "s is not a method but has arguments"),
        ('{{"a" "b"}}', '1:2: executing "" at <"a">', 'can\'t give argument to non-function "a"'),
        (
            '{{template "x"}}',
            '1:11: executing "" at <{{template "x"}}>',
            'template "x" not defined',
        ),
        (
            '{{define "a"}}{{upper .k 1}}{{end}}{{template "a" .m}}',
            '1:16: executing "a" at <upper>',
            "wrong number of args for upper: want 1 got 2",
        ),
        (
            "{{(index .l 0).foo}}",
            '1:12: executing "" at <0>',
            "can't evaluate field foo in type string",
        ),
        ("a\n {{len .t}}", '2:3: executing "" at <len .t>', "error calling len: len of type bool"),
        (
            "{{range $i, $j := 3}}{{end}}",
            '1:18: executing "" at <3>',
            "can't use 3 to iterate over more than one variable",
        ),
    ],
)
def test_a_template_that_fails_while_rendering(source: str, place: str, reason: str) -> None:
    assert render_error(source) == f"template: :{place}: {reason}"


def test_strict_names_the_missing_key() -> None:
    message = 'template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'
    assert render_error("{{.Foo}}", strict=True) == message
    assert Template.parse("{{.n}}").render(DATA, strict=True) == "<no value>"


def test_an_error_of_a_callers_function_is_one_line() -> None:
    def fail() -> str:
        raise KeyError("two\nlines")

    with pytest.raises(TemplateError, match=r"error calling fail: 'two\\nlines'$"):
        Template.parse("{{fail}}").render({}, functions={"fail": fail})


@pytest.mark.parametrize(
    "source",
    [
        "{{range 1000000}}{{range 1000000}}{{end}}{{end}}",
        '{{define "a"}}{{template "a"}}{{end}}{{template "a"}}',
        "{{$x := `x`}}{{range 100}}{{$x = print $x $x}}{{end}}",
        "{{$x := `x`}}{{range 100}}{{$x = html $x $x}}{{end}}",
        '{{printf "%1000000d%1000000d%1000000d" 1 1 1}}',
        '{{printf "%1000000v" (split (printf "%100000d" 1) "")}}',
        "{{join (split (printf `%1000d` 1) ``) (printf `%1000d` 1)}}",
        "{{pad `x` 999999999 999999999}}",
        "{{range 100000}}{{urlquery `                                        `}}{{end}}",
        "{{" + "(" * 1000 + "1" + ")" * 1000 + "}}",
        "{{if 1}}" * 1000 + "{{end}}" * 1000,
        "{{if 1}}a" + "{{else if 1}}a" * 1000 + "{{end}}",
        "{{print " + "9" * 100000 + "}}",
    ],
)
def test_greedy_templates_end_soon_with_an_error(source: str) -> None:
    started = time.perf_counter()
    with pytest.raises(TemplateError) as caught:
        Template.parse(source).render({}, limits=UNTRUSTED_LIMITS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300_000
    assert time.perf_counter() - started < 5


def test_deep_data_is_an_error_not_a_crash() -> None:
    data: object = "bottom"
    for _ in range(5000):
        data = [data]
    with pytest.raises(TemplateError, match="nested deeper"):
        Template.parse("{{.}}").render(data)


VOCABULARY = (
    "{{ }} {{- -}} ( ) | := = , . $ $x .s .l .m.k .n .t .i 1 -1 1.5 'a' \"q\" `r` nil true if else"
    " end range with define template block break continue len index slice print printf println eq"
    ' lt and or not json join split upper pad truncate html js urlquery "%5d%s%v" /* */ text \\ @'
)
PIECES = st.sampled_from(VOCABULARY.split())


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=25))
def test_any_text_renders_or_is_a_template_error(pieces: list[str]) -> None:
    for source in (" ".join(pieces), "{{" + " ".join(pieces) + "}}", "".join(pieces)):
        text = rendered_or_complaint(source)
        assert text.startswith("template: ") or len(text) <= 20_000


def rendered_or_complaint(source: str) -> str:
    try:
        return Template.parse(source).render(DATA, limits=Limits(2000, 20_000))
    except TemplateError as error:
        return str(error)
