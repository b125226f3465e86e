"""`--secret` and `--config`: Docker's syntax for a secret or a config of a service. Pure.

Source: docker/cli opts/swarmopts/secret.go and config.go, whose words the errors have.
"""

from __future__ import annotations

import csv

from swarm.api.v1.service_pb2 import ConfigReference, FileTarget, SecretReference

_MODE = 0o444


def parse_secret(text: str) -> SecretReference:
    """ "NAME" or "source=NAME,target=FILE,uid=1,gid=1,mode=0400". Raises ValueError."""
    name, file = _parse("secret", text)
    return SecretReference(secret_name=name, file=file)


def parse_config(text: str) -> ConfigReference:
    """ "NAME" or "source=NAME,target=/FILE,uid=1,gid=1,mode=0400". Raises ValueError."""
    name, file = _parse("config", text)
    return ConfigReference(config_name=name, file=file)


def _parse(noun: str, text: str) -> tuple[str, FileTarget]:
    fields = next(csv.reader([text])) if text else []
    file = FileTarget(mode=_MODE)
    name = ""
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals and len(fields) == 1:
            name = field
            break
        if not equals:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        match key.strip().lower():
            case "source" | "src":
                name = value
            case "target":
                file.name = value
            case "uid":
                file.uid = _number(key, value)
            case "gid":
                file.gid = _number(key, value)
            case "mode":
                file.mode = _mode(value)
            case _:
                raise ValueError(f"invalid field in {noun} request: {key}")
    if not name:
        raise ValueError("source is required")
    file.name = file.name or name
    return name, file


def _number(key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:11]) >= 2**32:
        raise ValueError(f"invalid {key} specified: {text} is not a number")
    return int(text)


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode < 2**32:
        raise ValueError(f"invalid mode specified: {text} is no octal number such as 0444")
    return mode
