"""What `--plan` shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.node_pb2 import NodeSpec
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.cli.client import Client
from swarm.cli.specdiff import Difference, differences
from swarm.dockerapi.json_values import Json
from swarm.dockerapi.node import node_spec_to_json
from swarm.dockerapi.service import service_spec_to_json
from swarm.gotemplate import to_json

EXIT_NOTHING_TO_DO = 0
EXIT_CHANGES = 2
_LINES_MAX = 50


def show_plan(client: Client, changes: Sequence[pb.PlannedChange], format: str | None) -> int:  # noqa: A002
    """Print what the changes would lead to. Returns the exit code."""
    answer = client.ask(lambda stubs: stubs.control.Plan, pb.PlanRequest(changes=changes))
    diffs = [_differences(planned) for planned in answer.objects]
    has_changes = bool(any(diffs) or answer.tasks_started or answer.tasks_stopped or answer.cut_off)
    if format == "json":
        click.echo(to_json(_to_json(answer, diffs, has_changes), indent=4))
    else:
        click.echo("\n".join(_text(answer, diffs, has_changes)))
    return EXIT_CHANGES if has_changes else EXIT_NOTHING_TO_DO


def _differences(planned: pb.PlannedObject) -> list[Difference]:
    if planned.HasField("old_node") or planned.HasField("new_node"):
        return differences(_node(planned.old_node), _node(planned.new_node))
    old = _service(planned.old_service) if planned.HasField("old_service") else {}
    new = _service(planned.new_service) if planned.HasField("new_service") else {}
    return differences(old, new)


def _service(spec: ServiceSpec) -> Json:
    return service_spec_to_json(spec)


def _node(spec: NodeSpec) -> Json:
    return node_spec_to_json(spec)


def _verb(planned: pb.PlannedObject) -> str:
    if planned.HasField("old_node"):
        return "update"
    if not planned.HasField("old_service"):
        return "create"
    return "update" if planned.HasField("new_service") else "remove"


def _noun(planned: pb.PlannedObject) -> str:
    return "node" if planned.HasField("old_node") else "service"


def _to_json(answer: pb.PlanResponse, diffs: list[list[Difference]], has_changes: bool) -> Json:
    return {
        "Index": answer.index,
        "Changes": has_changes,
        "Objects": [
            {
                "Kind": _noun(planned),
                "ID": planned.id,
                "Name": planned.name,
                "Action": _verb(planned),
                "Differences": [diff.to_json() for diff in found],
            }
            for planned, found in zip(answer.objects, diffs, strict=True)
        ],
        "TasksStarted": answer.tasks_started,
        "TasksStopped": answer.tasks_stopped,
        "Start": [_task_to_json(task) for task in answer.started],
        "Stop": [_task_to_json(task) for task in answer.stopped],
        "Waiting": [_waiting_to_json(group) for group in answer.waiting],
        "CutOff": answer.cut_off,
    }


def _task_to_json(task: pb.PlannedTask) -> Json:
    return {
        "Service": task.service_name,
        "Slot": task.slot,
        "NodeID": task.node_id,
        "Node": task.hostname,
    }


def _waiting_to_json(group: pb.WaitingTasks) -> Json:
    return {
        "Service": group.service_name,
        "Tasks": group.tasks,
        "Slots": list(group.slots),
        "Refused": [
            {"NodeID": r.node_id, "Node": r.hostname, "Reason": r.reason} for r in group.refusals
        ],
    }


def _text(answer: pb.PlanResponse, diffs: list[list[Difference]], has_changes: bool) -> list[str]:
    lines: list[str] = []
    for planned, found in zip(answer.objects, diffs, strict=True):
        if found:
            lines.append(f"{_verb(planned)} {_noun(planned)} {planned.name}")
            lines += [f"  {diff}" for diff in found]
        else:
            lines.append(f"{_noun(planned)} {planned.name}: nothing in its spec changes")
    if answer.started or answer.stopped or answer.waiting:
        lines += ["", "tasks"]
        lines += _tasks("+", "start", answer.started, answer.tasks_started)
        lines += _tasks("-", "stop", answer.stopped, answer.tasks_stopped)
        lines += waiting_lines(answer.waiting, "  ! ")
    lines += ["", _summary(answer, has_changes)]
    return lines


def _tasks(sign: str, verb: str, tasks: Sequence[pb.PlannedTask], total: int) -> list[str]:
    names = [_name(task.service_name, task.slot) for task in tasks[:_LINES_MAX]]
    width = max(map(len, names), default=0)
    lines = [
        f"  {sign} {name:{width}}  {verb}s on {task.hostname}"
        for name, task in zip(names, tasks, strict=False)
    ]
    if total > len(lines):
        lines.append(f"  {sign} {total - len(lines)} more {verb} (--format json lists them)")
    return lines


def waiting_lines(groups: Iterable[pb.WaitingTasks], margin: str) -> list[str]:
    """Tasks without a node, and why each node refuses them."""
    lines: list[str] = []
    for group in groups:
        shown = ", ".join(_name(group.service_name, slot) for slot in group.slots[:5])
        more = group.tasks - min(len(group.slots), 5)
        suffix = f" and {more} more" if more else ""
        fits = "fits" if group.tasks == 1 else "fit"
        lines.append(f"{margin}{shown}{suffix} {fits} on no node")
        indent = " " * (len(margin) + 4)
        lines += [f"{indent}{r.hostname}: {r.reason}" for r in group.refusals]
        if not group.refusals:
            lines.append(f"{indent}there is no node that could take it")
    return lines


def _name(service: str, slot: int) -> str:
    return f"{service}.{slot}" if slot else service


def _summary(answer: pb.PlanResponse, has_changes: bool) -> str:
    if not has_changes:
        return f"Nothing to do (index {answer.index})."
    waiting = sum(group.tasks for group in answer.waiting)
    parts = [f"{answer.tasks_started} to start", f"{answer.tasks_stopped} to stop"]
    parts += [f"{waiting} without a node"] if waiting else []
    cut = (
        " This is only how it begins: all of it is too much to be computed."
        if (answer.cut_off)
        else ""
    )
    return (
        f"Plan: {', '.join(parts)}. Nothing was changed.{cut}\n"
        f"To do it unless somebody changes it meanwhile: add --check-index {answer.index}"
    )
