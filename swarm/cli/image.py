"""`swarmctl image`: the images that all nodes of the cluster can run, without a registry."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1 import image_pb2 as img
from swarm.cli.client import Client, NotFoundError, new_request_id
from swarm.cli.command import DockerGroup
from swarm.cli.errors import CliError
from swarm.cli.flags import (
    STRING,
    docker_bool_option,
    filter_option,
    format_option,
    inspect_format_option,
    no_trunc_option,
    parse_filters,
    quiet_option,
)
from swarm.cli.names import has_label
from swarm.cli.output import print_inspect
from swarm.cli.registry_logins import registry_auth
from swarm.cli.session import Session
from swarm.cli.tables import Column, print_list
from swarm.dockerapi.image import image_to_json, size_of
from swarm.units import human_duration, human_size, truncate_id

PORTION_BYTES = 1 << 20
TRANSFER_TIMEOUT_S = 3600.0
_FILTERS = ("dangling", "label", "reference")
_NONE = "<none>"
_COLUMNS = (
    Column("Repository", "REPOSITORY"),
    Column("Tag", "TAG"),
    Column("Digest", "DIGEST", default=False),
    Column("ID", "IMAGE ID", truncate=truncate_id),
    Column("CreatedSince", "CREATED"),
    Column("Size", "SIZE"),
    Column("CreatedAt", "CREATED AT", default=False),
)


@click.group(cls=DockerGroup, name="image", help="Manage images")
def image() -> None:
    pass


@image.command("ls", usage="[OPTIONS] [REPOSITORY[:TAG]]", aliases=("list",), help="List images")
@docker_bool_option("--all", "-a", help="Show all images; there are no intermediate ones")
@docker_bool_option("--digests", help="Show digests")
@filter_option()
@format_option()
@no_trunc_option()
@quiet_option()
@click.argument("repository", required=False)
@click.pass_obj
def ls(
    session: Session,
    repository: str | None,
    all: bool,  # noqa: A002 - the flag's name
    digests: bool,
    filter: tuple[str, ...],  # noqa: A002
    format: str | None,  # noqa: A002
    no_trunc: bool,
    quiet: bool,
) -> None:
    del all
    filters = parse_filters(filter, _FILTERS)
    found = session.client.ask(lambda stubs: stubs.control.ListImages, pb.ListImagesRequest())
    rows = [
        _row(row, name)
        for row in sorted(found.images, key=lambda row: -row.created_at_ns)
        for name in row.names or [""]
        if _is_named(name, repository) and _matches(row, name, filters)
    ]
    columns = [
        Column(c.field, c.header, c.truncate, c.default or (digests and c.field == "Digest"))
        for c in _COLUMNS
    ]
    print_list(rows, columns, format=format, quiet=quiet, no_trunc=no_trunc)


@image.command(
    "inspect",
    usage="[OPTIONS] IMAGE [IMAGE...]",
    help="Display detailed information on one or more images",
)
@inspect_format_option()
@click.argument("references", metavar="IMAGE", nargs=-1, required=True)
@click.pass_obj
def inspect(
    session: Session,
    references: tuple[str, ...],
    format: str | None,  # noqa: A002 - the flag's name
) -> None:
    objects: list[object] = []
    errors: list[str] = []
    for reference in references:
        request = pb.GetImageRequest(reference=reference)
        try:
            answer = session.client.ask(lambda stubs: stubs.control.GetImage, request)
        except NotFoundError as error:
            errors.append(error.message)
            continue
        objects.append(image_to_json(answer.image, answer.config))
    print_inspect(objects, errors, format=format)


@image.command("load", help="Load an image from a tar archive or STDIN")
@click.option(
    "--input", "-i", "source", type=STRING, help="Read from tar archive file, instead of STDIN"
)
@docker_bool_option("--quiet", "-q", help="Suppress the load output")
@click.pass_obj
def load(session: Session, source: str | None, quiet: bool) -> None:
    del quiet
    if source is None and sys.stdin.isatty():
        raise CliError("requested load from stdin, but stdin is empty: name a file with --input")
    with _opened(source) as file:
        answer = session.client.upload_local(
            lambda stubs: stubs.control.LoadImage,
            (img.LoadImageRequest(data=data) for data in portions(file)),
            timeout_s=TRANSFER_TIMEOUT_S,
        )
    for loaded in answer.images:
        for name in loaded.names:
            click.echo(f"Loaded image: {name}")
        if not loaded.names:
            click.echo(f"Loaded image ID: {loaded.id}")


@image.command("pull", help="Download an image from a registry, for the whole swarm")
@docker_bool_option("--quiet", "-q", help="Suppress verbose output")
@click.argument("reference", metavar="NAME[:TAG|@DIGEST]")
@click.pass_obj
def pull(session: Session, reference: str, quiet: bool) -> None:
    auth = registry_auth(session.environment, reference)
    for progress in session.client.follow(
        lambda stubs: stubs.control.PullImage,
        lambda: img.PullImageRequest(reference=reference, registry_auth=auth),
        resume=False,
    ):
        if progress.text and not quiet:
            click.echo(progress.text, nl=False)
        for loaded in progress.images:
            click.echo(loaded.names[0] if loaded.names else loaded.id)


@image.command(
    "save",
    usage="[OPTIONS] IMAGE [IMAGE...]",
    help="Save one or more images to a tar archive (streamed to STDOUT by default)",
)
@click.option("--output", "-o", type=STRING, help="Write to a file, instead of STDOUT")
@click.argument("references", metavar="IMAGE", nargs=-1, required=True)
@click.pass_obj
def save(session: Session, references: tuple[str, ...], output: str | None) -> None:
    if output is None and sys.stdout.isatty():
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    answers = session.client.follow(
        lambda stubs: stubs.control.SaveImage,
        lambda: img.SaveImageRequest(references=references),
        resume=False,
    )
    with _written(output) as target:
        for answer in answers:
            target.write(answer.data)


@image.command("tag", help="Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE")
@click.argument("source", metavar="SOURCE_IMAGE[:TAG]")
@click.argument("target", metavar="TARGET_IMAGE[:TAG]")
@click.pass_obj
def tag(session: Session, source: str, target: str) -> None:
    request = pb.TagImageRequest(request_id=new_request_id(), source=source, target=target)
    session.client.ask(lambda stubs: stubs.control.TagImage, request)


@image.command(
    "rm",
    usage="[OPTIONS] IMAGE [IMAGE...]",
    aliases=("remove",),
    help="Remove one or more images",
)
@docker_bool_option("--force", "-f", help="Force removal of the image")
@docker_bool_option("--no-prune", help="Do not delete untagged parents; there are none")
@click.argument("references", metavar="IMAGE", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, references: tuple[str, ...], force: bool, no_prune: bool) -> None:
    del no_prune
    errors: list[str] = []
    for reference in references:
        try:
            _print_removed(_remove(session.client, reference, force))
        except NotFoundError as error:
            if not force:
                errors.append(error.message)
        except CliError as error:
            errors.append(error.message)
    if errors:
        raise CliError("\n".join(errors))


@image.command("prune", help="Remove unused images")
@docker_bool_option("--all", "-a", help="Remove all unused images, not just dangling ones")
@docker_bool_option("--force", "-f", help="Do not prompt for confirmation")
@click.pass_obj
def prune(session: Session, all: bool, force: bool) -> None:  # noqa: A002 - the flag's name
    which = "all images without at least one service using them" if all else "all dangling images"
    if not force:
        click.echo(f"WARNING! This will remove {which}.")
        if not click.confirm("Are you sure you want to continue?", default=False):
            return
    request = pb.PruneImagesRequest(request_id=new_request_id(), all=all)
    answer = session.client.ask(lambda stubs: stubs.control.PruneImages, request)
    if answer.deleted:
        click.echo("Deleted Images:")
        _print_removed(answer)
        click.echo()
    click.echo(f"Total reclaimed space: {human_size(answer.reclaimed_bytes)}")


def portions(file: IO[bytes]) -> Iterator[bytes]:
    """Its content, in messages of a size that suits the wire."""
    while data := file.read(PORTION_BYTES):
        yield data


def _remove(client: Client, reference: str, force: bool) -> pb.RemoveImageResponse:
    request = pb.RemoveImageRequest(request_id=new_request_id(), reference=reference, force=force)
    return client.ask(lambda stubs: stubs.control.RemoveImage, request)


def _print_removed(answer: pb.RemoveImageResponse | pb.PruneImagesResponse) -> None:
    for name in answer.untagged:
        click.echo(f"Untagged: {name}")
    for digest in answer.deleted:
        click.echo(f"Deleted: {digest}")


def _opened(source: str | None) -> contextlib.AbstractContextManager[IO[bytes]]:
    if source is None:
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise CliError(f"open {source}: {(error.strerror or str(error)).lower()}") from None


@contextlib.contextmanager
def _written(output: str | None) -> Generator[IO[bytes]]:
    """A file that is whole or not there."""
    if output is None:
        yield sys.stdout.buffer
        return
    target = Path(output)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(target)
    except OSError as error:
        raise CliError(f"{output} can't be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)


def _row(row: img.Image, name: str) -> dict[str, object]:
    repository, _, tag_ = name.rpartition(":")
    age = human_duration(max(time.time_ns() - row.created_at_ns, 0))
    return {
        "Repository": repository or _NONE,
        "Tag": tag_ or _NONE,
        "Digest": row.id,
        "ID": row.config_digest,
        "CreatedSince": f"{age} ago" if row.created_at_ns > 0 else "N/A",
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(_seconds(row))),
        "Size": human_size(size_of(row), 3),
    }


def _seconds(row: img.Image) -> float:
    return row.created_at_ns / 1e9


def _is_named(name: str, wanted: str | None) -> bool:
    return wanted is None or wanted in (name, name.rpartition(":")[0])


def _matches(row: img.Image, name: str, filters: Mapping[str, Sequence[str]]) -> bool:
    for value in filters.get("dangling", ()):
        if (value in ("true", "1")) == bool(name):
            return False
    patterns: Iterable[str] = filters.get("reference", ())
    repository = name.rpartition(":")[0]
    if patterns and not any(fnmatchcase(name, p) or fnmatchcase(repository, p) for p in patterns):
        return False
    return all(has_label(row.labels, text) for text in filters.get("label", ()))
