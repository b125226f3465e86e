"""A project as what a stack's deployment asks of a manager."""

from __future__ import annotations

import re
from dataclasses import dataclass

from swarm.api.v1.config_pb2 import ConfigSpec
from swarm.api.v1.secret_pb2 import SecretSpec
from swarm.api.v1.service_pb2 import ServiceSpec
from swarm.compose.errors import ComposeError, Place
from swarm.compose.fields import Fields
from swarm.compose.names import Names
from swarm.compose.project import Note, Project
from swarm.compose.references import dependencies
from swarm.compose.service_spec import NO_ISOLATION, image_of, service_spec
from swarm.compose.stack_files import config_specs, secret_specs
from swarm.compose.tree import Mapping, Scalar, as_mapping

_COMPLETED = "service_completed_successfully"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Build:
    """An image to be built before the stack is deployed."""

    service: str
    image: str
    context: str
    # Relative to the context; empty: Dockerfile.
    dockerfile: str
    target: str
    arguments: dict[str, str]
    place: Place


@dataclass(frozen=True, slots=True)
class Stack:
    """In the order in which services depend on each other."""

    name: str
    services: list[ServiceSpec]
    secrets: list[SecretSpec]
    configs: list[ConfigSpec]
    builds: list[Build]
    notes: list[Note]


def check_stack_name(name: str) -> None:
    """Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f'invalid stack name: "{name}" must consist of letters, digits, ".", "_" and "-"'
        )


def stack_of(project: Project, name: str) -> Stack:
    """Raises ComposeError for what can't be run as it is written."""
    names = Names(name)
    notes = list(project.notes)
    services: list[ServiceSpec] = []
    builds: list[Build] = []
    completing = _completing(project.services)
    for key in _in_order(project.services):
        node = project.services[key]
        if (build := _build(key, node, project, name, notes)) is not None:
            builds.append(build)
        spec, found = service_spec(key, node, project, names, completes=key in completing)
        services.append(spec)
        notes += found
    secrets = secret_specs(project, names, notes)
    configs = config_specs(project, names, notes)
    notes += _network_notes(project)
    return Stack(name, services, secrets, configs, builds, notes)


def _in_order(services: dict[str, Mapping]) -> list[str]:
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in ordered:
            return
        for other in dependencies(services[name]):
            visit(other)
        ordered[name] = None

    for name in services:
        visit(name)
    return list(ordered)


def _completing(services: dict[str, Mapping]) -> set[str]:
    """Services that others wait for to complete."""
    found: set[str] = set()
    for service in services.values():
        for name, how in as_mapping(service.get("depends_on"), "depends_on").entries.items():
            condition = how.get("condition") if isinstance(how, Mapping) else None
            if isinstance(condition, Scalar) and condition.text == _COMPLETED:
                found.add(name)
    return found


def _build(
    key: str, node: Mapping, project: Project, stack: str, notes: list[Note]
) -> Build | None:
    written = node.get("build")
    if not isinstance(written, Mapping):
        return None
    fields = Fields(written, f"services.{key}.build")
    arguments: dict[str, str] = {}
    mapping = fields.take("args")
    for name, value in mapping.entries.items() if isinstance(mapping, Mapping) else ():
        if isinstance(value, Scalar) and value.value is None:
            if name in project.environment:
                arguments[name] = project.environment[name]
        elif isinstance(value, Scalar):
            arguments[name] = value.text
    build = Build(
        service=key,
        image=image_of(key, node, stack),
        context=fields.text("context"),
        dockerfile=fields.text("dockerfile"),
        target=fields.text("target"),
        arguments=arguments,
        place=written.place,
    )
    if "://" in build.context or build.context.startswith("git@"):
        raise ComposeError(written.place, f"services.{key}.build: a context is a folder here")
    notes += fields.unread({})
    return build


def _network_notes(project: Project) -> list[Note]:
    notes: list[Note] = []
    for name, node in project.networks.items():
        fields = Fields(node, f"networks.{name}")
        for key in ("name", "external", "driver", "attachable", "labels"):
            fields.take(key)
        if fields.node.entries.get("internal") is not None:
            fields.take("internal")
            notes.append(fields.note("internal", f"is not used: {NO_ISOLATION}"))
        notes += fields.unread({})
    return notes
