"""Image references: "nginx", "ghcr.io/org/app:1.2", "app@sha256:…".

The grammar and the rules for what is left out are those of distribution/reference, which
Docker uses.
"""

import re
from dataclasses import dataclass

DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_DEFAULT_TAG = "latest"
_NAME_LENGTH_MAX = 255

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(
    r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:(?P<hex>[0-9a-fA-F]{32,})"
)
_SHA256_HEX_LENGTH = 64
_BARE_ID = re.compile(r"[0-9a-f]{64}")


class InvalidReference(ValueError):  # noqa: N818  # what it is, as InvalidRequest
    """The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Reference:
    domain: str
    path: str
    # Both may be empty, and both may be there.
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """With the registry: "docker.io/library/nginx"."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """As users write it: "nginx"."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in rest else rest

    @property
    def familiar(self) -> str:
        """As users write it, with tag and digest: "nginx:latest"."""
        return self.familiar_name + self._suffix()

    def with_default_tag(self) -> "Reference":
        """Neither tag nor digest means the tag "latest"."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, _DEFAULT_TAG, "")

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag


def parse(text: str) -> Reference:
    """Raises InvalidReference."""
    if _BARE_ID.fullmatch(text):
        raise InvalidReference(f"'{text}' is an image id, not a name: give the image a tag")
    rest, at, digest = text.partition("@")
    if at:
        _check_digest(text, digest)
    rest, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise InvalidReference(f"'{text}': the tag '{tag}' is invalid")
    domain, path = _split_domain(rest)
    if not _DOMAIN.fullmatch(domain):
        raise InvalidReference(f"'{text}': the registry '{domain}' is invalid")
    if not _PATH.fullmatch(path):
        if _PATH.fullmatch(path.lower()):
            raise InvalidReference(f"'{text}': repository name ({path}) must be lowercase")
        raise InvalidReference(f"'{text}' is not a valid repository/tag")
    if len(domain) + 1 + len(path) > _NAME_LENGTH_MAX:
        raise InvalidReference(
            f"'{text[:40]}…': repository name must not be more than {_NAME_LENGTH_MAX} characters"
        )
    return Reference(domain, path, tag or "", digest)


def _split_tag(text: str) -> tuple[str, str | None]:
    """A colon after the last slash begins a tag; one before it, a port."""
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        return text, None
    return name, tag


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not is_domain:
        first, rest = DEFAULT_DOMAIN, name
    if first == _LEGACY_DOMAIN:
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return first, rest


def _check_digest(text: str, digest: str) -> None:
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidReference(f"'{text}': the digest '{digest}' is invalid")
    if digest.startswith("sha256:") and len(match["hex"]) != _SHA256_HEX_LENGTH:
        raise InvalidReference(f"'{text}': a sha256 digest has {_SHA256_HEX_LENGTH} hex digits")
