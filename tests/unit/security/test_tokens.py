"""Join tokens are Docker's, byte for byte."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.security import base36, tokens
from swarm.security.errors import SecurityError

ROOT = b"-----BEGIN CERTIFICATE-----\nany text will do\n-----END CERTIFICATE-----\n"


def test_a_token_has_dockers_form() -> None:
    token = tokens.format_token(ROOT, bytes(15) + b"\x01")
    name, version, digest, secret = token.split("-")
    assert (name, version) == ("SWMTKN", "1")
    assert (len(digest), len(secret)) == (50, 25)
    assert int(digest, 36) == int(hashlib.sha256(ROOT).hexdigest(), 16)
    assert secret == "0" * 24 + "1"


def test_a_token_printed_by_docker_is_understood() -> None:
    # From the documentation of docker swarm join-token.
    token = tokens.parse_token(
        "SWMTKN-1-3pu6hszjas19xyp7ghgosyx9k8atbfcr8p2is99znpy26u2lkl-1awxwuwd3z9j1z3puu7rcgdbx"
    )
    assert token.secret == "1awxwuwd3z9j1z3puu7rcgdbx"
    assert base36.encode(token.digest, 50) == "3pu6hszjas19xyp7ghgosyx9k8atbfcr8p2is99znpy26u2lkl"


def test_a_generated_token_pins_its_root() -> None:
    text = tokens.generate_token(ROOT)
    token = tokens.parse_token(f"  {text}\n")
    tokens.check_root(ROOT, token)
    with pytest.raises(SecurityError, match="does not match the join token"):
        tokens.check_root(ROOT + ROOT, token)
    assert tokens.generate_token(ROOT) != text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "", "does not begin with"),
        (lambda t: t.replace("SWMTKN", "SWMKEY"), "does not begin with"),
        (lambda t: "SWMTKN", "not of version 1"),
        (lambda t: t.replace("-1-", "-2-1-", 1), "not of version 1"),
        (lambda t: t.rsplit("-", 1)[0], "not whole"),
        (lambda t: t + "-x", "not whole"),
        (lambda t: t[:-1], "secret has 24 characters instead of 25"),
        (lambda t: t.replace("-1-", "-1-0", 1), "digest has 51 characters instead of 50"),
        (lambda t: t[:-1] + "A", "secret is mistyped"),
        (lambda t: t[:-1] + "é", "secret is mistyped"),
        (lambda t: t[:-25] + "z" * 25, "secret is mistyped"),
        (lambda t: "SWMTKN-1-" + "z" * 50 + t[-26:], "digest is mistyped"),
    ],
)
def test_what_is_no_token_is_refused_with_the_reason(change, message: str) -> None:  # type: ignore[no-untyped-def]
    text = change(tokens.generate_token(ROOT))
    with pytest.raises(SecurityError, match=message) as caught:
        tokens.parse_token(text)
    assert "swarmctl swarm join-token" in str(caught.value)
    assert len(text) < 25 or text[-25:] not in str(caught.value)


def test_a_secret_does_not_show() -> None:
    token = tokens.parse_token(tokens.generate_token(ROOT))
    assert token.secret not in repr(token)
    with pytest.raises(ValueError, match="16 bytes"):
        tokens.format_token(ROOT, b"short")


def test_comparison() -> None:
    assert tokens.tokens_equal("SWMTKN-1-a-b", "SWMTKN-1-a-b")
    assert not tokens.tokens_equal("SWMTKN-1-a-b", "SWMTKN-1-a-c")
    assert not tokens.tokens_equal("SWMTKN-1-a-b", "SWMTKN-1-a-é")


@given(st.binary(min_size=16, max_size=16))
def test_every_secret_survives(secret: bytes) -> None:
    token = tokens.parse_token(tokens.format_token(ROOT, secret))
    assert base36.decode(token.secret, 16) == secret
