"""Variables: every operator, nested, escaped, from .env and from the caller."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.compose.interpolation import InvalidTemplateError, MissingVariableError, substitute

SET = {"FULL": "f", "EMPTY": "", "N": "1"}


def filled(text, variables=SET):
    return substitute(text, variables, lambda name: None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$FULL-${FULL}", "f-f"),
        ("$$FULL $${FULL}", "$FULL ${FULL}"),
        ("${NONE}x", "x"),
        ("${NONE:-d}${EMPTY:-d}${FULL:-d}", "ddf"),
        ("${NONE-d}${EMPTY-d}${FULL-d}", "df"),
        ("${NONE:+y}${EMPTY:+y}${FULL:+y}", "y"),
        ("${NONE+y}${EMPTY+y}${FULL+y}", "yy"),
        ("${FULL:?e}${FULL?e}${EMPTY?e}", "ff"),
        ("${NONE:-${EMPTY:-${FULL}}}", "f"),
        ("${NONE:-a:b-c?d}", "a:b-c?d"),
        ("${NONE:-http://x/$FULL}", "http://x/f"),
        ("no variables", "no variables"),
    ],
)
def test_operators(text, wanted):
    assert filled(text) == wanted


@pytest.mark.parametrize("text", ["${NONE:?say}", "${EMPTY:?say}", "${NONE?say}"])
def test_required(text):
    with pytest.raises(MissingVariableError, match="is missing a value: say"):
        filled(text)


@pytest.mark.parametrize("text", ["$", "$ x", "${", "${}", "${1A}", "$(x)", "${A", "${A!b}", "$1"])
def test_dollars_that_begin_nothing(text):
    with pytest.raises(InvalidTemplateError):
        filled(text)


@given(st.text())
def test_what_is_escaped_comes_out_as_it_was(text):
    assert filled(text.replace("$", "$$")) == text


@given(st.text(alphabet="${}:-?+AB", max_size=30))
def test_any_text_is_filled_in_or_refused(text):
    try:
        filled(text, {"A": "1"})
    except (InvalidTemplateError, MissingVariableError):
        pass


def test_the_callers_variables_win_over_env_and_files_over_nothing(files):
    files.write(".env", "A=file\nB='$A'\nexport C=\"$A-x\" # no comment\nD=${A}y # comment\n")
    files.environment = {"A": "mine"}
    stack = files.stack("services: {web: {image: 'x', environment: ['V=$A $B $C $D']}}\n")
    assert list(stack.services[0].task.container.env) == ["V=mine $A mine-x miney"]
    files.write("other.env", "A=other\nB=b\nC=c\n")
    files.environment = {}
    stack = files.stack(
        "services: {web: {image: 'x', environment: ['V=$A $B $C']}}\n", env_files=["other.env"]
    )
    assert list(stack.services[0].task.container.env) == ["V=other b c"]


def test_what_is_not_set_is_said_once_with_its_line(files):
    stack = files.stack("services:\n  web:\n    image: x${A}\n    hostname: h$A\n")
    assert [str(note) for note in stack.notes] == [
        'compose.yml:3: The "A" variable is not set. Defaulting to a blank string.'
    ]
