"""The verbs that `swarmctl secret` and `swarmctl config` share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.types_pb2 import Annotations
from swarm.cli.client import Client, NotFoundError
from swarm.cli.command import DockerGroup
from swarm.cli.errors import CliError
from swarm.cli.flags import (
    LIST,
    STRING,
    docker_bool_option,
    filter_option,
    format_option,
    inspect_format_option,
    parse_filters,
    quiet_option,
)
from swarm.cli.names import has_label, natural
from swarm.cli.output import print_inspect
from swarm.cli.session import Session
from swarm.cli.specvalues import to_map
from swarm.cli.tables import Column, print_list
from swarm.units import human_duration

_FILTERS = ("id", "label", "name")
# More than any may have: the managers say how much that is.
_READ_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class FileNoun:
    """What differs between the two."""

    noun: str
    create: Callable[[Client, Annotations, bytes, str], Secret | Config]
    all: Callable[[Client], Sequence[Secret | Config]]
    get: Callable[[Client, str], Secret | Config]
    remove: Callable[[Client, str], None]
    to_json: Callable[[Any], Mapping[str, Any]]
    to_text: Callable[[Mapping[str, Any]], str]
    columns: Sequence[Column]


def add_verbs(group: DockerGroup, noun: FileNoun) -> None:
    """create, ls, inspect and rm."""
    word = noun.noun
    is_secret = word == "secret"

    @group.command(
        "create",
        usage=f"[OPTIONS] {word.upper()} file|-",
        help=f"Create a {word} from a file or STDIN{' as content' if is_secret else ''}",
        unsupported=("--driver=value", "-d=value") if is_secret else (),
    )
    @click.option("--label", "-l", type=LIST, multiple=True, help=f"{word.capitalize()} labels")
    @click.option("--template-driver", type=STRING, help="Template driver")
    @click.argument("name", metavar=word.upper())
    @click.argument("file", metavar="file|-")
    @click.pass_obj
    def create(
        session: Session, label: tuple[str, ...], template_driver: str | None, name: str, file: str
    ) -> None:
        annotations = Annotations(name=name, labels=to_map(label))
        made = noun.create(session.client, annotations, _read(file), template_driver or "")
        click.echo(made.id)

    @group.command("ls", aliases=("list",), help=f"List {word}s")
    @filter_option()
    @format_option()
    @quiet_option()
    @click.pass_obj
    def ls(
        session: Session,
        filter: tuple[str, ...],  # noqa: A002 - the flag's name
        format: str | None,  # noqa: A002
        quiet: bool,
    ) -> None:
        filters = parse_filters(filter, _FILTERS)
        found = [row for row in noun.all(session.client) if _matches(row, filters)]
        found.sort(key=lambda row: natural(row.spec.annotations.name))
        print_list([_row(row) for row in found], noun.columns, format=format, quiet=quiet)

    @group.command(
        "inspect",
        usage=f"[OPTIONS] {word.upper()} [{word.upper()}...]",
        help=f"Display detailed information on one or more {word}s",
    )
    @inspect_format_option()
    @docker_bool_option("--pretty", help="Print the information in a human friendly format")
    @click.argument("references", metavar=word.upper(), nargs=-1, required=True)
    @click.pass_obj
    def inspect(
        session: Session,
        references: tuple[str, ...],
        format: str | None,  # noqa: A002 - the flag's name
        pretty: bool,
    ) -> None:
        if pretty and format:
            raise CliError("--format is incompatible with human friendly format")
        found, errors = _find(session.client, noun, references)
        objects = [noun.to_json(row) for row in found]
        if not pretty:
            print_inspect(objects, errors, format=format)
            return
        click.echo("".join(noun.to_text(item) for item in objects), nl=False)
        if errors:
            raise CliError("\n".join(errors))

    @group.command(
        "rm",
        usage=f"{word.upper()} [{word.upper()}...]",
        aliases=("remove",),
        help=f"Remove one or more {word}s",
    )
    @click.argument("references", metavar=word.upper(), nargs=-1, required=True)
    @click.pass_obj
    def rm(session: Session, references: tuple[str, ...]) -> None:
        errors: list[str] = []
        for reference in references:
            try:
                noun.remove(session.client, reference)
            except CliError as error:
                errors.append(error.message)
                continue
            click.echo(reference)
        if errors:
            raise CliError("\n".join(errors))

    del create, ls, inspect, rm


def _read(name: str) -> bytes:
    """Raises CliError."""
    if name == "-":
        return sys.stdin.buffer.read(_READ_BYTES_MAX)
    try:
        with Path(name).open("rb") as file:
            return file.read(_READ_BYTES_MAX)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CliError(f"error reading content from {name!r}: {reason}") from error


def _find(
    client: Client, noun: FileNoun, references: Sequence[str]
) -> tuple[list[Secret | Config], list[str]]:
    """Each once, and a line for each that is not there."""
    found: dict[str, Secret | Config] = {}
    errors: list[str] = []
    for reference in references:
        try:
            row = noun.get(client, reference)
        except NotFoundError as error:
            errors.append(error.message)
            continue
        found.setdefault(row.id, row)
    return list(found.values()), errors


def _row(row: Secret | Config) -> dict[str, object]:
    labels = dict(row.spec.annotations.labels)

    def label(name: str) -> str:
        return labels.get(name, "")

    return {
        "ID": row.id,
        "Name": row.spec.annotations.name,
        "Driver": "",
        "CreatedAt": _ago(row.meta.created_at_ns),
        "UpdatedAt": _ago(row.meta.updated_at_ns),
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "Label": label,
    }


def _ago(at_ns: int) -> str:
    return f"{human_duration(max(time.time_ns() - at_ns, 0))} ago"


def _matches(row: Secret | Config, filters: Mapping[str, Sequence[str]]) -> bool:
    for key, value in (("id", row.id), ("name", row.spec.annotations.name)):
        wanted = filters.get(key, ())
        if wanted and not value.startswith(tuple(wanted)):
            return False
    return all(has_label(row.spec.annotations.labels, text) for text in filters.get("label", ()))
