"""Image references, as Docker reads them."""

import pytest

from swarm.manager.core.validate.reference import InvalidReference, parse

SHA = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
        ("library/nginx", "docker.io/library/nginx", "nginx"),
        ("org/app", "docker.io/org/app", "org/app"),
        ("index.docker.io/nginx", "docker.io/library/nginx", "nginx"),
        ("docker.io/org/app", "docker.io/org/app", "org/app"),
        ("ghcr.io/org/app:1", "ghcr.io/org/app:1", "ghcr.io/org/app:1"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("reg:5000/app", "reg:5000/app", "reg:5000/app"),
        ("[::1]:5000/app:x", "[::1]:5000/app:x", "[::1]:5000/app:x"),
        ("Reg/app", "Reg/app", "Reg/app"),
        (f"a__b-c.d:t@{SHA}", f"docker.io/library/a__b-c.d:t@{SHA}", f"a__b-c.d:t@{SHA}"),
        (f"nginx@{SHA}", f"docker.io/library/nginx@{SHA}", f"nginx@{SHA}"),
    ],
)
def test_read_and_written(text: str, full: str, familiar: str) -> None:
    reference = parse(text)
    assert (str(reference), reference.familiar) == (full, familiar)
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference


def test_the_default_tag() -> None:
    assert parse("nginx").with_default_tag().familiar == "nginx:latest"
    assert parse("nginx:1").with_default_tag().familiar == "nginx:1"
    assert parse(f"nginx@{SHA}").with_default_tag().tag == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a valid repository/tag"),
        ("a b", "not a valid repository/tag"),
        ("Nginx", "must be lowercase"),
        ("org/App", "must be lowercase"),
        ("nginx:", "tag '' is invalid"),
        ("nginx:-x", "tag '-x' is invalid"),
        ("nginx@", "digest '' is invalid"),
        ("nginx@sha256:abc", "digest 'sha256:abc' is invalid"),
        ("nginx@sha256:" + "a" * 40, "64 hex digits"),
        ("-bad.io/app", "registry '-bad.io' is invalid"),
        ("a//b", "not a valid repository/tag"),
        ("a/" * 130 + "a", "255 characters"),
        ("ab" * 32, "image id"),
    ],
)
def test_what_is_not_a_reference(text: str, why: str) -> None:
    with pytest.raises(InvalidReference, match=why):
        parse(text)
