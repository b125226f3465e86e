"""Secrets and configs that a service's spec names: found, given their ids, and checked.

Sources: swarmkit manager/controlapi/service.go (validateSecretRefsSpec, checkSecretExistence).
"""

import posixpath
from collections.abc import Iterable

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import (
    ConfigReference,
    ContainerSpec,
    FileTarget,
    SecretReference,
)
from swarm.api.v1.store_pb2 import Guard
from swarm.file_target import SECRETS_FOLDER, target_path
from swarm.manager.core.store import View, files_of_container, guard
from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest

MODE = 0o444
_MODE_MAX = 0o777


def resolve(view: View, container: ContainerSpec) -> None:
    """Fill in ids, names and targets. Raises InvalidRequest for what is not there."""
    missing: dict[str, list[str]] = {}
    for reference in container.secrets:
        secret = _secret(view, reference)
        if secret is None:
            missing.setdefault("secret", []).append(reference.secret_name or reference.secret_id)
            continue
        reference.secret_id, reference.secret_name = secret.id, secret.spec.annotations.name
        _fill_in(reference.file, reference.secret_name)
    for reference in container.configs:
        config = _config(view, reference)
        if config is None:
            missing.setdefault("config", []).append(reference.config_name or reference.config_id)
            continue
        reference.config_id, reference.config_name = config.id, config.spec.annotations.name
        _fill_in(reference.file, reference.config_name)
    for noun, names in missing.items():
        plural = "" if len(names) == 1 else "s"
        raise InvalidRequest(
            f"{noun}{plural} not found: {', '.join(names)}: create {noun}s before the services "
            "that use them",
            ErrorCode.NOT_FOUND,
        )


def check_there(view: View, container: ContainerSpec) -> None:
    """What an earlier spec names may have been removed since. Raises InvalidRequest."""
    again = ContainerSpec()
    again.CopyFrom(container)
    resolve(view, again)


def check(container: ContainerSpec) -> None:
    """What the spec alone can tell, once `resolve` has been over it. Raises InvalidRequest."""
    taken: dict[str, str] = {}
    references: Iterable[SecretReference | ConfigReference] = (
        *container.secrets,
        *container.configs,
    )
    for reference in references:
        is_secret = isinstance(reference, SecretReference)
        noun = "secret" if is_secret else "config"
        name = reference.secret_name if is_secret else reference.config_name
        if reference.file.mode > _MODE_MAX:
            raise InvalidRequest(
                f"{noun} {name}: mode {reference.file.mode:o} is invalid: it is at most "
                f"{_MODE_MAX:o}"
            )
        target = target_path(reference)
        if "\0" in target or target in ("/", SECRETS_FOLDER):
            raise InvalidRequest(
                f"{noun} {name}: target '{reference.file.name}' is invalid: it is a file's path"
            )
        if target in taken:
            raise InvalidRequest(
                f"{noun} references '{taken[target]}' and '{name}' have a conflicting target: "
                f"'{reference.file.name}': give one of them another target"
            )
        taken[target] = name
    for mount in container.mounts:
        if (path := posixpath.normpath(mount.target)) in taken:
            raise InvalidRequest(f"duplicate mount point: {taken[path]} is at {path} already")


def guards(view: View, container: ContainerSpec) -> list[Guard]:
    """They hold while what the spec names is there."""
    rows = (
        view.secret(key) or view.config(key)
        for _, key in dict.fromkeys(files_of_container(container))
    )
    return [guard(row) for row in rows if row is not None]


def _secret(view: View, reference: SecretReference) -> Secret | None:
    if reference.secret_id:
        return view.secret(reference.secret_id)
    return view.secret_by_name(reference.secret_name)


def _config(view: View, reference: ConfigReference) -> Config | None:
    if reference.config_id:
        return view.config(reference.config_id)
    return view.config_by_name(reference.config_name)


def _fill_in(file: FileTarget, name: str) -> None:
    file.name = file.name or name
    if not file.HasField("mode"):
        file.mode = MODE
