"""Create, update, remove a secret or a config: requests to transactions.

Sources: swarmkit manager/controlapi/secret.go, config.go and api/validation/secrets.go.
"""

import re

from swarm.api.v1.config_pb2 import Config, ConfigSpec
from swarm.api.v1.secret_pb2 import Secret, SecretSpec
from swarm.api.v1.store_pb2 import Change, Deletion, Table, Transaction
from swarm.manager.core.store import Ids, View, noun_of, table_of, wrap
from swarm.manager.core.store.file_index import file_in_use, file_name_taken
from swarm.manager.core.validate.annotations import check_labels
from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest

# Docker's: of what is smaller than this.
SECRET_BYTES_END = 500 << 10
CONFIG_BYTES_END = 1000 << 10
NAME_LENGTH_MAX = 64
TEMPLATE_DRIVERS = ("", "golang")
_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?")


def create_secret(view: View, spec: SecretSpec, ids: Ids, who: str) -> Transaction:
    """Its id is the first that `ids` makes. Raises InvalidRequest."""
    row = Secret(id=ids.new(), spec=spec, who=who)
    return _create(row, view.secret_by_name(spec.annotations.name), SECRET_BYTES_END)


def create_config(view: View, spec: ConfigSpec, ids: Ids, who: str) -> Transaction:
    """Its id is the first that `ids` makes. Raises InvalidRequest."""
    row = Config(id=ids.new(), spec=spec, who=who)
    return _create(row, view.config_by_name(spec.annotations.name), CONFIG_BYTES_END)


def update_secret(
    view: View, secret_id: str, version: int, spec: SecretSpec, who: str
) -> Transaction:
    """Other labels. Raises InvalidRequest."""
    current = view.secret(secret_id)
    if current is None:
        raise _not_found("secret", secret_id)
    new = Secret()
    new.CopyFrom(current)
    return _update(current, new, version, spec, who)


def update_config(
    view: View, config_id: str, version: int, spec: ConfigSpec, who: str
) -> Transaction:
    """Other labels. Raises InvalidRequest."""
    current = view.config(config_id)
    if current is None:
        raise _not_found("config", config_id)
    new = Config()
    new.CopyFrom(current)
    return _update(current, new, version, spec, who)


def remove_secret(view: View, secret_id: str, who: str) -> Transaction:
    """Raises InvalidRequest while a service uses it."""
    current = view.secret(secret_id)
    if current is None:
        raise _not_found("secret", secret_id)
    return _remove(view, current, who)


def remove_config(view: View, config_id: str, who: str) -> Transaction:
    """Raises InvalidRequest while a service uses it."""
    current = view.config(config_id)
    if current is None:
        raise _not_found("config", config_id)
    return _remove(view, current, who)


def _create(row: Secret | Config, holder: Secret | Config | None, bytes_end: int) -> Transaction:
    noun = noun_of(table_of(row))
    _check_name(noun, row.spec.annotations.name)
    check_labels(f"{noun} labels", row.spec.annotations.labels)
    if not 0 < len(row.spec.data) < bytes_end:
        raise InvalidRequest(f"{noun} data must be larger than 0 and less than {bytes_end} bytes")
    if row.spec.template_driver not in TEMPLATE_DRIVERS:
        raise InvalidRequest(
            f"template driver '{row.spec.template_driver}' is not known: there is golang"
        )
    if holder is not None:
        raise InvalidRequest(file_name_taken(row), ErrorCode.ALREADY_EXISTS)
    return Transaction(who=row.who, changes=[Change(create=wrap(row))])


def _update(
    current: Secret | Config,
    new: Secret | Config,
    version: int,
    spec: SecretSpec | ConfigSpec,
    who: str,
) -> Transaction:
    noun = noun_of(table_of(current))
    if version != current.meta.version:
        raise InvalidRequest(
            f"update out of sequence: {noun} {current.spec.annotations.name} was changed "
            "meanwhile; read it again and repeat",
            ErrorCode.CONFLICT,
        )
    check_labels(f"{noun} labels", spec.annotations.labels)
    same = (
        spec.annotations.name in ("", current.spec.annotations.name)
        and spec.data in (b"", current.spec.data)
        and spec.template_driver in ("", current.spec.template_driver)
    )
    if not same:
        raise InvalidRequest(
            f"only updates to Labels are allowed: create another {noun} and give the services that"
        )
    new.spec.annotations.labels.clear()
    new.spec.annotations.labels.update(spec.annotations.labels)
    change = Change(replace=wrap(new), expected_version=version)
    return Transaction(who=who, changes=[change])


def _remove(view: View, row: Secret | Config, who: str) -> Transaction:
    table: Table.ValueType = table_of(row)
    users = view.services_using(table, row.id)
    if users:
        raise InvalidRequest(file_in_use(row, users), ErrorCode.FAILED_PRECONDITION)
    return deletion(row, who)


def deletion(row: Secret | Config, who: str) -> Transaction:
    """It goes, whoever uses it: where that is found to be so, the transaction is refused."""
    change = Change(delete=Deletion(table=table_of(row), id=row.id))
    return Transaction(who=who, changes=[change])


def _check_name(noun: str, name: str) -> None:
    if not name:
        raise InvalidRequest(f"the {noun} needs a name")
    if len(name) > NAME_LENGTH_MAX or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"invalid name '{name}': only {NAME_LENGTH_MAX} [a-zA-Z0-9-_.] characters allowed, and "
            "the start and end character must be [a-zA-Z0-9]"
        )


def _not_found(noun: str, key: str) -> InvalidRequest:
    return InvalidRequest(f"{noun} {key} not found", ErrorCode.NOT_FOUND)
