"""The plain values of the Engine API's JSON: times, floats, and objects without empty fields."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from swarm.api.v1.types_pb2 import Meta

Json = dict[str, Any]

_NS_PER_SECOND = 1_000_000_000


class ApiError(ValueError):
    """JSON that does not fit the Engine API, or asks for what is not supported yet; one line."""


def rfc3339_nano(unix_ns: int) -> str:
    """A time as Go's RFC3339Nano in UTC: no trailing zeros in the fraction."""
    seconds, ns = divmod(unix_ns, _NS_PER_SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{ns:09d}".rstrip("0") if ns else ""
    return f"{text}{fraction}Z"


def without_empty(fields: Mapping[str, Any]) -> Json:
    """The fields that Go's `omitempty` keeps. None stands for a pointer that is nil; an empty
    object is kept, as Go keeps one behind a pointer."""
    return {key: value for key, value in fields.items() if _is_kept(value)}


def _is_kept(value: object) -> bool:
    if isinstance(value, dict):
        return True
    return bool(value)


def meta_to_json(meta: Meta) -> Json:
    return {
        "Version": {"Index": meta.version},
        "CreatedAt": rfc3339_nano(meta.created_at_ns),
        "UpdatedAt": rfc3339_nano(meta.updated_at_ns),
    }


def float32(value: float) -> float | int:
    """The shortest number that is the same float of 32 bits, as Go prints it; 0, not 0.0."""
    for digits in range(1, 10):
        shorter = float(f"{value:.{digits}g}")
        if struct.pack("f", shorter) == struct.pack("f", value):
            return int(shorter) if shorter.is_integer() else shorter
    return value


def get_object(source: Mapping[str, Any], key: str) -> Json | None:
    """The object at `key`; None if it is absent or null. Raises ApiError for another kind."""
    value = source.get(key)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ApiError(f"{key} must be an object")
    return cast("Json", value)


def get_text(source: Mapping[str, Any], key: str) -> str:
    """The string at `key`, "" if absent. Raises ApiError."""
    value = source.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ApiError(f"{key} must be a string")
    return value


def get_int(source: Mapping[str, Any], key: str, low: int = 0) -> int:
    """The whole number at `key`, 0 if absent. Raises ApiError for one below `low`."""
    value = source.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise ApiError(f"{key} must be a whole number")
    if not low <= value < 2**63:
        raise ApiError(f"{key} is out of range: {value}")
    return value


def get_bool(source: Mapping[str, Any], key: str) -> bool:
    """The bool at `key`, False if absent. Raises ApiError."""
    value = source.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ApiError(f"{key} must be true or false")
    return value


def get_texts(source: Mapping[str, Any], key: str) -> list[str]:
    """The list of strings at `key`, empty if absent. Raises ApiError."""
    values = get_list(source, key)
    if not all(isinstance(value, str) for value in values):
        raise ApiError(f"{key} must be a list of strings")
    return cast("list[str]", values)


def get_list(source: Mapping[str, Any], key: str) -> list[Any]:
    """The list at `key`, empty if absent. Raises ApiError."""
    value = source.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ApiError(f"{key} must be a list")
    return cast("list[Any]", value)


def get_objects(source: Mapping[str, Any], key: str) -> list[Json]:
    """The list of objects at `key`, empty if absent. Raises ApiError."""
    values = get_list(source, key)
    if not all(isinstance(value, dict) for value in values):
        raise ApiError(f"{key} must be a list of objects")
    return values


def get_map(source: Mapping[str, Any], key: str) -> dict[str, str]:
    """The map of strings at `key`, empty if absent. Raises ApiError."""
    value = get_object(source, key) or {}
    if not all(isinstance(text, str) for text in value.values()):
        raise ApiError(f"{key} must map strings to strings")
    return cast("dict[str, str]", value)


def refuse(source: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Fields that would change what runs, and that nobody here honours yet. Raises ApiError."""
    for key in keys:
        if source.get(key):
            raise ApiError(f"{key} is not supported yet")
