"""Secrets and configs: their names, and which services use which.

A service uses one that its wanted spec names, a spec whose tasks are still wanted, or, while an
update is under way or paused, the spec that it may be rolled back to. Older specs, which history
keeps, hold nothing back.
"""

from collections.abc import Iterator

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import (
    UPDATE_STATE_PAUSED,
    UPDATE_STATE_UPDATING,
    ContainerSpec,
    Service,
    ServiceRevision,
)
from swarm.api.v1.store_pb2 import TABLE_CONFIG, TABLE_SECRET, Table
from swarm.manager.core.store.objects import noun_of, table_of

FileKey = tuple[Table.ValueType, str]
FILE_TABLES = (TABLE_SECRET, TABLE_CONFIG)


def files_of_container(container: ContainerSpec) -> Iterator[FileKey]:
    """The secrets, then the configs that it needs; one may come twice."""
    for secret in container.secrets:
        yield TABLE_SECRET, secret.secret_id
    for config in container.configs:
        yield TABLE_CONFIG, config.config_id


def revisions_in_use(service: Service) -> tuple[int, ...]:
    """Those whose files must be there, whether tasks of them are wanted now or not."""
    if service.update.state in (UPDATE_STATE_UPDATING, UPDATE_STATE_PAUSED):
        return service.revision, service.previous_revision
    return (service.revision,)


def file_name_taken(row: Secret | Config) -> str:
    noun, name = noun_of(table_of(row)), row.spec.annotations.name
    return f"{noun} {name} already exists: choose another name, or remove that {noun}"


def file_in_use(row: Secret | Config, services: list[str]) -> str:
    """Docker's words, and what to do."""
    noun, name = noun_of(table_of(row)), row.spec.annotations.name
    which = "service" if len(services) == 1 else "services"
    return (
        f"{noun} '{name}' is in use by the following {which}: {', '.join(services)}: "
        f"take it from there by service update --{noun}-rm {name}"
    )


class FileIndex:
    def __init__(self) -> None:
        self.ids_by_name: dict[tuple[int, str], str] = {}
        # The revisions that name it, by their ids.
        self.named_in: dict[FileKey, dict[str, ServiceRevision]] = {}

    def move_file(
        self, table: Table.ValueType, old: Secret | Config | None, new: Secret | Config | None
    ) -> None:
        if old is not None:
            del self.ids_by_name[table, old.spec.annotations.name]
        if new is not None:
            self.ids_by_name[table, new.spec.annotations.name] = new.id

    def move_revision(self, old: ServiceRevision | None, new: ServiceRevision | None) -> None:
        if old is not None:
            for key in dict.fromkeys(files_of_container(old.spec.task.container)):
                named_in = self.named_in[key]
                del named_in[old.id]
                if not named_in:
                    del self.named_in[key]
        if new is not None:
            for key in files_of_container(new.spec.task.container):
                self.named_in.setdefault(key, {})[new.id] = new
