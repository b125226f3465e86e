"""`swarmctl explain`: why a task is where it is, or nowhere, and why it fails."""

from __future__ import annotations

import time
from collections.abc import Iterable

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.logs_pb2 import LogOptions
from swarm.cli.client import Client
from swarm.cli.command import DockerGroup
from swarm.cli.errors import CliError
from swarm.cli.plan import waiting_lines
from swarm.cli.session import Session
from swarm.dockerapi.words import AVAILABILITY, NODE_STATE, TASK_STATE
from swarm.units import bytes_size, format_cpus, format_duration, human_duration

_LOG_LINES = 5
# Slots whose last lines are fetched.
_LOGS_MAX = 3
_NS_PER_SECOND = 1_000_000_000


@click.group(cls=DockerGroup, name="explain", help="Say why things are as they are")
def explain() -> None:
    pass


@explain.command(
    "service",
    usage="SERVICE",
    help="Say why a service's tasks are where they are, or nowhere, and why they fail",
)
@click.argument("reference", metavar="SERVICE")
@click.pass_obj
def service(session: Session, reference: str) -> None:
    answer = _ask(session.client, pb.ExplainRequest(service=reference))
    head = f"service {answer.name}: {answer.running} of {answer.wanted} tasks run"
    _show_tasks(session.client, answer, head)


@explain.command(
    "task",
    usage="TASK",
    help="Say why a task is where it is, or nowhere, and why its slot fails",
)
@click.argument("reference", metavar="TASK")
@click.pass_obj
def task(session: Session, reference: str) -> None:
    answer = _ask(session.client, pb.ExplainRequest(task=reference))
    _show_tasks(session.client, answer, f"task {answer.name}")


@explain.command(
    "node",
    usage="self|NODE",
    help="Say what runs on a node, what is reserved there, and what it is refused, and why",
)
@click.argument("reference", metavar="NODE")
@click.pass_obj
def node(session: Session, reference: str) -> None:
    client = session.client
    if reference == "self":
        request = pb.GetNodeRequest(reference=reference)
        reference = client.ask(lambda stubs: stubs.control.GetNode, request).node.node.id
    answer = _ask(client, pb.ExplainRequest(node=reference))
    found = answer.node.node
    state = NODE_STATE.word(found.status.state)
    availability = AVAILABILITY.word(found.spec.availability)
    run = f"{answer.running} of {answer.wanted} tasks run"
    lines = [f"node {answer.name}: {state}, {availability}, {run}"]
    if answer.node.refusal:
        lines.append(f"  takes no tasks: it {answer.node.refusal}")
    lines += [f"  {_use(use)}" for use in answer.node.resources]
    if answer.placed:
        lines += ["", "tasks"]
        lines += [f"  {_name(placed)}  {placed.reason}" for placed in answer.placed]
    if answer.waiting:
        lines += ["", "not here"]
        for group in answer.waiting:
            waits = "waits" if group.tasks == 1 else "wait"
            reason = group.refusals[0].reason
            lines.append(f"  {group.tasks} of {group.service_name} {waits}: {reason}")
    click.echo("\n".join(lines))


def _ask(client: Client, request: pb.ExplainRequest) -> pb.ExplainResponse:
    return client.ask(lambda stubs: stubs.control.Explain, request)


def _show_tasks(client: Client, answer: pb.ExplainResponse, head: str) -> None:
    lines = [head]
    if answer.waiting:
        lines += ["", *waiting_lines(answer.waiting, "")]
        lines.append("It is tried again the moment one of these changes.")
    for number, slot in enumerate(answer.failing):
        lines += ["", *_failing(slot)]
        if number < _LOGS_MAX:
            lines += _last_lines(client, slot.attempts[0].task_id)
    if answer.placed:
        lines.append("")
    for placed in answer.placed:
        state = TASK_STATE.word(placed.task.status.state)
        lines.append(f"{_name(placed)} is {state} on {placed.hostname}: {placed.reason}")
        lines += [f"    {refused.hostname}: {refused.reason}" for refused in placed.refusals]
    if answer.placed or answer.waiting:
        lines += ["", f"Computed from the state of now (index {answer.index})."]
    click.echo("\n".join(lines))


def _name(placed: pb.PlacedTask) -> str:
    task = placed.task
    return f"{task.service_name}.{task.slot}" if task.slot else task.service_name


def _failing(slot: pb.FailingSlot) -> Iterable[str]:
    name = f"{slot.service_name}.{slot.slot}" if slot.slot else slot.service_name
    yield f"{name} failed; the last attempts:"
    now_ns = time.time_ns()
    for attempt in slot.attempts:
        status = attempt.status
        ago = human_duration(max(0, now_ns - status.timestamp_ns)).lower()
        reason = status.err or status.message or TASK_STATE.word(status.state)
        code = status.container.exit_code if status.container.HasField("exit_code") else None
        shown = "" if code is None or f"({code})" in reason else f", exit code {code}"
        yield f"    {ago} ago on {attempt.hostname}: {' '.join(reason.split())}{shown}"
    if slot.next_attempt_at_ns:
        seconds = -(-max(0, slot.next_attempt_at_ns - now_ns) // _NS_PER_SECOND)
        yield f"    it is tried again in {format_duration(seconds * _NS_PER_SECOND)}"
    else:
        yield f"    {slot.outlook}"


def _last_lines(client: Client, task_id: str) -> list[str]:
    """Of the attempt's log. Where it can't be had, that is said in its stead."""
    request = pb.ServiceLogsRequest(
        references=[task_id], options=LogOptions(tail=_LOG_LINES, stdout=True, stderr=True)
    )
    lines: list[str] = []
    try:
        for answer in client.follow(lambda stubs: stubs.control.ServiceLogs, lambda: request):
            lines += [f"        {line.data.decode(errors='replace')}" for line in answer.lines]
            lines += [f"        ({warning})" for warning in answer.warnings]
    except CliError as error:
        lines.append(f"        ({error.message})")
    return ["    the last lines of its log:", *lines] if lines else []


def _use(use: pb.ResourceUse) -> str:
    show = {"CPUs": format_cpus, "memory": bytes_size}.get(use.kind, str)
    free = max(0, use.total - use.reserved)
    return f"{use.kind}: {show(use.reserved)} of {show(use.total)} reserved, {show(free)} free"
