"""Generic resources as a user writes them: KIND=COUNT, or KIND=NAME once for each distinct one."""

from collections.abc import Iterable

from swarm.api.v1.types_pb2 import GenericResource


def parse_generic_resources(texts: Iterable[str]) -> list[GenericResource]:
    """What a node has: several in a text are parted by commas. Raises ValueError, in one line."""
    names: dict[str, list[str]] = {}
    for text in texts:
        for term in text.split(","):
            kind, _, value = (part.strip() for part in term.partition("="))
            if not kind or not value:
                raise ValueError(f"generic resource '{term}': takes KIND=COUNT or KIND=NAME")
            names.setdefault(kind, []).append(value)
    return [_resource(kind, values) for kind, values in names.items()]


def parse_reservation(text: str) -> GenericResource:
    """What a task needs: a count, also of those that have names. Raises ValueError, in one line."""
    kind, _, value = (part.strip() for part in text.partition("="))
    if not kind or not value.isdecimal() or int(value) == 0:
        raise ValueError(f"generic resource '{text}': takes KIND=COUNT, such as gpu=2")
    return GenericResource(kind=kind, count=int(value))


def _resource(kind: str, values: list[str]) -> GenericResource:
    counts = [value for value in values if value.lstrip("-").isdecimal()]
    if not counts:
        return GenericResource(kind=kind, names=dict.fromkeys(values))
    if len(values) > 1:
        raise ValueError(
            f"generic resource '{kind}': takes one count, or names that are no numbers"
        )
    if int(values[0]) < 0:
        raise ValueError(f"generic resource '{kind}={values[0]}': the count is negative")
    return GenericResource(kind=kind, count=int(values[0]))
