"""Single objects as Docker's client prints them: `inspect`, as JSON or by a template."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from swarm.cli.errors import EXIT_TEMPLATE, CliError
from swarm.dockerapi.omitted import OMITTED
from swarm.gotemplate import Template, TemplateError, to_json

_JSON = "json"


def print_inspect(
    objects: Sequence[object],
    errors: Sequence[str] = (),
    *,
    format: str | None = None,  # noqa: A002 - the flag's name
    out: TextIO | None = None,
) -> None:
    """Print objects (as from JSON) in an array indented by 4, on one line, or by a template each.

    `errors` is what went wrong for others, such as "no such service: web": after what was found
    is printed they are raised as one CliError. So are templates that fail for some object.
    """
    template = _parse(format) if format and format != _JSON else None
    failed = list(errors)
    if template is None:
        text = _json_array(objects, compact=format == _JSON)
    else:
        text, more = _by_template(template, objects)
        failed += more
    (out or sys.stdout).write(text)
    if failed:
        raise CliError("\n".join(failed))


def print_template(text: str, data: object, out: TextIO | None = None) -> None:
    """Print one of our own templates, such as the view of `inspect --pretty`."""
    (out or sys.stdout).write(Template.parse(text).render(data))


def _parse(source: str) -> Template:
    try:
        return Template.parse(source)
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}", EXIT_TEMPLATE) from error


def _by_template(template: Template, objects: Sequence[object]) -> tuple[str, list[str]]:
    lines: list[str] = []
    failed: list[str] = []
    for item in objects:
        try:
            lines.append(template.render(item, strict=True, absent=OMITTED) + "\n")
        except TemplateError as error:
            failed.append(f"template parsing error: {error}")
    return "".join(lines) or "\n", failed


def _json_array(objects: Sequence[object], *, compact: bool) -> str:
    if not objects:
        return "[]\n"
    if compact:
        return to_json(list(objects)) + "\n"
    return to_json(list(objects), indent=4) + "\n"
