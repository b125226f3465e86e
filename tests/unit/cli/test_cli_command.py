"""Commands built on the layer, run as a user does: what they print, and the exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import click
import pytest

from swarm.cli import flags
from swarm.cli.command import DockerGroup, LazyCommand, changed
from swarm.cli.errors import CliError
from swarm.cli.run import Translate, run

SEEN: list[dict[str, Any]] = []


@click.group(
    cls=DockerGroup,
    help="A cluster",
    lazy=(LazyCommand("config", "no.such.module:config", "Manage configs", aliases=("configs",)),),
)
@click.option("--host", "-H", type=flags.STRING, help="Where the manager is")
def root(host: str | None) -> None:
    SEEN.append({"host": host})


@root.group("service", help="Manage Swarm services", unsupported=("logs", "--context=value"))
def service() -> None:
    pass


@service.command("ls", aliases=("list",), help="List services")
@flags.format_option()
@flags.filter_option()
@flags.quiet_option()
@flags.no_trunc_option()
def ls(**options: Any) -> None:
    SEEN.append(options)


@service.command(
    "create",
    usage="[OPTIONS] IMAGE [COMMAND] [ARG...]",
    trailing_command=True,
    unsupported=("--isolation=value",),
    help="Create a new service",
)
@click.option("--name", type=flags.STRING, help="Service name")
@click.option("--env", "-e", type=flags.LIST, multiple=True, help="Set environment variables")
@click.option("--mount", type=flags.metavar("mount"), multiple=True, help="Attach a mount")
@click.option("--replicas", type=flags.UINT, help="Number of tasks")
@click.option("--oom-score-adj", type=flags.INT, help="Tune the host")
@click.option("--ratio", type=flags.FLOAT, default=0.0, help="Failure rate")
@click.option("--delay", type=flags.DURATION, default="5s", help="Delay between updates")
@click.option("--limit-memory", type=flags.BYTES, help="Limit Memory")
@click.option("--limit-cpu", type=flags.DECIMAL, help="Limit CPUs")
@click.option("--mode", type=flags.STRING, default="vip", help="Endpoint mode")
@flags.docker_bool_option("--detach", "-d", help="Exit immediately instead of waiting for the end")
@flags.docker_bool_option("--init", default=None, help="Use an init")
@click.argument("image")
@click.argument("command", nargs=-1)
@click.pass_context
def create(ctx: click.Context, **options: Any) -> None:
    SEEN.append(options | {"changed": [name for name in options if changed(ctx, name)]})


@service.command("scale", help="Scale a service")
@click.argument("services", nargs=-1, required=True, metavar="SERVICE=REPLICAS...")
def scale(services: tuple[str, ...]) -> None:
    raise {"cli": CliError("no such service: web"), "code": CliError("bad", 7)}.get(
        services[0], RuntimeError("two\nlines")
    )


@service.command("rollback", help="Revert changes")
@click.argument("service")
def rollback(service: str) -> int:
    if service == "interrupt":
        raise KeyboardInterrupt
    return 3


def call(*argv: str, translate: Translate | None = None) -> int:
    SEEN.clear()
    return run(root, argv, translate=translate)


def seen() -> dict[str, Any]:
    return SEEN[-1]


def test_values_of_flags() -> None:
    line = "service create --name=-x -ea=b -e c=d --replicas 3 --delay 1m30s --limit-memory 512m"
    line += " --limit-cpu 0.5 --ratio .5 --oom-score-adj -5 --init=false -d image"
    assert call(*line.split()) == 0
    got = seen()
    assert got["name"] == "-x"
    assert got["env"] == ("a=b", "c=d")
    assert (got["replicas"], got["delay"], got["limit_memory"]) == (3, 90 * 10**9, 512 << 20)
    assert (got["limit_cpu"], got["ratio"], got["oom_score_adj"]) == (500_000_000, 0.5, -5)
    assert (got["init"], got["detach"]) == (False, True)
    assert set(got["changed"]) >= {"name", "env", "init", "detach"}
    assert "mode" not in got["changed"]


def test_defaults() -> None:
    assert call("service", "create", "image") == 0
    got = seen()
    assert (got["name"], got["env"], got["init"], got["detach"]) == (None, (), None, False)
    assert (got["delay"], got["mode"]) == (5 * 10**9, "vip")


def test_flags_after_the_image_belong_to_the_container() -> None:
    assert call("service", "create", "--name", "x", "image", "sh", "-c", "a -b", "--name", "z") == 0
    assert seen()["command"] == ("sh", "-c", "a -b", "--name", "z")
    assert seen()["name"] == "x"


def test_aliases_and_global_options() -> None:
    assert call("-H", "tcp://a", "service", "list", "-qf", "a=b", "--no-trunc", "-f=c=d") == 0
    assert SEEN[0] == {"host": "tcp://a"}
    got = seen()
    assert (got["filter"], got["quiet"], got["no_trunc"]) == (("a=b", "c=d"), True, True)


CREATE_HINT = """
Usage:  swarmctl service create [OPTIONS] IMAGE [COMMAND] [ARG...]

