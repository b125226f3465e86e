"""swarmctl's entry point: the root of its commands, whose modules load when they are used."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import click

from swarm.cli.command import DockerGroup, LazyCommand
from swarm.cli.endpoints import CA_FILE, CERT_FILE, KEY_FILE
from swarm.cli.errors import CliError
from swarm.cli.flags import LIST, STRING, docker_bool_option
from swarm.cli.run import run
from swarm.cli.session import Session

_VERBS = (
    ("init", "Initialize a swarm"),
    ("join", "Join a swarm as a node and/or manager"),
    ("join-token", "Manage join tokens"),
    ("leave", "Leave the swarm"),
)
_IMAGE_VERBS = (
    ("images", "ls", "List images"),
    ("load", "load", "Load an image from a tar archive or STDIN"),
    ("pull", "pull", "Download an image from a registry, for the whole swarm"),
    ("rmi", "rm", "Remove one or more images"),
    ("save", "save", "Save one or more images to a tar archive"),
    ("tag", "tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
)
_CONTAINER_VERBS = (
    ("run", "Create and run a new container from an image, on a node with room"),
    ("ps", "List containers made by run"),
    ("logs", "Fetch the logs of a container"),
    ("stop", "Stop running containers"),
    ("rm", "Remove containers"),
    ("inspect", "Return low-level information on containers made by run"),
)
_LAZY = (
    LazyCommand("swarm", "swarm.cli.swarm:swarm", "Manage Swarm"),
    LazyCommand("node", "swarm.cli.node:node", "Manage Swarm nodes"),
    LazyCommand("service", "swarm.cli.service:service", "Manage Swarm services"),
    LazyCommand("stack", "swarm.cli.stack:stack", "Manage Swarm stacks"),
    LazyCommand("compose", "swarm.cli.compose:compose", "Run compose files on the swarm"),
    LazyCommand("task", "swarm.cli.task:task", "Manage Swarm tasks"),
    LazyCommand("secret", "swarm.cli.secret:secret", "Manage Swarm secrets"),
    LazyCommand("config", "swarm.cli.config:config", "Manage Swarm configs"),
    LazyCommand(
        "events", "swarm.cli.events:events", "Get real time events from the swarm", is_group=False
    ),
    LazyCommand("explain", "swarm.cli.explain:explain", "Say why things are as they are"),
    LazyCommand("history", "swarm.cli.history:history", "Show who changed what, and when"),
    LazyCommand("image", "swarm.cli.image:image", "Manage images"),
    LazyCommand("cert", "swarm.cli.cert:cert", "Manage administrators' certificates"),
    LazyCommand("cluster", "swarm.cli.cluster:cluster", "Back up and restore the swarm's state"),
    LazyCommand("local", "swarm.cli.local:local", "Manage a cluster on this machine"),
    *(
        LazyCommand(name, f"swarm.cli.swarm:{name.replace('-', '_')}", about, is_group=False)
        for name, about in _VERBS
    ),
    *(
        LazyCommand(verb, f"swarm.cli.image:{command}", about, is_group=False)
        for verb, command, about in _IMAGE_VERBS
    ),
    LazyCommand(
        "completion",
        "swarm.cli.completion:completion",
        "Generate the autocompletion script for a shell",
        is_group=False,
    ),
    LazyCommand(
        "diagnose",
        "swarm.cli.diagnose:diagnose",
        "Write what a bug report needs to a tar.gz, with no secret in it",
        is_group=False,
    ),
    LazyCommand(
        "build", "swarm.cli.build:build", "Build an image from a Dockerfile", is_group=False
    ),
    *(
        LazyCommand(verb, f"swarm.cli.container:{verb}", about, is_group=False)
        for verb, about in _CONTAINER_VERBS
    ),
    LazyCommand("login", "swarm.cli.login:login", "Authenticate to a registry", is_group=False),
    LazyCommand("logout", "swarm.cli.login:logout", "Log out from a registry", is_group=False),
    LazyCommand("info", "swarm.cli.system:info", "Display system-wide information", is_group=False),
    LazyCommand(
        "version", "swarm.cli.system:version", "Show the Swarm version information", is_group=False
    ),
)
_DOCKER_VERBS = (
    "attach", "builder", "buildx", "checkpoint", "commit",
    "container", "context", "cp", "create", "diff", "exec", "export",
    "import", "kill",
    "manifest", "network", "pause", "plugin", "port", "push", "rename",
    "restart", "search", "start", "stats",
    "system", "top", "trust", "unpause", "update", "volume", "wait",
)  # fmt: skip
_DOCKER_FLAGS = (
    "--config=value",
    "--context=value",
    "-c=value",
    "--debug",
    "-D",
    "--log-level=value",
    "-l=value",
)


@click.group(
    cls=DockerGroup,
    name="swarmctl",
    help="A cluster of machines that run services, as Docker Swarm has it",
    lazy=_LAZY,
    unsupported=(*_DOCKER_VERBS, *_DOCKER_FLAGS),
    invoke_without_command=True,
)
@click.option(
    "--host",
    "-H",
    type=LIST,
    multiple=True,
    help="Addresses of managers to try in turn: unix://PATH or HOST:PORT, separated by commas "
    "(overrides SWARM_HOST)",
)
@docker_bool_option("--tls", help="Use TLS; managers are always spoken to by it", default=True)
@click.option("--tlscacert", type=STRING, help="Trust certs signed only by this CA")
@click.option("--tlscert", type=STRING, help="Path to TLS certificate file")
@click.option("--tlskey", type=STRING, help="Path to TLS key file")
@docker_bool_option("--tlsverify", help="Use TLS and verify the remote; it always is", default=True)
@docker_bool_option("--version", "-v", help="Print version information and quit")
@click.pass_context
def cli(
    ctx: click.Context,
    host: tuple[str, ...],
    tls: bool,
    tlscacert: str | None,
    tlscert: str | None,
    tlskey: str | None,
    tlsverify: bool,
    version: bool,
) -> None:
    if version:
        from swarm.cli.system import program_version

        click.echo(f"swarmctl version {program_version()}")
        return
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        return
    if not (tls and tlsverify):
        raise CliError("managers are spoken to by mutual TLS only: it can't be switched off", 125)
    session = Session(
        host, {CA_FILE: tlscacert or "", CERT_FILE: tlscert or "", KEY_FILE: tlskey or ""}
    )
    ctx.obj = session
    ctx.call_on_close(session.close)


def translate(error: Exception) -> CliError | None:
    """What libraries raise, in words for the user."""
    if isinstance(error, OSError) and error.filename is not None:
        return CliError(f"{error.filename}: {error.strerror}")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return CliError("cannot write the output: no space left on its disk")
    return None


def main(argv: Sequence[str] | None = None) -> int:
    return run(cli, argv, translate=translate)
