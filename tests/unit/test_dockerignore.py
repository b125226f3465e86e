"""Which files of a context are sent."""

import pytest

from swarm.dockerignore import BadPattern, Ignore

TEXT = """
# a comment
*.log
/build
**/cache
docs/**
!docs/README.md
temp?
a/[bc].txt
"""


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("x.log", True),
        ("deep/x.log", False),
        ("build", True),
        ("build/deep/file", True),
        ("other/build", False),
        ("cache", True),
        ("a/b/cache/file", True),
        ("docs/guide.md", True),
        ("docs/README.md", False),
        ("temp1", True),
        ("temp12", False),
        ("a/b.txt", True),
        ("a/d.txt", False),
        ("Dockerfile", False),
    ],
)
def test_patterns_are_dockers(path: str, ignored: bool) -> None:
    assert Ignore(TEXT).matches(path) is ignored


def test_all_but_one() -> None:
    ignore = Ignore("*\n!src\n")
    assert ignore.matches("README")
    assert not ignore.matches("src/main.py")
    assert ignore.takes_back


def test_a_bad_pattern_is_named_by_its_line() -> None:
    with pytest.raises(BadPattern, match=r"2: syntax error in pattern: a\[b"):
        Ignore("fine\na[b\n")
