"""`swarmctl service logs`: lines of tasks anywhere, stdout and stderr kept apart."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.logs_pb2 import LOG_STREAM_STDERR, LogLine, LogOptions
from swarm.cli.client import Client, NotFoundError
from swarm.cli.command import DockerCommand
from swarm.cli.errors import CliError
from swarm.cli.flags import STRING, docker_bool_option, no_trunc_option
from swarm.cli.moment import fixed_nano, parse_moment
from swarm.cli.session import Session
from swarm.units import truncate_id


@dataclass(frozen=True)
class _Prefix:
    """How a line begins."""

    raw: bool
    timestamps: bool
    details: bool
    task_ids: bool
    no_trunc: bool
    no_resolve: bool


_FLAGS = (
    docker_bool_option("--details", help="Show extra details provided to logs"),
    docker_bool_option("--follow", "-f", help="Follow log output"),
    docker_bool_option("--no-resolve", help="Do not map IDs to Names in output"),
    docker_bool_option("--no-task-ids", help="Do not include task IDs in output"),
    no_trunc_option(),
    docker_bool_option("--raw", help="Do not neatly format logs"),
    click.option(
        "--since",
        type=STRING,
        help='Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for '
        "42 minutes)",
    ),
    click.option(
        "--until",
        type=STRING,
        help='Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" '
        "for 42 minutes)",
    ),
    click.option(
        "--tail",
        "-n",
        type=STRING,
        default="all",
        help="Number of lines to show from the end of the logs",
    ),
    docker_bool_option("--timestamps", "-t", help="Show timestamps"),
)


def log_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those of `service logs`, for other commands that show logs."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


@click.command(
    "logs",
    cls=DockerCommand,
    usage="[OPTIONS] SERVICE|TASK",
    help="Fetch the logs of a service or task",
)
@log_flags
@click.argument("reference", metavar="SERVICE|TASK")
@click.pass_obj
def logs(session: Session, reference: str, **flags: Any) -> None:
    print_logs(session.client, [reference], **flags)


def print_logs(
    client: Client,
    references: Sequence[str],
    *,
    details: bool,
    follow: bool,
    no_resolve: bool,
    no_task_ids: bool,
    no_trunc: bool,
    raw: bool,
    since: str | None,
    until: str | None,
    tail: str,
    timestamps: bool,
) -> None:
    """Lines of services and tasks as they come, until there are no more. Raises CliError."""
    options = LogOptions(
        follow=follow,
        tail=_tail(tail),
        since_ns=parse_moment("since", since, time.time_ns()),
        until_ns=parse_moment("until", until, time.time_ns()),
        stdout=True,
        stderr=True,
    )
    prefix = _Prefix(raw, timestamps, details, not no_task_ids, no_trunc, no_resolve)
    names = _Names(client, references, prefix)
    for answer in _answers(client, references, options):
        for line in answer.lines:
            stream = sys.stderr if line.stream == LOG_STREAM_STDERR else sys.stdout
            stream.buffer.write(names.prefix(line) + line.data + b"\n")
        sys.stdout.flush()
        sys.stderr.flush()
        for warning in answer.warnings:
            click.echo(f"warning: {warning}", err=True)


def _tail(text: str) -> int:
    """-1 for all. Raises CliError."""
    if text == "all" or not text:
        return -1
    if not (text.isascii() and text.isdigit()):
        raise CliError('tail value must be a positive integer or "all"')
    return int(text)


def _answers(
    client: Client, references: Sequence[str], options: LogOptions
) -> Iterator[pb.ServiceLogsResponse]:
    """As they come. Where a manager is lost the next one is asked for what is not here yet."""
    newest: dict[str, int] = {}
    seen: dict[str, int] = {}
    warned: dict[str, None] = {}
    warned_before: dict[str, None] = {}

    def request() -> pb.ServiceLogsRequest:
        seen.update(newest)
        warned_before.update(warned)
        if seen:
            options.since_ns = min(seen.values())
            options.tail = -1
        return pb.ServiceLogsRequest(references=references, options=options)

    for answer in client.follow(lambda stubs: stubs.control.ServiceLogs, request):
        fresh = [line for line in answer.lines if line.timestamp_ns > seen.get(line.task_id, -1)]
        newest.update((line.task_id, line.timestamp_ns) for line in fresh)
        warnings = [text for text in answer.warnings if text not in warned_before]
        warned.update(dict.fromkeys(warnings))
        yield pb.ServiceLogsResponse(lines=fresh, warnings=warnings)


@dataclass
class _Names:
    """Prefixes of lines, made once a task."""

    client: Client
    references: Sequence[str]
    options: _Prefix
    _width: int = 1
    _hostnames: Mapping[str, str] = field(default_factory=dict[str, str])
    _prefixes: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self._width = max(map(self._slot_width, self.references))
        if not (self.options.raw or self.options.no_resolve):
            nodes = self.client.ask(lambda s: s.control.ListNodes, pb.ListNodesRequest()).nodes
            self._hostnames = {v.node.id: v.node.description.hostname for v in nodes}

    def prefix(self, line: LogLine) -> bytes:
        text = f"{fixed_nano(line.timestamp_ns)} " if self.options.timestamps else ""
        if not self.options.raw:
            if line.task_id not in self._prefixes:
                self._prefixes[line.task_id] = self._task_prefix(line)
            text += f"{self._prefixes[line.task_id]}    | "
        return (text + (" " if self.options.details else "")).encode()

    def _slot_width(self, reference: str) -> int:
        """Digits of the highest slot. Raises CliError when there is no such service or task."""
        request = pb.GetServiceRequest(reference=reference)
        try:
            service = self.client.ask(lambda s: s.control.GetService, request).service
        except NotFoundError:
            return self._task_slot_width(reference)
        return len(str(service.spec.replicated.replicas))

    def _task_slot_width(self, reference: str) -> int:
        request = pb.GetTaskRequest(reference=reference)
        try:
            return len(str(self.client.ask(lambda s: s.control.GetTask, request).task.task.slot))
        except NotFoundError as error:
            raise CliError(f"no such task or service: {reference}") from error

    def _task_prefix(self, line: LogLine) -> str:
        slot, service = "0", line.task_id
        try:
            request = pb.GetTaskRequest(reference=line.task_id)
            task = self.client.ask(lambda s: s.control.GetTask, request).task.task
            slot = str(task.slot)
            service = task.service_id if self.options.no_resolve else task.service_name
        except NotFoundError:
            pass
        name = f"{service}.{slot}"
        if self.options.task_ids:
            name += f".{line.task_id if self.options.no_trunc else truncate_id(line.task_id)}"
        node = self._hostnames.get(line.node_id, line.node_id)
        return f"{name}@{node}{' ' * max(self._width - len(slot), 0)}"
