"""`swarmctl local`: a cluster on this machine, to try things on and to break."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from swarm.cli.command import DockerGroup
from swarm.cli.errors import CliError
from swarm.cli.flags import STRING, UINT, docker_bool_option, format_option, metavar, quiet_option
from swarm.cli.tables import Column, print_list
from swarm.local import cluster as clusters
from swarm.local import partition, record
from swarm.local.errors import LocalError
from swarm.local.record import LocalCluster
from swarm.worker.runtime.port import RuntimeFailed

Function = TypeVar("Function", bound=Callable[..., Any])

_COLUMNS = (
    Column("Name", "NAME"),
    Column("Role", "ROLE"),
    Column("Leader", "LEADER"),
    Column("Address", "ADDRESS"),
    Column("PID", "PID"),
    Column("State", "STATE"),
    Column("Socket", "SOCKET", default=False),
    Column("StateDir", "STATE DIR", default=False),
)


@click.group("local", cls=DockerGroup, help="Manage a cluster on this machine")
def local() -> None: ...


def dir_option() -> Callable[[Function], Function]:
    return click.option(
        "--dir",
        "folder",
        type=metavar("DIR"),
        help="The cluster's folder (default $SWARM_LOCAL_DIR, or a folder in ~/.local/state)",
    )


@local.command("up", help="Start a cluster, a process a node, and wait until it is ready")
@click.option("--managers", type=UINT, default="3", help="Number of managers")
@click.option("--workers", type=UINT, default="2", help="Number of workers")
@click.option("--runtime", type=STRING, default="auto", help='"auto", "docker", "oci", "process"')
@dir_option()
def up(managers: int, workers: int, runtime: str, folder: str | None) -> None:
    if managers < 1:
        raise CliError("a cluster needs at least one manager: give --managers 1 or more")
    with _in_words(), _ended_in_order():
        made = clusters.up(_folder(folder), managers, workers, runtime, click.echo)
    click.echo(f"The cluster is ready: {len(made.nodes)} nodes, runtime {made.runtime}")
    option = f" --dir {shlex.quote(folder)}" if folder else ""
    click.echo(f'To talk to it: eval "$(swarmctl local env{option})"')
    click.echo(f"To remove it:  swarmctl local down{option}")


@local.command("down", aliases=("rm",), help="Remove the cluster: nothing of it is left")
@dir_option()
def down(folder: str | None) -> None:
    with _in_words(), _ended_in_order():
        clusters.down(_folder(folder))


@local.command("ps", aliases=("ls",), help="List the cluster's nodes and their processes")
@format_option()
@quiet_option("Only display names")
@dir_option()
def ps(format: str | None, quiet: bool, folder: str | None) -> None:  # noqa: A002
    with _in_words():
        states = clusters.states(_load(folder))
    rows = [
        {
            "Name": state.node.name,
            "Role": state.node.role,
            "Leader": "Leader" if state.leader else "",
            "Address": state.node.host,
            "PID": str(state.pid or ""),
            "State": state.state,
            "Socket": str(state.node.socket),
            "StateDir": str(state.node.state_dir),
        }
        for state in states
    ]
    print_list(rows, _COLUMNS, format=format, quiet=quiet, quiet_field="Name")


@local.command("env", help="Print what makes a shell's swarmctl talk to the cluster")
@dir_option()
def env(folder: str | None) -> None:
    with _in_words():
        hosts = ",".join(_load(folder).hosts)
    click.echo(f"export SWARM_HOST={shlex.quote(hosts)}")
    option = f" --dir {shlex.quote(folder)}" if folder else ""
    click.echo(f'# Run this: eval "$(swarmctl local env{option})"')


@local.command(
    "kill",
    usage="[OPTIONS] NODE [NODE...]",
    help="Cut a node's power: its daemon and its tasks die at once",
)
@docker_bool_option("--daemon-only", help="Leave the tasks running")
@docker_bool_option("--all", help="All nodes")
@dir_option()
@click.argument("nodes", nargs=-1)
def kill(nodes: tuple[str, ...], daemon_only: bool, all: bool, folder: str | None) -> None:  # noqa: A002
    def act(cluster: LocalCluster, names: list[str]) -> None:
        clusters.kill(cluster, names, daemon_only=daemon_only)

    _on_nodes(act, nodes, folder, every=all, running=True)


@local.command(
    "start",
    usage="[OPTIONS] NODE [NODE...]",
    help="Start nodes that were killed, and wait for them",
)
@docker_bool_option("--all", help="All nodes")
@dir_option()
@click.argument("nodes", nargs=-1)
def start(nodes: tuple[str, ...], all: bool, folder: str | None) -> None:  # noqa: A002
    _on_nodes(clusters.start, nodes, folder, every=all)


@local.command(
    "pause",
    usage="[OPTIONS] NODE [NODE...]",
    help="Stop a node's daemon where it is (SIGSTOP); its tasks go on",
)
@dir_option()
@click.argument("nodes", nargs=-1, required=True)
def pause(nodes: tuple[str, ...], folder: str | None) -> None:
    _on_nodes(clusters.pause, nodes, folder)


@local.command(
    "unpause", usage="[OPTIONS] NODE [NODE...]", help="Let a paused node go on (SIGCONT)"
)
@dir_option()
@click.argument("nodes", nargs=-1, required=True)
def unpause(nodes: tuple[str, ...], folder: str | None) -> None:
    _on_nodes(clusters.unpause, nodes, folder)


@local.command(
    "partition",
    usage="[OPTIONS] NODE [NODE...]",
    help="Drop all packets between these nodes, as one group, and the others (needs root and nft)",
)
@dir_option()
@click.argument("nodes", nargs=-1, required=True)
def cut(nodes: tuple[str, ...], folder: str | None) -> None:
    _on_nodes(partition.cut, nodes, folder)


@local.command("heal", help="End the partition")
@dir_option()
def heal(folder: str | None) -> None:
    with _in_words():
        cluster = _load(folder)
        with record.locked(cluster.folder):
            partition.heal(cluster)


@local.group("demo", cls=DockerGroup, help="Show what a cluster does, told step by step")
def demo() -> None: ...


@demo.command("failover", help="Lose the leader, then a worker, while clients write")
@click.option("--runtime", type=STRING, default="auto", help='"auto", "docker", "oci", "process"')
@dir_option()
def failover(runtime: str, folder: str | None) -> None:
    from swarm.local.demonstration import run

    with _in_words(), _ended_in_order():
        run(_folder(folder), runtime, click.echo)


def _on_nodes(
    act: Callable[[LocalCluster, list[str]], list[str] | None],
    nodes: tuple[str, ...],
    folder: str | None,
    *,
    every: bool = False,
    running: bool = False,
) -> None:
    """Print the name of each node that it was done to, as Docker does."""
    if every == bool(nodes):
        raise CliError("name the nodes, or give --all")
    with _in_words():
        cluster = _load(folder)
        with record.locked(cluster.folder):
            names = list(dict.fromkeys(nodes)) or _all_names(cluster, running=running)
            done = act(cluster, names)
    for name in names if done is None else done:
        click.echo(name)


def _all_names(cluster: LocalCluster, *, running: bool) -> list[str]:
    from swarm.local import processes

    return [
        node.name for node in cluster.nodes if not running or processes.daemon(node) is not None
    ]


def _load(folder: str | None) -> LocalCluster:
    return record.load(_folder(folder))


def _folder(folder: str | None) -> Path:
    return Path(os.path.abspath(folder)) if folder else clusters.default_folder()  # noqa: PTH100


class _in_words:  # noqa: N801 - reads as a statement where it is used
    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, (LocalError, RuntimeFailed)):
            raise CliError(str(error)) from error


class _ended_in_order:  # noqa: N801
    """SIGTERM is like Ctrl-C: what was begun is taken back."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, _interrupt)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
