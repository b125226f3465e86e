"""`swarmctl cert`: certificates with which the managers are spoken to from other machines."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.cli.client import new_request_id
from swarm.cli.command import DockerGroup
from swarm.cli.endpoints import CA_FILE, CERT_FILE, KEY_FILE, own_certificates
from swarm.cli.errors import CliError
from swarm.cli.flags import DURATION, STRING, docker_bool_option, format_option, quiet_option
from swarm.cli.session import Session
from swarm.cli.tables import Column, print_list
from swarm.units import NS_PER_SECOND

_COLUMNS = (
    Column("ID", "ID"),
    Column("Name", "NAME"),
    Column("IssuedAt", "ISSUED"),
    Column("ExpiresAt", "EXPIRES"),
    Column("Who", "ASKED FOR BY"),
)


@click.group(cls=DockerGroup, name="cert", help="Manage administrators' certificates")
def cert() -> None:
    pass


@cert.command(
    "create",
    usage="[OPTIONS] [NAME]",
    help="Make a certificate to talk to the managers with from any machine",
)
@click.option(
    "--expiry", type=DURATION, help="Validity period (ns|us|ms|s|m|h) (default 8760h0m0s)"
)
@docker_bool_option("--force", "-f", help="Replace a certificate that is there already")
@click.option(
    "--out",
    "-o",
    type=STRING,
    help="Folder for ca.pem, cert.pem and key.pem (default SWARM_CERT_PATH, or ~/.swarm)",
)
@click.argument("name", required=False)
@click.pass_obj
def create(
    session: Session, name: str | None, expiry: int | None, force: bool, out: str | None
) -> None:
    from swarm.security.certificates import create_request, validity_of

    environment = session.environment
    chosen = out or environment.get("SWARM_CERT_PATH") or str(own_certificates(environment))
    folder = Path(chosen).absolute()
    _make_room(folder, force=force)
    if expiry is not None and expiry <= 0:
        raise CliError("a certificate's expiry must be at least 1h")
    keys = create_request()
    request = pb.CreateAdminCertificateRequest(
        request_id=new_request_id(),
        csr_pem=keys.csr_pem,
        name=_login() if name is None else name,
        lifetime_ns=expiry or 0,
    )
    answer = session.client.ask(lambda stubs: stubs.control.CreateAdminCertificate, request)
    _write(folder / CA_FILE, answer.root_certificate_pem, 0o644)
    _write(folder / CERT_FILE, answer.certificate_pem, 0o644)
    _write(folder / KEY_FILE, keys.key_pem, 0o600)
    _, end = validity_of(answer.certificate_pem)
    click.echo(
        f'Certificate of administrator "{request.name}", valid until {end:%Y-%m-%d}: {folder}'
    )
    click.echo("\nTo talk to the managers from any machine that has this folder:\n")
    click.echo(
        f"    export SWARM_CERT_PATH={folder} SWARM_HOST={','.join(answer.manager_addresses)}\n"
    )
    click.echo("Whoever has key.pem is an administrator of this swarm: keep it to yourself.")


@cert.command("ls", aliases=("list",), help="List administrators' certificates that are valid")
@format_option()
@quiet_option()
@click.pass_obj
def ls(session: Session, format: str | None, quiet: bool) -> None:  # noqa: A002 - the flag's name
    answer = session.client.ask(lambda stubs: stubs.control.GetCluster, pb.GetClusterRequest())
    now_ns = datetime.now(UTC).timestamp() * NS_PER_SECOND
    rows = [
        {
            "ID": made.id,
            "Name": made.name,
            "IssuedAt": _moment(made.issued_at_ns),
            "ExpiresAt": _moment(made.expires_at_ns),
            "Who": made.who,
        }
        for made in answer.cluster.cluster.admin_certificates
        if made.expires_at_ns > now_ns
    ]
    print_list(rows, _COLUMNS, format=format, quiet=quiet)


def _moment(unix_ns: int) -> str:
    return f"{datetime.fromtimestamp(unix_ns / NS_PER_SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid{os.getuid()}"


def _make_room(folder: Path, *, force: bool) -> None:
    """The folder, with nothing of another certificate in it. CliError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"cannot make the folder {folder}: {error.strerror}") from error
    there = [name for name in (CA_FILE, CERT_FILE, KEY_FILE) if (folder / name).exists()]
    if there and not force:
        raise CliError(
            f"{folder / there[0]} is there already: choose another folder with --out, or replace "
            "it with --force"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CliError(f"cannot write to {folder}: choose another folder with --out")


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, never readable by more than `mode` says."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        fresh.rename(path)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}") from error
