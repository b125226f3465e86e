"""swarmd: a node's daemon."""

import asyncio
import faulthandler
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarm.node import config as settings
from swarm.node.config import ConfigError, NodeConfig
from swarm.node.reload import take_over
from swarm.node.systemd import Supervisor
from swarm.priority import prefer_this_process

if TYPE_CHECKING:
    from swarm.node.node import Node

log = logging.getLogger(__name__)

_EXIT_USAGE = 125
"""A setting that is unknown or has a bad value, as with swarmctl."""


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", metavar="FILE", help="TOML file with these settings")
@click.option("--state-dir", metavar="DIR", help="where this node keeps its state")
@click.option("--socket", metavar="PATH", help="unix socket for swarmctl")
@click.option("--group", metavar="NAME", help="group whose members may use the socket")
@click.option("--listen-addr", metavar="ADDR", help="HOST[:PORT] to listen on (0.0.0.0:2377)")
@click.option("--advertise-addr", metavar="ADDR", help="address or interface others reach it at")
@click.option("--hostname", metavar="NAME", help="this node's name (the machine's)")
@click.option(
    "--runtime", metavar="NAME", help="auto (the best that works), docker, oci or process"
)
@click.option("--label", multiple=True, metavar="K=V", help="engine label, for constraints")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error")
@click.option("--election-ticks", type=int, metavar="N", help="tenths of a second (7)")
@click.option("--heartbeat-ticks", type=int, metavar="N", help="tenths of a second (1)")
@click.option("--cpus", type=float, metavar="N", help="CPUs to report instead of the machine's")
@click.option("--memory-bytes", type=int, metavar="N", help="memory to report instead")
@click.option(
    "--node-generic-resource",
    multiple=True,
    metavar="KIND=VALUE",
    help="generic resource to report: KIND=COUNT, or KIND=NAME for each distinct one",
)
@click.version_option(package_name="swarm", prog_name="swarmd")
@click.pass_context
def command(ctx: click.Context, **flags: Any) -> None:
    """Run this machine's part of a swarm: manager, worker, or both.

    SIGTERM hands leadership over, where this manager leads, and ends swarmd; tasks go on. SIGHUP
    reads the configuration again: labels, log level and reported resources may change.
    """
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    try:
        config = settings.load(given, os.environ)
    except ConfigError as error:
        sys.exit(_ended(str(error), _EXIT_USAGE))
    except OSError as error:
        sys.exit(_ended(_in_words(error)))
    if ctx.invoked_subcommand is None:
        _serve(config, given)
    ctx.obj = config


@command.command()
@click.pass_obj
def check(config: NodeConfig) -> None:
    """Say what this machine lacks for a swarm, and what to do; exit code 1 for what it needs."""
    from swarm.node.check import report

    text, is_fit = report(config)
    click.echo(text)
    sys.exit(0 if is_fit else 1)


def _serve(config: NodeConfig, given: Mapping[str, Any]) -> None:
    """`given`: the flags, which outlive a reading of the configuration file anew."""
    supervisor = Supervisor(os.environ)
    try:
        lock = _lock(config.state_dir)
    except (StateFolderTaken, OSError) as error:
        sys.exit(_ended(_in_words(error) if isinstance(error, OSError) else str(error)))
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    # A call's error is logged where it is answered (`api/interceptor.py`); gRPC's traceback of an
    # answer that nobody was left to hear is of no use to anybody.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    prefer_this_process()
    with lock:
        sys.exit(asyncio.run(_run(config, given, supervisor)))


