"""What is taken out of a bug report's text."""

import pytest

from swarm.cli.redaction import redact

TOKEN = "SWMTKN-1-27uibc03mv3833tzc0em350qq461pf70efgwqh5avnsl611570-7kcm55hyhoscc3d6ca792hyi4"
KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBx\nAwEHoUQDQgAE\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"joined with {TOKEN}, well", "joined with <redacted>, well"),
        (f"key {KEY} end", "key <redacted> end"),
        (KEY[:60], "<redacted>"),
        ("DB_PASSWORD=hunter2 DEBUG=1", "DB_PASSWORD=<redacted> DEBUG=1"),
        ('api-key = "two words"\nport = 1', "api-key = <redacted>\nport = 1"),
        ('{"token": "abc", "a": 1}', '{"token": <redacted>, "a": 1}'),
        ("pull https://me:pass@registry/x", "pull https://<redacted>@registry/x"),
        ("Authorization: Bearer abc def", "Authorization: <redacted>"),
        ("node n1 is down; token is wrong", "node n1 is down; token is wrong"),
    ],
)
def test_redacted(text: str, left: str) -> None:
    assert redact(text) == left
