"""`swarmctl login` and `logout`: who one is to a registry, in docker's own configuration file."""

from __future__ import annotations

import sys

import click

from swarm.cli.command import DockerCommand
from swarm.cli.errors import CliError
from swarm.cli.flags import STRING, docker_bool_option
from swarm.cli.registry_check import check
from swarm.cli.registry_logins import Login, RegistryLogins
from swarm.cli.session import Session
from swarm.worker.images.reference import server_of


@click.command(
    "login",
    cls=DockerCommand,
    usage="[OPTIONS] [SERVER]",
    help="Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
)
@click.option("--username", "-u", type=STRING, help="Username")
@click.option("--password", "-p", type=STRING, help="Password or Personal Access Token (PAT)")
@docker_bool_option(
    "--password-stdin", help="Take the Password or Personal Access Token (PAT) from stdin"
)
@click.argument("server", required=False)
@click.pass_obj
def login(
    session: Session,
    server: str | None,
    username: str | None,
    password: str | None,
    password_stdin: bool,
) -> None:
    if password is not None and password_stdin:
        raise CliError("--password and --password-stdin are mutually exclusive")
    if password_stdin and not username:
        raise CliError("Must provide --username with --password-stdin")
    if password is not None:
        warning = "WARNING! Using --password via the CLI is insecure. Use --password-stdin."
        click.echo(warning, err=True)
    if password_stdin:
        password = sys.stdin.read().rstrip("\r\n")
    logins = RegistryLogins(session.environment)
    key = server_of(server or "")
    known = None if username or password else logins.get(key)
    if known is not None and known.password:
        click.echo("Authenticating with existing credentials...")
        check(key, known)
    else:
        given = _asked_for(username, password)
        check(key, given)
        if logins.put(key, given):
            _warn_of_plain_text(logins)
    click.echo("Login Succeeded")


@click.command(
    "logout",
    cls=DockerCommand,
    usage="[SERVER]",
    help="Log out from a registry.\nIf no server is specified, the default is Docker Hub.",
)
@click.argument("server", required=False)
@click.pass_obj
def logout(session: Session, server: str | None) -> None:
    key = server_of(server or "")
    if RegistryLogins(session.environment).erase(key):
        click.echo(f"Removing login credentials for {key}")
    else:
        click.echo(f"Not logged in to {key}")


def _asked_for(username: str | None, password: str | None) -> Login:
    if not (username and password):
        if not sys.stdin.isatty():
            raise CliError(
                "Cannot perform an interactive login from a non TTY device: give --username and "
                "--password-stdin"
            )
        username = username or click.prompt("Username", prompt_suffix=": ")
        password = password or click.prompt("Password", prompt_suffix=": ", hide_input=True)
    return Login(username or "", password or "")


def _warn_of_plain_text(logins: RegistryLogins) -> None:
    click.echo(
        f"WARNING! Your credentials are stored unencrypted in '{logins.path}'.\n"
        "Configure a credential helper to remove this warning. See\n"
        "https://docs.docker.com/go/credential-store/\n",
        err=True,
    )
