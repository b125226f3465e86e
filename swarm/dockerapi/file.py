"""Secret and Config: Docker's SecretSpec and ConfigSpec, and references to them in services."""

from __future__ import annotations

import base64
import binascii

from swarm.api.v1.config_pb2 import Config, ConfigSpec
from swarm.api.v1.secret_pb2 import Secret, SecretSpec
from swarm.api.v1.service_pb2 import ConfigReference, FileTarget, SecretReference
from swarm.api.v1.types_pb2 import Annotations
from swarm.dockerapi.json_values import (
    ApiError,
    Json,
    get_int,
    get_map,
    get_object,
    get_text,
    meta_to_json,
    refuse,
)

_MODE = 0o444


def secret_to_json(secret: Secret) -> Json:
    """Without its data, whatever the message holds."""
    return _row_to_json(secret)


def config_to_json(config: Config) -> Json:
    shown = _row_to_json(config)
    shown["Spec"]["Data"] = base64.b64encode(config.spec.data).decode()
    return shown


def _row_to_json(row: Secret | Config) -> Json:
    spec: Json = {
        "Name": row.spec.annotations.name,
        "Labels": dict(row.spec.annotations.labels),
    }
    if row.spec.template_driver:
        spec["Templating"] = {"Name": row.spec.template_driver}
    return {"ID": row.id} | meta_to_json(row.meta) | {"Spec": spec}


def secret_spec_from_json(source: Json) -> SecretSpec:
    """Raises ApiError."""
    refuse(source, ("Driver",))
    return SecretSpec(
        annotations=_annotations(source), data=_data(source), template_driver=_templating(source)
    )


def config_spec_from_json(source: Json) -> ConfigSpec:
    """Raises ApiError."""
    return ConfigSpec(
        annotations=_annotations(source), data=_data(source), template_driver=_templating(source)
    )


def _annotations(source: Json) -> Annotations:
    return Annotations(name=get_text(source, "Name"), labels=get_map(source, "Labels"))


def _data(source: Json) -> bytes:
    try:
        return base64.b64decode(get_text(source, "Data"), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError("Data must be base64") from None


def _templating(source: Json) -> str:
    return get_text(get_object(source, "Templating") or {}, "Name")


def secret_reference_to_json(reference: SecretReference) -> Json:
    return {
        "File": _file_to_json(reference.file),
        "SecretID": reference.secret_id,
        "SecretName": reference.secret_name,
    }


def config_reference_to_json(reference: ConfigReference) -> Json:
    return {
        "File": _file_to_json(reference.file),
        "ConfigID": reference.config_id,
        "ConfigName": reference.config_name,
    }


def secret_reference_from_json(source: Json) -> SecretReference:
    """Raises ApiError."""
    return SecretReference(
        secret_id=get_text(source, "SecretID"),
        secret_name=get_text(source, "SecretName"),
        file=_file_from_json(source),
    )


def config_reference_from_json(source: Json) -> ConfigReference:
    """Raises ApiError."""
    refuse(source, ("Runtime",))
    return ConfigReference(
        config_id=get_text(source, "ConfigID"),
        config_name=get_text(source, "ConfigName"),
        file=_file_from_json(source),
    )


def _file_to_json(file: FileTarget) -> Json:
    mode = file.mode if file.HasField("mode") else _MODE
    return {"Name": file.name, "UID": str(file.uid), "GID": str(file.gid), "Mode": mode}


def _file_from_json(source: Json) -> FileTarget:
    file = get_object(source, "File") or {}
    target = FileTarget(
        name=get_text(file, "Name"), uid=_owner(file, "UID"), gid=_owner(file, "GID")
    )
    if file.get("Mode") is not None:
        target.mode = get_int(file, "Mode")
    return target


def _owner(file: Json, key: str) -> int:
    text = get_text(file, key) or "0"
    if not (text.isascii() and text.isdigit()) or int(text[:11]) >= 2**32:
        raise ApiError(f"{key} must be a number in text")
    return int(text)
