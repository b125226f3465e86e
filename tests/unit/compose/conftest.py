"""Compose files out of a dictionary: nothing is read from a disk."""

import textwrap
from collections.abc import Mapping

import pytest

from swarm.compose.errors import ComposeError
from swarm.compose.loader import Loader
from swarm.compose.project import Project
from swarm.compose.stack import Stack, stack_of


class Files:
    """Files by path; relative ones are in /app, where the user is."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.environment: dict[str, str] = {}

    def write(self, path: str, text: str) -> None:
        full = path if path.startswith("/") else f"/app/{path}"
        self.content[full] = textwrap.dedent(text).encode()

    def read(self, path: str) -> bytes:
        if path not in self.content:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.content[path]

    def load(self, *names: str, **options) -> Project:
        loader = Loader(self.read, self.environment, "/app", "/home/me")
        return loader.load(names or ("compose.yml",), **options)

    def stack(self, text: str, name: str = "s", **options) -> Stack:
        self.write("compose.yml", text)
        return stack_of(self.load(**options), name)

    def spec(self, text: str, service: str = "web"):
        stack = self.stack(text)
        return next(s for s in stack.services if s.annotations.name == f"s_{service}")

    def refused(self, text: str, **options) -> str:
        with pytest.raises(ComposeError) as caught:
            self.stack(text, **options)
        return str(caught.value)


@pytest.fixture
def files() -> Files:
    return Files()


def service(project: Project, name: str) -> Mapping[str, object]:
    from swarm.compose.tree import plain

    return plain(project.services[name])
