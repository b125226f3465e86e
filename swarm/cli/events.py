"""`swarmctl events`: what happens in the swarm, as it happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.cli.client import Client
from swarm.cli.command import DockerCommand
from swarm.cli.errors import EXIT_TEMPLATE, CliError
from swarm.cli.flags import STRING, filter_option, parse_filters
from swarm.cli.moment import fixed_nano, parse_moment
from swarm.cli.session import Session
from swarm.dockerapi.json_values import Json
from swarm.gotemplate import Template, TemplateError, to_json
from swarm.manager.core.cluster_events import KINDS

_FILTERS = ("config", "event", "label", "node", "scope", "secret", "service", "task", "type")
_NS_PER_SECOND = 1_000_000_000


@click.command(
    "events",
    cls=DockerCommand,
    usage="[OPTIONS]",
    help="Get real time events from the swarm",
)
@filter_option()
@click.option(
    "--format",
    type=STRING,
    help="Format output using a custom template:\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.",
)
@click.option("--since", type=STRING, help="Show all events created since timestamp")
@click.option("--until", type=STRING, help="Stream events until this timestamp")
@click.pass_obj
def events(
    session: Session,
    filter: tuple[str, ...],  # noqa: A002 - the flag's name
    format: str | None,  # noqa: A002
    since: str | None,
    until: str | None,
) -> None:
    filters = parse_filters(filter, _FILTERS)
    template = _template(format)
    now_ns = time.time_ns()
    request = pb.EventsRequest(
        since_ns=parse_moment("since", since, now_ns),
        until_ns=parse_moment("until", until, now_ns),
        kinds=_kinds(filters),
    )
    for event in _follow(session.client, request):
        if _matches(event, filters):
            click.echo(_line(event) if template is None else _rendered(template, event))
            sys.stdout.flush()


def _template(format: str | None) -> Template | str | None:  # noqa: A002
    """Raises CliError."""
    if not format:
        return None
    if format == "json":
        return format
    try:
        return Template.parse(format)
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}", EXIT_TEMPLATE) from error


def _kinds(filters: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Raises CliError."""
    kinds = filters.get("type", ())
    for kind in kinds:
        if kind not in KINDS:
            raise CliError(f"invalid filter 'type={kind}': choose from {', '.join(KINDS)}")
    return kinds


def _follow(client: Client, request: pb.EventsRequest) -> Iterator[pb.ClusterEvent]:
    """Where a manager is lost the next one goes on after the last event."""

    def again() -> pb.EventsRequest:
        return request

    for answer in client.follow(lambda stubs: stubs.control.Events, again):
        if answer.missed:
            click.echo("warning: earlier events are not kept any more", err=True)
        yield from answer.events
        if answer.revision:
            request.after_revision = answer.revision


def _matches(event: pb.ClusterEvent, filters: Mapping[str, Sequence[str]]) -> bool:
    actions, scopes = filters.get("event", ()), filters.get("scope", ())
    if (actions and event.action not in actions) or (scopes and "swarm" not in scopes):
        return False
    if filters.get("label"):
        return False  # no event of a swarm carries labels
    return all(_is_about(event, kind, filters[kind]) for kind in KINDS if kind in filters)


def _is_about(event: pb.ClusterEvent, kind: str, references: Iterable[str]) -> bool:
    """Of the object itself; a task's also of its service and of its node."""
    attributes = event.attributes
    known = [event.id, attributes.get("name", "")] if event.kind == kind else []
    if event.kind == "task" and kind in ("service", "node"):
        known = [attributes.get(kind, "")]
    return any(reference in known for reference in references)


def _line(event: pb.ClusterEvent) -> str:
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    shown = f" ({attributes})" if attributes else ""
    return f"{fixed_nano(event.at_ns)} {event.kind} {event.action} {event.id}{shown}"


def _rendered(template: Template | str, event: pb.ClusterEvent) -> str:
    """Raises CliError."""
    if isinstance(template, str):
        actor: Json = {"ID": event.id, "Attributes": dict(event.attributes)}
        return to_json(
            {"Type": event.kind, "Action": event.action, "Actor": actor}
            | {"scope": "swarm", "time": event.at_ns // _NS_PER_SECOND, "timeNano": event.at_ns}
        )
    data = {
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": dict(event.attributes)},
        "Scope": "swarm",
        "Time": event.at_ns // _NS_PER_SECOND,
        "TimeNano": event.at_ns,
    }
    try:
        return template.render(data, strict=True)
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}", EXIT_TEMPLATE) from error
