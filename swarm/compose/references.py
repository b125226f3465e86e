"""Whether what services name is there, and whether what depends on what can ever start."""

from __future__ import annotations

from dataclasses import replace

from swarm.compose.errors import ComposeError, Place
from swarm.compose.project import Project
from swarm.compose.tree import Mapping, Scalar, as_listing, as_mapping


def check_references(project: Project, every: dict[str, Mapping]) -> Project:
    """The project, without dependencies on what is not required and not there.

    `every`: the services of all profiles. Raises ComposeError.
    """
    services = {
        name: _with_dependencies(name, service, project.services, every)
        for name, service in project.services.items()
    }
    _refuse_cycles(services)
    for name, service in services.items():
        _check_named(name, service, project)
    return replace(project, services=services)


def dependencies(service: Mapping) -> dict[str, Place]:
    """Names of the services that must come first."""
    node = as_mapping(service.get("depends_on"), "depends_on")
    return {name: node.place_of(name) for name in node.entries}


def _with_dependencies(
    name: str, service: Mapping, active: dict[str, Mapping], every: dict[str, Mapping]
) -> Mapping:
    node = as_mapping(service.get("depends_on"), "depends_on")
    dropped: list[str] = []
    for other, how in node.entries.items():
        if other in active:
            continue
        required = as_mapping(how, "depends_on").get("required")
        if isinstance(required, Scalar) and required.value is False:
            dropped.append(other)
        elif other in every:
            raise ComposeError(
                node.place_of(other),
                f"service {name} depends on {other}, whose profile is not wanted: "
                f"add --profile, or set required: false",
            )
        else:
            raise ComposeError(
                node.place_of(other), f"service {name} depends on {other}, which is not there"
            )
    return service.having("depends_on", node.without(*dropped)) if dropped else service


def _refuse_cycles(services: dict[str, Mapping]) -> None:
    done: set[str] = set()

    def visit(name: str, chain: tuple[str, ...]) -> None:
        if name in done:
            return
        for other, place in dependencies(services[name]).items():
            if other in (*chain, name):
                cycle = (*chain, name)[(*chain, name).index(other) :]
                shown = " -> ".join((*cycle, other))
                raise ComposeError(place, f"a cycle of depends_on: {shown}")
            visit(other, (*chain, name))
        done.add(name)

    for name in services:
        visit(name, ())


def _check_named(name: str, service: Mapping, project: Project) -> None:
    for section, noun, known in (
        ("volumes", "volume", project.volumes),
        ("secrets", "secret", project.secrets),
        ("configs", "config", project.configs),
    ):
        for item in as_listing(service.get(section), section):
            entry = as_mapping(item, section)
            source = entry.get("source")
            if not isinstance(source, Scalar) or source.value is None:
                continue
            kind = entry.get("type")
            if section == "volumes" and not (isinstance(kind, Scalar) and kind.value == "volume"):
                continue
            if source.text not in known:
                raise ComposeError(
                    entry.place,
                    f"service {name} refers to undefined {noun} {source.text}: "
                    f"name it under {section}",
                )
    networks = as_mapping(service.get("networks"), "networks")
    for network in networks.entries:
        if network not in project.networks and network != "default":
            raise ComposeError(
                networks.place_of(network),
                f"service {name} refers to undefined network {network}: name it under networks",
            )