Run 'swarmctl service create --help' for more information
"""
LS_HINT = """
Usage:  swarmctl service ls [OPTIONS]

Run 'swarmctl service ls --help' for more information
"""


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("service create --foo", 125, f"unknown flag: --foo\n{CREATE_HINT}"),
        ("service create --name", 125, f"flag needs an argument: --name\n{CREATE_HINT}"),
        (
            "service create --replicas x a",
            125,
            (
                'invalid argument "x" for "--replicas" flag: strconv.ParseUint: parsing "x": '
                f"invalid syntax\n{CREATE_HINT}"
            ),
        ),
        (
            "service create --replicas 99999999999999999999999 a",
            125,
            (
                'invalid argument "99999999999999999999999" for "--replicas" flag: '
                'strconv.ParseUint: parsing "99999999999999999999999": value out of range\n'
                f"{CREATE_HINT}"
            ),
        ),
        (
            "service create -d=x a",
            125,
            (
                'invalid argument "x" for "-d, --detach" flag: strconv.ParseBool: parsing "x": '
                f"invalid syntax\n{CREATE_HINT}"
            ),
        ),
        (
            "service create --delay 1d a",
            125,
            (
                'invalid argument "1d" for "--delay" flag: time: unknown unit "d" in duration '
                f'"1d"\n{CREATE_HINT}'
            ),
        ),
        (
            "service create",
            1,
            f"swarmctl: 'swarmctl service create' requires at least 1 argument\n{CREATE_HINT}",
        ),
        ("service ls x", 1, f"swarmctl: 'swarmctl service ls' accepts no arguments\n{LS_HINT}"),
        ("service create --isolation=x a", 125, "--isolation is not supported yet\n"),
        ("service --context a ls", 125, "--context is not supported yet\n"),
        ("service logs x", 125, "'swarmctl service logs' is not supported yet\n"),
        (
            "service foo",
            1,
            (
                "swarmctl: unknown command: swarmctl service foo\n\n"
                "Usage:  swarmctl service COMMAND\n\n"
                "Run 'swarmctl service --help' for more information\n"
            ),
        ),
        ("service scale cli", 1, "no such service: web\n"),
        ("service scale code", 7, "bad\n"),
        ("service scale crash", 1, "swarmctl: RuntimeError: two lines\n"),
    ],
)
def test_errors(line: str, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*line.split()) == code
    captured = capsys.readouterr()
    assert captured.err == message
    assert captured.out == ""


def test_the_number_of_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("service", "rollback", "a", "b") == 1
    assert "'swarmctl service rollback' requires 1 argument\n" in capsys.readouterr().err


def test_exit_codes_of_commands() -> None:
    assert call("service", "rollback", "a") == 3
    assert call("service", "rollback", "interrupt") == 130


def test_errors_of_libraries_are_translated(capsys: pytest.CaptureFixture[str]) -> None:
    def translate(error: Exception) -> CliError | None:
        return CliError("the manager is gone", 9) if isinstance(error, RuntimeError) else None

    assert call("service", "scale", "crash", translate=translate) == 9
    assert capsys.readouterr().err == "the manager is gone\n"


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("service", "create", "--help") == 0
    assert capsys.readouterr().out == COMMAND_HELP


COMMAND_HELP = """\
Usage:  swarmctl service create [OPTIONS] IMAGE [COMMAND] [ARG...]

Create a new service

