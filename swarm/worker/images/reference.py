"""Image references as Docker writes and means them (distribution/reference)."""

from __future__ import annotations

from typing import NamedTuple

DOCKER_HUB = "https://index.docker.io/v1/"
_HUB_HOSTS = ("", "docker.io", "index.docker.io", "registry-1.docker.io")


class Reference(NamedTuple):
    """`name` in full, as docker.io/library/nginx; `tag` "" only beside a digest."""

    name: str
    tag: str
    digest: str


def parse(text: str) -> Reference:
    """Raises ValueError for a text that is no reference."""
    rest, at, digest = text.partition("@")
    last = rest.rpartition("/")[2]
    name, _, tag = rest.rpartition(":") if ":" in last else (rest, "", "")
    if not name or name != name.lower() or any(char.isspace() for char in text):
        raise ValueError(f'"{text}" is not an image name')
    if at and not digest.startswith("sha256:"):
        raise ValueError(f'"{text}" has a digest that is no sha256')
    domain, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not any(char in domain for char in ".:") and domain != "localhost":
        name = f"docker.io/{name}"
    return Reference(name, tag or ("" if digest else "latest"), digest)


def full_name(text: str) -> str:
    """With its registry and tag: docker.io/library/nginx:latest. Raises ValueError."""
    reference = parse(text)
    return f"{reference.name}:{reference.tag}" if reference.tag else reference.name


def familiar(reference: Reference) -> str:
    """As a person writes it: nginx:1, not docker.io/library/nginx:1."""
    name = reference.name.removeprefix("docker.io/").removeprefix("library/")
    return f"{name}:{reference.tag}" if reference.tag else name


def server_of(registry: str) -> str:
    """What docker calls a registry in its file: HOST[:PORT], or Docker Hub's address of old."""
    host = registry.partition("://")[2] or registry
    host = host.partition("/")[0]
    return DOCKER_HUB if host in _HUB_HOSTS else host
