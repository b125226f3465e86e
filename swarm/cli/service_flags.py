"""The flags of `service create` and `service update`, as docker/cli declares them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from swarm.cli.fileflag import parse_config, parse_secret
from swarm.cli.flags import (
    BYTES,
    DECIMAL,
    DURATION,
    FLOAT,
    INT,
    LIST,
    STRING,
    UINT,
    Value,
    docker_bool_option,
)
from swarm.cli.mountflag import parse_mount
from swarm.cli.portflag import parse_publish
from swarm.cli.specvalues import (
    parse_address,
    parse_capability,
    parse_command,
    parse_domain,
    parse_env,
    parse_host,
    parse_host_name,
    parse_label,
    parse_spread,
    parse_ulimit,
)
from swarm.generic_resources import parse_reservation
from swarm.units import NS_PER_SECOND, parse_bytes, parse_duration

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def _positive_duration(text: str) -> int:
    duration_ns = parse_duration(text)
    if duration_ns < 0:
        raise ValueError("duration cannot be negative")
    return duration_ns


def _revision(text: str) -> int:
    number = UINT.convert(text, None, None)
    if not number:
        raise ValueError("revisions are counted from 1")
    return number


POSITIVE_DURATION = Value("duration", _positive_duration)
COMMAND = Value("command", parse_command)
ENV = Value("list", parse_env)
LABEL = Value("list", parse_label)
MOUNT = Value("mount", parse_mount)
PORT = Value("port", parse_publish)
SPREAD = Value("pref", parse_spread)
GENERIC = Value("list", parse_reservation)
ULIMIT = Value("ulimit", parse_ulimit)
HOST = Value("list", parse_host)
HOST_NAME = Value("list", parse_host_name)
ADDRESS = Value("list", parse_address)
DOMAIN = Value("list", parse_domain)
CONFIG = Value("config", parse_config)
SECRET = Value("secret", parse_secret)
REVISION = Value("uint", _revision)
CAPABILITY = Value("list", parse_capability)

_DURATION_UNITS = "(ns|us|ms|s|m|h)"
_CHECK_UNITS = "(ms|s|m|h)"
_START_PERIOD = (
    "Start period for the container to initialize before counting retries towards unstable"
)

UNSUPPORTED_IN_BOTH = (
    "--credential-spec=value",
    "--isolation=value",
)


def flag(*names: str, kind: Value, about: str) -> Decorator:
    """A flag that is None unless it is typed."""
    return click.option(*names, type=kind, help=about)


def list_flag(*names: str, kind: Value, about: str) -> Decorator:
    """A flag that may be given again and again."""
    return click.option(*names, type=kind, multiple=True, help=about)


def switch(*names: str, about: str) -> Decorator:
    """A bool that is None unless it is typed."""
    return docker_bool_option(*names, help=about, default=None)


def waiting_flags(command: Command) -> Command:
    """--detach, --quiet and --wait-timeout."""
    return apply_all(
        command,
        docker_bool_option(
            "--detach",
            "-d",
            help="Exit immediately instead of waiting for the service to converge",
        ),
        docker_bool_option("--quiet", "-q", help="Suppress progress output"),
        wait_timeout_flag(),
    )


def wait_timeout_flag() -> Decorator:
    return flag(
        "--wait-timeout",
        kind=POSITIVE_DURATION,
        about="Give up waiting after this long, the service goes on (default 5m without a "
        "terminal, never with one)",
    )


def seconds(duration_ns: int | None) -> float | None:
    """What --wait-timeout says, for those who wait."""
    return None if duration_ns is None else duration_ns / NS_PER_SECOND


def apply_all(command: Command, *decorators: Decorator) -> Command:
    for decorate in decorators:
        command = decorate(command)
    return command


def common_flags(defaults: bool) -> Decorator:
    """Flags that `create` and `update` share. `defaults`: help names the values that a new
    service gets."""

    def with_default(about: str, default: str) -> str:
        return f"{about} (default {default})" if defaults else about

    def decorate(command: Command) -> Command:
        command = apply_all(command, *_container_flags(with_default), *_health_flags())
        command = apply_all(command, *_task_flags(with_default))
        return apply_all(
            command,
            *_update_flags("update", "update", "updated", with_default),
            *_update_flags("rollback", "rollback", "rolled back", with_default),
        )

    return decorate


def _container_flags(with_default: Callable[[str, str], str]) -> tuple[Decorator, ...]:
    return (
        flag("--workdir", "-w", kind=STRING, about="Working directory inside the container"),
        flag(
            "--user", "-u", kind=STRING, about="Username or UID (format: <name|uid>[:<group|gid>])"
        ),
        flag("--hostname", kind=STRING, about="Container hostname"),
        flag("--entrypoint", kind=COMMAND, about="Overwrite the default ENTRYPOINT of the image"),
        list_flag("--cap-add", kind=CAPABILITY, about="Add Linux capabilities"),
        list_flag("--cap-drop", kind=CAPABILITY, about="Drop Linux capabilities"),
        switch(
            "--init",
            about="Use an init inside each service container to forward signals and reap processes",
        ),
        switch("--tty", "-t", about="Allocate a pseudo-TTY"),
        switch("--read-only", about="Mount the container's root filesystem as read only"),
        flag("--stop-signal", kind=STRING, about="Signal to stop the container"),
        flag(
            "--stop-grace-period",
            kind=DURATION,
            about=with_default(
                f"Time to wait before force killing a container {_DURATION_UNITS}", "10s"
            ),
        ),
        flag("--oom-score-adj", kind=INT, about="Tune host's OOM preferences (-1000 to 1000)"),
    )


def _health_flags() -> tuple[Decorator, ...]:
    durations = (
        ("interval", f"Time between running the check {_CHECK_UNITS}"),
        ("timeout", f"Maximum time to allow one check to run {_CHECK_UNITS}"),
        (
            "start-period",
            f"{_START_PERIOD} {_CHECK_UNITS}",
        ),
        (
            "start-interval",
            f"Time between running the check during the start period {_CHECK_UNITS}",
        ),
    )
    return (
        flag("--health-cmd", kind=STRING, about="Command to run to check health"),
        flag(
            "--health-retries",
            kind=UINT_AS_INT,
            about="Consecutive failures needed to report unhealthy",
        ),
        *(
            flag(f"--health-{name}", kind=POSITIVE_DURATION, about=about)
            for name, about in durations
        ),
        switch("--no-healthcheck", about="Disable any container-specified HEALTHCHECK"),
    )


def _swap(text: str) -> int:
    return -1 if text == "-1" else parse_bytes(text)


SWAP = Value("bytes", _swap)


def _small_count(text: str) -> int:
    number = INT.convert(text, None, None)
    if not 0 <= number < 2**32:
        raise ValueError("must be between 0 and 4294967295")
    return number


UINT_AS_INT = Value("int", _small_count)


def _task_flags(with_default: Callable[[str, str], str]) -> tuple[Decorator, ...]:
    return (
        flag("--replicas", kind=UINT, about="Number of tasks"),
        flag(
            "--max-concurrent",
            kind=UINT,
            about="Number of job tasks to run concurrently (default equal to --replicas)",
        ),
        flag(
            "--replicas-max-per-node",
            kind=UINT,
            about="Maximum number of tasks per node (default 0 = unlimited)",
        ),
        flag("--limit-cpu", kind=DECIMAL, about="Limit CPUs"),
        flag("--limit-memory", kind=BYTES, about="Limit Memory"),
        flag(
            "--limit-pids",
            kind=INT,
            about="Limit maximum number of processes (default 0 = unlimited)",
        ),
        flag("--memory-swap", kind=SWAP, about="Swap Bytes (-1 for unlimited)"),
        flag(
            "--memory-swappiness",
            kind=INT,
            about="Tune memory swappiness (0-100), -1 to reset to default",
        ),
        flag("--reserve-cpu", kind=DECIMAL, about="Reserve CPUs"),
        flag("--reserve-memory", kind=BYTES, about="Reserve Memory"),
        flag(
            "--restart-condition",
            kind=STRING,
            about=with_default(
                'Restart when condition is met ("none", "on-failure", "any")', '"any"'
            ),
        ),
        flag(
            "--restart-delay",
            kind=DURATION,
            about=with_default(f"Delay between restart attempts {_DURATION_UNITS}", "5s"),
        ),
        flag(
            "--restart-max-attempts",
            kind=UINT,
            about="Maximum number of restarts before giving up",
        ),
        flag(
            "--restart-window",
            kind=DURATION,
            about=f"Window used to evaluate the restart policy {_DURATION_UNITS}",
        ),
        flag(
            "--endpoint-mode",
            kind=STRING,
            about=with_default("Endpoint mode (vip or dnsrr)", '"vip"'),
        ),
        flag("--log-driver", kind=STRING, about="Logging driver for service"),
        list_flag("--log-opt", kind=LIST, about="Logging driver options"),
        docker_bool_option(
            "--no-resolve-image",
            help="Do not query the registry to resolve image digest and supported platforms",
        ),
        docker_bool_option(
            "--with-registry-auth", help="Send registry authentication details to swarm agents"
        ),
    )


def _update_flags(
    which: str, noun: str, done: str, with_default: Callable[[str, str], str]
) -> tuple[Decorator, ...]:
    rolls_back = which == "rollback"
    actions = '("pause", "continue")' if rolls_back else '("pause", "continue", "rollback")'
    plural = "task rollbacks" if rolls_back else "updates"
    during = "a rollback" if rolls_back else "an update"
    verb = "roll back" if rolls_back else "update"
    return (
        flag(
            f"--{which}-parallelism",
            kind=UINT,
            about=with_default(
                f"Maximum number of tasks {done} simultaneously (0 to {verb} all at once)", "1"
            ),
        ),
        flag(
            f"--{which}-delay",
            kind=DURATION,
            about=with_default(f"Delay between {plural} {_DURATION_UNITS}", "0s"),
        ),
        flag(
            f"--{which}-monitor",
            kind=DURATION,
            about=with_default(
                f"Duration after each task {noun} to monitor for failure {_DURATION_UNITS}", "5s"
            ),
        ),
        flag(
            f"--{which}-failure-action",
            kind=STRING,
            about=with_default(f"Action on {noun} failure {actions}", '"pause"'),
        ),
        flag(
            f"--{which}-max-failure-ratio",
            kind=FLOAT,
            about=with_default(f"Failure rate to tolerate during {during}", "0"),
        ),
        flag(
            f"--{which}-order",
            kind=STRING,
            about=with_default(
                f'{noun.capitalize()} order ("start-first", "stop-first")', '"stop-first"'
            ),
        ),
    )