Options:
      --delay duration       Delay between updates (default 5s)
  -d, --detach               Exit immediately instead of waiting for the end
  -e, --env list             Set environment variables
      --init                 Use an init
      --limit-cpu decimal    Limit CPUs
      --limit-memory bytes   Limit Memory
      --mode string          Endpoint mode (default "vip")
      --mount mount          Attach a mount
      --name string          Service name
      --oom-score-adj int    Tune the host
      --ratio float          Failure rate
      --replicas uint        Number of tasks
"""

GROUP_HELP = """\
Usage:  swarmctl service COMMAND

Manage Swarm services

Commands:
  create      Create a new service
  ls          List services
  rollback    Revert changes
  scale       Scale a service

Run 'swarmctl service COMMAND --help' for more information on a command.
"""

ROOT_HELP = """\
Usage:  swarmctl [OPTIONS] COMMAND

A cluster

Management Commands:
  config      Manage configs
  service     Manage Swarm services

Global Options:
  -H, --host string   Where the manager is

Run 'swarmctl COMMAND --help' for more information on a command.
"""


def test_help_of_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("service", "--help") == 0
    assert capsys.readouterr().out == GROUP_HELP
    assert call("-h") == 0
    assert capsys.readouterr().out == ROOT_HELP


def test_a_group_alone_prints_its_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("service") == 0
    assert capsys.readouterr() == ("", GROUP_HELP)
    assert call() == 0
    assert capsys.readouterr() == ("", ROOT_HELP)


def test_help_shows_aliases_and_hides_what_is_unsupported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("service", "ls", "--help") == 0
    text = capsys.readouterr().out
    assert "Aliases:\n  swarmctl service ls, swarmctl service list\n" in text
    assert all(len(line) < 80 for line in text.splitlines())
    assert call("service", "create", "--help") == 0
    assert "isolation" not in capsys.readouterr().out


def test_lazy_commands_are_imported_when_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("configs", "ls") == 1
    assert "No module named 'no'" in capsys.readouterr().err


def test_filters() -> None:
    assert flags.parse_filters(("name=web", "name=db", "mode="), ("name", "mode")) == {
        "name": ["web", "db"],
        "mode": [""],
    }
    with pytest.raises(CliError, match="invalid filter 'x': choose from mode, name"):
        flags.parse_filters(("x=1",), ("name", "mode"))
    with pytest.raises(CliError, match="bad format of filter") as caught:
        flags.parse_filters(("web",), ("name",))
    assert caught.value.exit_code == 125


def test_a_closed_pipe_ends_quietly() -> None:
    program = (
        "import click, sys\n"
        "from swarm.cli.command import DockerCommand\n"
        "from swarm.cli.run import run\n"
        "@click.command(cls=DockerCommand)\n"
        "def many():\n"
        "    for _ in range(100000): print('line')\n"
        "sys.exit(run(many, []))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 1


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        (">/dev/full", 1, "cannot write the output: no space left on its disk\n"),
        ("<&-", 0, ""),
    ],
)
def test_output_that_nobody_takes(redirection: str, code: int, said: str) -> None:
    line = f"{sys.executable} -m swarm.cli --help {redirection}"
    done = subprocess.run(
        ["sh", "-c", line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (code, said)


def test_ctrl_c_while_python_loads_ends_it_without_a_word() -> None:
    program = (
        "import os, signal, sys\n"
        "import swarm.cli.__main__ as swarmctl\n"
        "if sys.argv[1:]: os.kill(os.getpid(), signal.SIGINT)\n"
        "code = swarmctl.main(['--version'])\n"
        "sys.exit(code or signal.getsignal(signal.SIGINT) is not signal.default_int_handler)\n"
    )

    def run_it(*words: str) -> tuple[int, bytes]:
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(command, capture_output=True, check=False)
        return done.returncode, done.stderr

    assert run_it() == (0, b"")
    assert run_it("interrupted") == (-signal.SIGINT, b"")


def test_help_is_a_verb_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    from swarm.cli.main import main

    texts: list[str] = []
    for words in (["--help"], ["help"], ["node", "ls", "--help"], ["help", "node", "ls"]):
        assert main(words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert main(["help", "nosuch"]) == 1
    assert "unknown command: swarmctl nosuch" in capsys.readouterr().err


def test_the_layer_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "import swarm.cli.command, swarm.cli.run, swarm.cli.tables, swarm.cli.output\n"
        "import swarm.cli.progress\n"
        "print([m for m in ('grpc', 'rich', 'google.protobuf', 'asyncio') if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert result.stdout == b"[]\n"
