"""`swarmctl cluster`: the cluster's state to a file, and a new cluster from one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1 import daemon_pb2 as daemon
from swarm.cli.command import DockerGroup
from swarm.cli.errors import CliError
from swarm.cli.flags import STRING
from swarm.cli.session import Session
from swarm.cli.swarm import NODE_ADDRESS
from swarm.disk import FatalDiskError, fsync_folder, sync_file

_RESTORE_TIMEOUT_S = 600.0
_PORTION_BYTES = 256 << 10
_PASSPHRASE_FILE = click.option(
    "--passphrase-file",
    type=STRING,
    help="File with the passphrase of the backup (asked for at a terminal otherwise)",
)


@click.group(cls=DockerGroup, name="cluster", help="Back up and restore the swarm's state")
def cluster() -> None:
    pass


@cluster.command(
    "backup",
    usage="[OPTIONS] FILE|-",
    help="Write the swarm's whole state, encrypted, to a file or to stdout",
)
@_PASSPHRASE_FILE
@click.argument("file", metavar="FILE|-")
@click.pass_obj
def backup(session: Session, file: str, passphrase_file: str | None) -> None:
    request = pb.BackupRequest(passphrase=_passphrase(passphrase_file, confirm=True))
    answers = session.client.follow(lambda stubs: stubs.control.Backup, lambda: request)
    if file == "-":
        _to_stdout(answers)
        return
    with _written_beside(Path(file)) as target:
        size = _copy(answers, target)
    click.echo(f"Backed up the swarm to {file} ({size} bytes).")


def _to_stdout(answers: Iterator[pb.BackupResponse]) -> None:
    if sys.stdout.isatty():
        raise CliError("a backup is no text for a terminal: redirect stdout, or name a file")
    stdout = sys.stdout.buffer
    for number, answer in enumerate(answers):
        if answer.begins and number:
            raise CliError(
                "the manager was lost while it sent the backup: what was written to stdout is of "
                "no use; run the command again"
            )
        stdout.write(answer.data)
    stdout.flush()


def _copy(answers: Iterator[pb.BackupResponse], target: IO[bytes]) -> int:
    """What a manager that was lost meanwhile has sent is overwritten."""
    for answer in answers:
        if answer.begins:
            target.seek(0)
            target.truncate()
        target.write(answer.data)
    return target.tell()


@contextlib.contextmanager
def _written_beside(path: Path) -> Generator[IO[bytes]]:
    """A file that takes `path`'s place when it is whole and on the disk. For its owner alone: it
    holds the swarm's root key."""
    if path.is_dir():
        raise CliError(f"{path} is a folder: name a file")
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CliError(f"{path} can't be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as target:
            yield target
            target.flush()
            sync_file(descriptor, beside)
        beside.replace(path)
        fsync_folder(path.parent)
    except (OSError, FatalDiskError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CliError(f"{path} can't be written, and is what it was before: {reason}") from None
    finally:
        beside.unlink(missing_ok=True)


@cluster.command(
    "restore",
    usage="[OPTIONS] FILE|-",
    help="Begin a new cluster from a backup, on a node that is in no swarm",
)
@click.option(
    "--advertise-addr",
    type=STRING,
    help='Advertised address (format: "<ip|interface>[:port]")',
)
@click.option(
    "--listen-addr",
    type=NODE_ADDRESS,
    help='Listen address (format: "<ip|interface>[:port]") (default 0.0.0.0:2377)',
)
@_PASSPHRASE_FILE
@click.argument("file", metavar="FILE|-")
@click.pass_obj
def restore(
    session: Session,
    file: str,
    advertise_addr: str | None,
    listen_addr: str | None,
    passphrase_file: str | None,
) -> None:
    with _opened(file) as source:
        settings = daemon.RestoreSettings(
            advertise_address=advertise_addr or "",
            listen_address=listen_addr or "",
            passphrase=_passphrase(passphrase_file, confirm=False),
        )
        answer = session.client.upload_local(
            lambda stubs: stubs.daemon.Restore,
            _portions(source, settings),
            timeout_s=_RESTORE_TIMEOUT_S,
        )
    click.echo(
        f"Swarm {answer.cluster_id} restored as it was at revision {answer.revision}: "
        f"{answer.services} services, {answer.nodes} nodes.\n"
        f"Current node ({answer.node_id}) is its only manager, at {answer.join_address}.\n\n"
        "Managers of the old swarm must not run on: see 'swarmctl node ls' for nodes that are "
        "down,\nremove those that won't come back, and add managers with the instructions of "
        "'swarmctl swarm join-token manager'."
    )


def _portions(
    source: IO[bytes], settings: daemon.RestoreSettings
) -> Iterator[daemon.RestoreRequest]:
    yield daemon.RestoreRequest(settings=settings)
    while data := source.read(_PORTION_BYTES):
        yield daemon.RestoreRequest(data=data)


def _opened(file: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if file == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise CliError(f"{file} can't be read: {error.strerror}") from None


def _passphrase(path: str | None, *, confirm: bool) -> str:
    """From the file, without its line's end; else from the terminal."""
    if path is None:
        if not sys.stdin.isatty():
            raise CliError("--passphrase-file is needed where there is no terminal to ask at")
        answer: str = click.prompt(
            "Passphrase of the backup", hide_input=True, confirmation_prompt=confirm, err=True
        )
        return answer
    try:
        return Path(path).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CliError(f"the passphrase file {path} can't be read: {reason}") from None
