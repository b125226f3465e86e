"""Secrets and configs in the simulated workload, and what they hold: a mark and their name, so that
a look at any bytes says whose they are."""

from __future__ import annotations

import random
from collections.abc import Iterable

from swarm.api.v1.config_pb2 import ConfigSpec
from swarm.api.v1.secret_pb2 import SecretSpec
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.api.v1.types_pb2 import Annotations
from swarm.manager.core.store import View
from swarm.manager.core.validate import files, resolve
from swarm.simulation import api
from swarm.simulation.violation import Violation
from swarm.worker.runtime.port import TaskFile

SECRET_MARK = b"the secret bytes of "
CONFIG_MARK = b"the bytes of "
_NAMES_MAX = 3


class ClientFiles:
    """Those that one client has made, as far as it knows."""

    def __init__(self, rng: random.Random, who: str) -> None:
        self._rng = rng
        self._who = who
        self._made = 0
        self._secrets: list[str] = []
        self._configs: list[str] = []

    def draw(self, spec: ServiceSpec) -> None:
        """Others than before for the service; some may be gone, and it is refused."""
        container, rng = spec.task.container, self._rng
        del container.secrets[:]
        del container.configs[:]
        for name in self._secrets:
            if rng.random() < 0.5:
                container.secrets.add(secret_name=name)
        for name in self._configs:
            if rng.random() < 0.5:
                container.configs.add(config_name=name)

    def change(self) -> tuple[str, api.Build, bool]:
        """What to ask for: the words, the request, and whether it removes."""
        rng = self._rng
        is_secret = rng.random() < 0.7
        names = self._secrets if is_secret else self._configs
        noun = "secret" if is_secret else "config"
        if names and (len(names) >= _NAMES_MAX or rng.random() < 0.4):
            name = names.pop(rng.randrange(len(names)))
            return f"removes {noun}", _removal(noun, name, self._who), True
        self._made += 1
        name = f"{noun}-{self._who}-{self._made}"
        names.append(name)
        return f"creates {noun}", _creation(noun, name, self._who), False


def _creation(noun: str, name: str, who: str) -> api.Build:
    annotations = Annotations(name=name)
    if noun == "secret":
        secret = SecretSpec(annotations=annotations, data=SECRET_MARK + name.encode())
        return lambda view, ids, _: files.create_secret(view, secret, ids, who)
    config = ConfigSpec(annotations=annotations, data=CONFIG_MARK + name.encode())
    return lambda view, ids, _: files.create_config(view, config, ids, who)


def _removal(noun: str, name: str, who: str) -> api.Build:
    if noun == "secret":
        return lambda view, _ids, _ns: files.remove_secret(view, _secret_id(view, name), who)
    return lambda view, _ids, _ns: files.remove_config(view, _config_id(view, name), who)


def _secret_id(view: View, name: str) -> str:
    return resolve.secret(view, name).id


def _config_id(view: View, name: str) -> str:
    return resolve.config(view, name).id


def check_laid(task_id: str, laid: Iterable[TaskFile]) -> None:
    """A task is given what its files' names say."""
    for file in laid:
        mark = SECRET_MARK if file.target.startswith("/run/secrets/") else CONFIG_MARK
        if file.data != mark + file.target.rpartition("/")[2].encode():
            raise Violation("a task is given its own files", f"{task_id}: {file.target}")


def check_row(node: str, kind: str, value: bytes) -> None:
    """No secret is ever on a worker's disk."""
    if SECRET_MARK in value:
        raise Violation("no secret on a worker's disk", f"{node}: a row of kind {kind}")
