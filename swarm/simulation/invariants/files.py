"""Secrets and configs: what is removed was not in use, a node holds what its tasks need alone."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import Service, ServiceRevision
from swarm.api.v1.store_pb2 import TABLE_CONFIG, TABLE_SECRET
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.dispatcher.dependencies import needed_by
from swarm.manager.core.store import FileKey, Store, StoreChange, files_of_container, wanted
from swarm.simulation.violation import Violation
from swarm.simulation.words import short
from swarm.worker.core.agent import AgentCore


class FileInvariants:
    """Follows the log's changes once, whoever applies them first."""

    def __init__(self) -> None:
        self._there: dict[FileKey, None] = {}
        self._named: dict[tuple[str, int], frozenset[FileKey]] = {}
        self._services: dict[str, int] = {}
        # Numbers of tasks that are wanted, of each revision that names something.
        self._wanted: dict[tuple[str, int], int] = {}

    def applied(self, changes: Sequence[StoreChange]) -> None:
        for change in changes:
            old, new = change.old, change.new
            if isinstance(old, Service) or isinstance(new, Service):
                self._service(old, new)
            elif isinstance(new, ServiceRevision):
                named = frozenset(files_of_container(new.spec.task.container))
                self._named[new.service_id, new.revision] = named
                for key in named - self._there.keys():
                    raise Violation("a spec names files that are there", f"{new.id}: {key[1]}")
            elif isinstance(old, Task) or isinstance(new, Task):
                self._count(old, -1)
                self._count(new, +1)
            elif isinstance(old, Secret | Config) or isinstance(new, Secret | Config):
                row = new if new is not None else old
                assert row is not None
                key = (change.table, row.id)
                if new is not None:
                    self._there[key] = None
                else:
                    del self._there[key]
                    self._check_unused(key)

    def _service(self, old: object, new: object) -> None:
        if isinstance(new, Service):
            self._services[new.id] = new.revision
        elif isinstance(old, Service):
            del self._services[old.id]

    def _count(self, task: object, sign: int) -> None:
        if isinstance(task, Task) and wanted(task):
            key = (task.service_id, task.revision)
            self._wanted[key] = self._wanted.get(key, 0) + sign

    def _check_unused(self, key: FileKey) -> None:
        for (service_id, revision), named in self._named.items():
            current = self._services.get(service_id)
            if key not in named or current is None:
                continue
            if current == revision or self._wanted.get((service_id, revision), 0):
                raise Violation(
                    "what is removed is not in use",
                    f"{key[1]} is named in {short(service_id)} r{revision}",
                )


def check_held(name: str, core: AgentCore) -> None:
    """A node never has what no task on it names."""
    held = [*core.dependencies.secrets, *core.dependencies.configs]
    if not held:
        return
    named = {
        key
        for life in core.tasks.values()
        if life.spec is not None
        for _, key in files_of_container(life.spec.task.container)
    }
    for key in held:
        if key not in named:
            raise Violation("a node holds what its tasks need", f"{name} holds {key}")


def surplus(name: str, core: AgentCore, store: Store) -> str | None:
    """At rest: what a node holds and its tasks do not need, or need and it does not hold."""
    needed = {key for task in store.tasks_of_node(name) for key in needed_by(task, store)}
    secrets = {key for table, key in needed if table == TABLE_SECRET}
    configs = {key for table, key in needed if table == TABLE_CONFIG}
    held = core.dependencies
    if set(held.secrets) != secrets or set(held.configs) != configs:
        return f"{name} holds {len(held.secrets)}+{len(held.configs)} files, needs {len(needed)}"
    return None
