"""Go's fmt. The expected texts are those of Docker's client 28.2 (Go 1.24)."""

from __future__ import annotations

import pytest

from swarm.gotemplate import Template

DATA = {
    "s": "str",
    "l": ["a", "b"],
    "m": {"x": {"y": "z"}, "k": "v"},
    "mix": ["a", None, True, {"q": ["r"]}],
}


def render(source: str) -> str:
    return Template.parse(source).render(DATA)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            '{{printf "%s|%5s|%-5s|%q|%v|%x" .s .s "ab" "a\\"b" .l "hi"}}',
            'str|  str|ab   |"a\\"b"|[a b]|6869',
        ),
        (
            '{{printf "%5d|%-5d|%05d|%x|%X|%o|%b|%c|%U" 1 2 3 255 255 8 5 65 65}}',
            "    1|2    |00003|ff|FF|10|101|A|U+0041",
        ),
        ('{{printf "%*d" 5 1}} {{printf "%q" 65}} {{printf "%[2]d %[1]d" 1 2}}', "    1 'A' 2 1"),
        ('{{printf "%6.2f|%+d|%.2s|%5t" 3.14159 5 "abc" true}}', "  3.14|+5|ab| true"),
        ('{{printf "%08.3f|%+.2e|% d" 3.14159 12345.678 42}}', "0003.142|+1.23e+04| 42"),
        ('{{printf "%-10s|%10s|" "é" "é"}}', "é         |         é|"),
        (
            '{{printf "%t %f %5.1f %e %g" true 1.5 2.25 1e10 1e21}}',
            "true 1.500000   2.2 1.000000e+10 1e+21",
        ),
        ('{{printf "%X" -255}} {{printf "%#x" 255}} {{printf "100%%"}}', "-FF 0xff 100%"),
        (
            '{{printf "%v %+v %#v" .m .l .m.x}}',
            'map[k:v x:map[y:z]] [a b] map[string]interface {}{"y":"z"}',
        ),
        (
            '{{printf "%s" .m}} {{printf "%q" .mix}}',
            'map[k:v x:map[y:z]] ["a" <nil> %!q(bool=true) map["q":["r"]]]',
        ),
        ('{{printf "%v" nil}} {{printf "%5v|%-5v|" true nil}}', "<nil>  true|<nil>|"),
    ],
)
def test_printf(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{{printf "%d" .s}}', "%!d(string=str)"),
        (
            '{{printf "%s" 5}} {{printf "%d" true}} {{printf "%t" "x"}}',
            "%!s(int=5) %!d(bool=true) %!t(string=x)",
        ),
        ('{{printf "%d" 5 6}}', "5%!(EXTRA int=6)"),
        (
            '{{printf "%d"}} {{printf "%z" 1}} {{printf "%!"}}',
            "%!d(MISSING) %!z(int=1) %!!(MISSING)",
        ),
        ('{{printf "%[3]d" 1}} {{printf "%"}}', "%!d(BADINDEX) %!(NOVERB)"),
        ('{{printf "%s" nil}}', "%!s(<nil>)"),
        (
            '{{printf "%s %d" .mix .l}}',
            "[a <nil> %!s(bool=true) map[q:[r]]] [%!d(string=a) %!d(string=b)]",
        ),
    ],
)
def test_what_a_verb_cannot_do_is_part_of_the_text(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "{{print 1.0 1e6 1e20 1e21 0.00001 123456789.0}}",
            "1 1e+06 1e+20 1e+21 1e-05 1.23456789e+08",
        ),
        (
            '{{printf "%v %g %v %v %v %.3g" 1e-7 100000.0 123456.0 1234567.0 0.1 1234567.0}}',
            "1e-07 100000 123456 1.234567e+06 0.1 1.23e+06",
        ),
        ("{{print 0.0 -0.5 100.25}}", "0 -0.5 100.25"),
    ],
)
def test_floats(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{{print "a" 1 2 "b" "c" 3 4}}', "a1 2bc3 4"),
        (
            '{{print "a" "b"}}{{print 1 2}}{{print 1 "a" 2}}{{print true false}}',
            "ab1 21a2true false",
        ),
        ('{{println "a" 1}}', "a 1\n"),
        ("{{println}}{{print}}|", "\n|"),
    ],
)
def test_print(source: str, expected: str) -> None:
    assert render(source) == expected
