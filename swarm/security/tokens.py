"""Join tokens, as Docker Swarm makes them: ``SWMTKN-1-<digest>-<secret>``.

The digest pins the root certificate, so that it may be fetched over a link that nobody has
vouched for; the secret chooses the role (swarmkit ca/config.go, GenerateJoinToken).
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from swarm.security import base36
from swarm.security.errors import SecurityError

_DIGEST_BYTES = 32
_DIGEST_WIDTH = 50
_SECRET_BYTES = 16
_SECRET_WIDTH = 25
_WAY_OUT = "print it again on a manager with: swarmctl swarm join-token worker|manager"


@dataclass(frozen=True)
class JoinToken:
    """A token taken apart.

    Attributes:
        digest: SHA-256 of the root certificate's PEM text.
        secret: the part that only the cluster knows, in base 36.
    """

    digest: bytes
    secret: str = field(repr=False)


def root_digest(root_pem: bytes) -> bytes:
    """SHA-256 of the PEM text byte for byte, a bundle as a whole.

    Docker hashes the text too, not the DER: with a bundle, a digest of one certificate would
    let somebody in the middle add roots of their own.
    """
    return hashlib.sha256(root_pem).digest()


def generate_token(root_pem: bytes) -> str:
    """A new token with a random secret for the cluster with this root certificate."""
    return format_token(root_pem, secrets.token_bytes(_SECRET_BYTES))


def format_token(root_pem: bytes, secret: bytes) -> str:
    """The text of the token with this root certificate and this secret of 16 bytes."""
    if len(secret) != _SECRET_BYTES:
        raise ValueError(f"a join token's secret has {_SECRET_BYTES} bytes, not {len(secret)}")
    digest = base36.encode(root_digest(root_pem), _DIGEST_WIDTH)
    return f"SWMTKN-1-{digest}-{base36.encode(secret, _SECRET_WIDTH)}"


def parse_token(text: str) -> JoinToken:
    """Take a token apart.

    Raises:
        SecurityError: it is no join token; the message says what is wrong and never quotes it.
    """
    parts = text.strip().split("-")
    if parts[0] != "SWMTKN":
        raise SecurityError(f"the join token does not begin with SWMTKN-1-: {_WAY_OUT}")
    if len(parts) < 2 or parts[1] != "1":
        raise SecurityError(f"the join token is not of version 1 (SWMTKN-1-...): {_WAY_OUT}")
    if len(parts) != 4:
        raise SecurityError(f"the join token is not whole (SWMTKN-1-DIGEST-SECRET): {_WAY_OUT}")
    digest = _part("digest", parts[2], _DIGEST_WIDTH, _DIGEST_BYTES)
    _part("secret", parts[3], _SECRET_WIDTH, _SECRET_BYTES)
    return JoinToken(digest, parts[3])


def _part(name: str, text: str, width: int, size: int) -> bytes:
    if len(text) != width:
        raise SecurityError(
            f"the join token's {name} has {len(text)} characters instead of {width}: {_WAY_OUT}"
        )
    try:
        return base36.decode(text, size)
    except ValueError:
        raise SecurityError(f"the join token's {name} is mistyped: {_WAY_OUT}") from None


def tokens_equal(one: str, other: str) -> bool:
    """Compare two tokens without telling by the time taken how much of them is right."""
    return hmac.compare_digest(one.encode(), other.encode())


def check_root(root_pem: bytes, token: JoinToken) -> None:
    """Refuse a root certificate that the token does not pin.

    Raises:
        SecurityError: the digests differ.
    """
    if not hmac.compare_digest(root_digest(root_pem), token.digest):
        raise SecurityError(
            "the cluster's root certificate does not match the join token: "
            "check the address, and that the token is of this cluster and of today"
        )
