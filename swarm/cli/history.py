"""`swarmctl history`: who changed what, and when."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.service_pb2 import ServiceRevision, ServiceSpec
from swarm.cli.command import DockerGroup
from swarm.cli.flags import format_option, no_trunc_option, quiet_option
from swarm.cli.session import Session
from swarm.cli.specdiff import differences
from swarm.cli.tables import Column, print_list
from swarm.dockerapi.json_values import rfc3339_nano
from swarm.dockerapi.service import service_spec_to_json
from swarm.units import ellipsis, human_duration

_TABLE = (
    "table {{.Revision}}{{if .Current}} *{{end}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Changes}}"
)
_CHANGES_WIDTH = 72
_COLUMNS = (
    Column("Revision", "REVISION"),
    Column("Current", ""),
    Column("CreatedSince", "CREATED"),
    Column("CreatedBy", "CREATED BY"),
    Column("Changes", "CHANGES", lambda text: ellipsis(text, _CHANGES_WIDTH)),
)


@click.group(cls=DockerGroup, name="history", help="Show who changed what, and when")
def history() -> None:
    pass


@history.command(
    "service",
    usage="[OPTIONS] SERVICE",
    help="Show the revisions of a service's spec: the last 20, and those in use (current: *)",
)
@format_option()
@no_trunc_option()
@quiet_option("Only display revision numbers")
@click.argument("reference", metavar="SERVICE")
@click.pass_obj
def service(
    session: Session,
    reference: str,
    format: str | None,  # noqa: A002 - the flag's name
    no_trunc: bool,
    quiet: bool,
) -> None:
    request = pb.ServiceHistoryRequest(reference=reference)
    answer = session.client.ask(lambda stubs: stubs.control.ServiceHistory, request)
    rows = _rows(answer, time.time_ns())
    if not quiet and format in (None, "table"):
        format = _TABLE  # noqa: A001
    print_list(
        rows, _COLUMNS, format=format, quiet=quiet, no_trunc=no_trunc, quiet_field="Revision"
    )


def _rows(answer: pb.ServiceHistoryResponse, now_ns: int) -> list[dict[str, object]]:
    """Newest first."""
    rows: list[dict[str, object]] = []
    earlier: list[ServiceRevision] = []
    for row in answer.revisions:
        at_ns = row.meta.created_at_ns
        rows.append(
            {
                "Revision": row.revision,
                "Current": row.revision == answer.service.revision,
                "CreatedAt": rfc3339_nano(at_ns),
                "CreatedSince": f"{human_duration(max(0, now_ns - at_ns))} ago",
                "CreatedBy": _who(row),
                "Changes": _changes(row, earlier),
            }
        )
        earlier.append(row)
    return rows[::-1]


def _who(row: ServiceRevision) -> str:
    return "swarm (automatic rollback)" if row.who == "brain" else row.who


def _changes(row: ServiceRevision, earlier: Sequence[ServiceRevision]) -> str:
    if not earlier:
        return "created" if row.revision == 1 else "what was before is not kept"
    found = differences(_json(earlier[-1].spec), _json(row.spec))
    if not found:
        return "none"
    text = "; ".join(map(str, found))
    same = next((old.revision for old in reversed(earlier) if old.spec == row.spec), None)
    return text if same is None else f"as revision {same}: {text}"


def _json(spec: ServiceSpec) -> dict[str, object]:
    return service_spec_to_json(spec)
