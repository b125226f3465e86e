"""What a Dockerfile builds on, and which line is which."""

import pytest

from swarm.dockerfile import DockerfileError, bases, line_of, parse

TEXT = r"""# syntax=docker/dockerfile:1
ARG TAG=3.8-slim
ARG OTHER
FROM python:${TAG} AS base

# a comment
RUN apt-get update && \
    # one inside
    apt-get install -y \
      git
from base as final
COPY --from=nginx:1 /etc/nginx /etc/nginx
COPY --from=base /a /b
COPY --from=0 /a /b
RUN <<END
FOO is no instruction here
END
CMD ["run"]
FROM scratch
FROM ${OTHER:-alpine}
"""


def test_instructions_with_their_lines() -> None:
    found = parse(TEXT)
    assert [(one.line, one.keyword) for one in found] == [
        (2, "ARG"), (3, "ARG"), (4, "FROM"), (7, "RUN"), (11, "FROM"), (12, "COPY"), (13, "COPY"),
        (14, "COPY"), (15, "RUN"), (18, "CMD"), (19, "FROM"), (20, "FROM"),
    ]  # fmt: skip
    assert line_of(found, 'CMD ["run"]') == 18
    assert line_of(found, "RUN apt-get update &&     apt-get install -y       git") == 7
    assert line_of(found, "RUN something else") == 0


def test_bases_are_what_is_no_stage_of_its_own() -> None:
    assert bases(parse(TEXT), {}) == ["python:3.8-slim", "nginx:1", "alpine"]
    assert bases(parse(TEXT), {"TAG": "3.9", "OTHER": "x/y"}) == ["python:3.9", "nginx:1", "x/y"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "1: file with no instructions"),
        ("# only\n", "1: file with no instructions"),
        ("RUN x\n", "1: no build stage in current context"),
        ("FROM a\n\nFOO bar\n", "3: unknown instruction: FOO"),
        ("FROM a\nRUN\n", "2: RUN requires at least one argument"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, error: str) -> None:
    with pytest.raises(DockerfileError, match=error):
        parse(text)