async def _run(config: NodeConfig, given: Mapping[str, Any], supervisor: Supervisor) -> int:
    # gRPC's own log lines are for its developers, except for the one with which it ends this
    # process. Set before its import, which is here so that a wrong flag is answered at once.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from swarm.disk import CorruptFileError, FatalDiskError, NoSpaceError
    from swarm.manager.api.authorization import check_certificates, refuse_nobody
    from swarm.manager.api.interceptor import Interceptor
    from swarm.node.addresses import AddressError
    from swarm.node.daemon_api import ControlOnSocket, DaemonApi
    from swarm.node.listeners import ListenError, serve_socket
    from swarm.node.local_socket import LocalSocket
    from swarm.node.node import Node
    from swarm.node.state import StateError
    from swarm.security.errors import SecurityError
    from swarm.security.tls import local_server_credentials

    stop = asyncio.Event()

    def told_to_end(number: signal.Signals) -> None:
        log.info("%s: swarmd ends", number.name)
        supervisor.stopping()
        stop.set()

    def told_to_read_settings() -> None:
        if node is not None and not stop.is_set():
            with supervisor.reloading():
                _read_settings(node, given)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_end, number)
    loop.add_signal_handler(signal.SIGHUP, told_to_read_settings)
    node, server = None, None
    front = LocalSocket(config.socket, config.state_dir / "socket", config.group)
    try:
        front.check()
        node = Node(config)
        node.daemon_api = DaemonApi(node)
        await node.start()
        interceptor = Interceptor(check_certificates(lambda: "", refuse_nobody))
        server = await serve_socket(
            front.behind,
            local_server_credentials(),
            interceptor,
            node.daemon_api,
            ControlOnSocket(node),
        )
        await front.start()
        log.info("swarmd is ready on %s", config.socket)
        if not stop.is_set():
            supervisor.ready(f"answers on {config.socket}")
        await stop.wait()
    except (
        AddressError,
        CorruptFileError,
        FatalDiskError,
        ListenError,
        NoSpaceError,
        SecurityError,
        StateError,
    ) as error:
        return _ended(str(error))
    except OSError as error:
        return _ended(_in_words(error))
    finally:
        # The node first: another manager is to lead before anybody waits for one.
        if node is not None:
            await node.stop()
        await front.stop()
        if server is not None:
            await server.stop(0)
        supervisor.close()
    return 0


def _read_settings(node: "Node", given: Mapping[str, Any]) -> None:
    """What can't be used changes nothing."""
    try:
        reloaded = take_over(node.config, settings.load(given, os.environ))
    except (ConfigError, OSError) as error:
        reason = _in_words(error) if isinstance(error, OSError) else str(error)
        log.error("SIGHUP: the settings stay as they are: %s", reason)
        return
    logging.getLogger().setLevel(reloaded.config.log_level.upper())
    node.take_over(reloaded.config)
    log.info("SIGHUP: changed settings: %s", ", ".join(reloaded.changed) or "none")
    if reloaded.needs_restart:
        names = ", ".join(reloaded.needs_restart)
        log.warning("SIGHUP: taken over only when swarmd is started again: %s", names)


def _ended(reason: str, exit_code: int = 1) -> int:
    print(f"swarmd: {reason}", file=sys.stderr)  # noqa: T201
    return exit_code


def _in_words(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


class StateFolderTaken(Exception):  # noqa: N818 - an outcome, not a fault
    """Another daemon has it, or it is no folder."""


def _lock(folder: Path) -> Any:
    """One daemon per state folder. Raises StateFolderTaken, OSError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StateFolderTaken(f"{folder} is no folder: give another --state-dir") from None
    handle = (folder / "lock").open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise StateFolderTaken(
            f"another swarmd runs on {folder}: stop it, or give this one its own --state-dir"
        ) from None
    return handle


def main() -> None:
    faulthandler.enable()  # what ends Python itself (a segmentation fault) leaves a word, too
    try:
        sys.exit(command.main(prog_name="swarmd", standalone_mode=False))
    except click.UsageError as error:
        reason = error.format_message().rstrip(".")
        sys.exit(_ended(f"{reason[:1].lower()}{reason[1:]}; see 'swarmd --help'", _EXIT_USAGE))
    except click.Abort:
        sys.exit(130)


if __name__ == "__main__":
    main()
