"""`swarmctl build`: a Dockerfile's image, known to the whole cluster."""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import click

from swarm import dockerfile
from swarm.api.v1.image_pb2 import BuildImageRequest, BuildSettings, Image
from swarm.cli import regular_file
from swarm.cli.client import Client
from swarm.cli.command import DockerCommand
from swarm.cli.errors import CliError
from swarm.cli.flags import LIST, STRING, docker_bool_option
from swarm.cli.image import portions
from swarm.cli.session import Session
from swarm.cli.specvalues import to_map
from swarm.dockerfile import DockerfileError, Instruction
from swarm.dockerignore import BadPattern, Ignore

_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP (?P<part>\d+/\d+)\s?: (?P<text>.*)", re.IGNORECASE)
_FROM_OUTSIDE = ".dockerfile.from-outside-the-context"


@click.command(
    cls=DockerCommand, name="build", usage="[OPTIONS] PATH", help="Build an image from a Dockerfile"
)
@click.option(
    "--tag",
    "-t",
    "tags",
    type=LIST,
    multiple=True,
    help='Name and optionally a tag (format: "name:tag")',
)
@click.option(
    "--file", "-f", "file", type=STRING, help='Name of the Dockerfile (default: "PATH/Dockerfile")'
)
@click.option(
    "--build-arg", "build_args", type=LIST, multiple=True, help="Set build-time variables"
)
@click.option("--label", "labels", type=LIST, multiple=True, help="Set metadata for an image")
@click.option("--target", type=STRING, help="Set the target build stage to build")
@docker_bool_option("--no-cache", help="Do not use cache when building the image")
@docker_bool_option("--quiet", "-q", help="Suppress the build output and print image ID on success")
@click.argument("path", metavar="PATH")
@click.pass_obj
def build(
    session: Session,
    tags: tuple[str, ...],
    file: str | None,
    build_args: tuple[str, ...],
    labels: tuple[str, ...],
    target: str | None,
    no_cache: bool,
    quiet: bool,
    path: str,
) -> None:
    settings = BuildSettings(
        names=tags,
        build_args=_arguments(build_args, session.environment),
        labels=to_map(labels),
        target=target or "",
        no_cache=no_cache,
    )
    image = build_image(session.client, settings, Path(path), file, quiet=quiet)
    if quiet:
        click.echo(image.config_digest)


def build_image(
    client: Client, settings: BuildSettings, context: Path, file: str | None, *, quiet: bool = False
) -> Image:
    """Builds it on the node of the manager that answers; `file` is as typed after -f.

    `names` of the settings are checked, and given tags. Raises CliError.
    """
    if not context.is_dir():
        raise CliError(f"unable to prepare context: path {str(context)!r} not found")
    source = Path(file) if file else context / "Dockerfile"
    text, instructions = _read(source)
    ignore = _ignored(context, source)
    settings.names[:] = [_name(name) for name in settings.names]
    settings.bases[:] = dockerfile.bases(instructions, dict(settings.build_args))
    settings.dockerfile = _inside(source, context) or _FROM_OUTSIDE
    with tempfile.TemporaryFile() as archive:
        _pack(archive, context, ignore, {settings.dockerfile: text})
        archive.seek(0)
        return _converse(client, settings, archive, source, instructions, quiet=quiet)


def _converse(
    client: Client,
    settings: BuildSettings,
    archive: IO[bytes],
    source: Path,
    instructions: list[Instruction],
    *,
    quiet: bool,
) -> Image:
    step, said = "", ""
    try:
        for progress in client.converse(
            lambda stubs: stubs.control.BuildImage, _requests(settings, archive)
        ):
            if progress.images:
                return progress.images[0]
            said += progress.text
            if not quiet:
                click.echo(progress.text, nl=False)
            if match := _STEP.match(progress.text.strip()):
                step = match["text"]
    except CliError as error:
        if quiet:
            click.echo(said, nl=False, err=True)
        line = dockerfile.line_of(instructions, step) if step else 0
        if not line:
            raise
        reason = error.message.removeprefix("Error response from daemon: ")
        raise CliError(f"{source}:{line}: {step}: {reason}") from None
    raise CliError("the build ended without a result: see the manager's log")


def _requests(settings: BuildSettings, archive: IO[bytes]) -> Iterator[BuildImageRequest]:
    yield BuildImageRequest(settings=settings)
    for data in portions(archive):
        yield BuildImageRequest(data=data)


def _read(source: Path) -> tuple[bytes, list[Instruction]]:
    try:
        content = regular_file.read(source)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CliError(f"failed to read dockerfile: open {source}: {reason}") from None
    try:
        return content, dockerfile.parse(content.decode(errors="replace"))
    except DockerfileError as error:
        raise CliError(f"{source}:{error}") from None


def _ignored(context: Path, source: Path) -> Ignore:
    """`NAME.dockerignore` beside the Dockerfile goes before the context's."""
    for path in (source.with_name(f"{source.name}.dockerignore"), context / ".dockerignore"):
        try:
            text = regular_file.read(path).decode(errors="replace")
        except OSError:
            continue
        try:
            return Ignore(text)
        except BadPattern as error:
            raise CliError(f"{path}:{error}") from None
    return Ignore("")


def _pack(archive: IO[bytes], context: Path, ignore: Ignore, always: Mapping[str, bytes]) -> None:
    """The context without what is ignored; the Dockerfile is sent in any case."""
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, name in _files(context, "", ignore):
            if name not in always:
                _add(tar, path, name)
        for name, content in always.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            with tempfile.SpooledTemporaryFile() as file:
                file.write(content)
                file.seek(0)
                tar.addfile(info, file)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    try:
        info = tar.gettarinfo(str(path), name)
        if info is None:  # pyright: ignore[reportUnnecessaryComparison] - sockets
            return
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        if info.isreg():
            with path.open("rb") as file:
                tar.addfile(info, file)
        else:
            tar.addfile(info)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CliError(f"error checking context: {path}: {reason}") from None


def _files(folder: Path, below: str, ignore: Ignore) -> Iterator[tuple[Path, str]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = f"{below}{entry.name}"
        ignored = ignore.matches(name)
        if not ignored:
            yield Path(entry.path), name
        if entry.is_dir(follow_symlinks=False) and (not ignored or ignore.takes_back):
            yield from _files(Path(entry.path), f"{name}/", ignore)


def _inside(source: Path, context: Path) -> str:
    """Its name in the context; empty: it is outside."""
    try:
        return source.resolve().relative_to(context.resolve()).as_posix()
    except ValueError:
        return ""


def _arguments(pairs: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """`NAME` alone takes the value that it has in the environment, if it has one."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if equals:
            values[name] = value
        elif name in environment:
            values[name] = environment[name]
    return values


def _name(text: str) -> str:
    from swarm.manager.core.validate.reference import InvalidReference, parse

    try:
        reference = parse(text)
    except InvalidReference as error:
        raise CliError(f'invalid argument "{text}" for "-t, --tag" flag: {error}') from None
    return reference.with_default_tag().familiar
