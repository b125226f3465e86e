"""Secrets and configs: those that a stack brings along, and which of its services get them."""

from __future__ import annotations

from swarm.api.v1.config_pb2 import ConfigSpec
from swarm.api.v1.secret_pb2 import SecretSpec
from swarm.api.v1.service_pb2 import ConfigReference, ContainerSpec, FileTarget, SecretReference
from swarm.api.v1.types_pb2 import Annotations
from swarm.compose.errors import ComposeError
from swarm.compose.fields import Fields
from swarm.compose.names import Names
from swarm.compose.project import Note, Project
from swarm.compose.tree import Mapping
from swarm.stacks import STACK_LABEL


def apply_files(container: ContainerSpec, fields: Fields, project: Project, names: Names) -> None:
    """Raises ComposeError."""
    for entry in fields.each("secrets"):
        name, file = _reference(entry, project.secrets, names)
        container.secrets.append(SecretReference(secret_name=name, file=file))
    for entry in fields.each("configs"):
        name, file = _reference(entry, project.configs, names, folder="/")
        container.configs.append(ConfigReference(config_name=name, file=file))


def _reference(
    entry: Fields, defined: dict[str, Mapping], names: Names, folder: str = ""
) -> tuple[str, FileTarget]:
    source = entry.text("source")
    name, _ = names.of_resource(source, Fields(defined[source], source))
    file = FileTarget(
        name=entry.text("target") or folder + source,
        uid=entry.integer("uid") or 0,
        gid=entry.integer("gid") or 0,
    )
    mode = entry.mode("mode")
    if mode is not None:
        file.mode = mode
    return name, file


def secret_specs(project: Project, names: Names, notes: list[Note]) -> list[SecretSpec]:
    """Those that are the stack's own. Raises ComposeError."""
    specs: list[SecretSpec] = []
    for key, node in project.secrets.items():
        annotations, data, driver = _own(key, node, "secrets", project, names, notes)
        if annotations is not None:
            specs.append(SecretSpec(annotations=annotations, data=data, template_driver=driver))
    return specs


def config_specs(project: Project, names: Names, notes: list[Note]) -> list[ConfigSpec]:
    """Those that are the stack's own. Raises ComposeError."""
    specs: list[ConfigSpec] = []
    for key, node in project.configs.items():
        annotations, data, driver = _own(key, node, "configs", project, names, notes)
        if annotations is not None:
            specs.append(ConfigSpec(annotations=annotations, data=data, template_driver=driver))
    return specs


def _own(
    key: str, node: Mapping, section: str, project: Project, names: Names, notes: list[Note]
) -> tuple[Annotations | None, bytes, str]:
    fields = Fields(node, f"{section}.{key}")
    name, external = names.of_resource(key, fields)
    labels = fields.pairs("labels")
    driver = fields.text("template_driver")
    data = b"" if external else _data(fields, project)
    notes += fields.unread({"driver": "secrets are kept in the swarm's own store"})
    if external:
        return None, b"", ""
    labels[STACK_LABEL] = names.stack
    return Annotations(name=name, labels=labels), data, driver


def _data(fields: Fields, project: Project) -> bytes:
    path, variable = fields.text("file"), fields.text("environment")
    if path:
        return project.contents[path]
    if variable:
        if variable not in project.environment:
            raise fields.error("environment", f"names {variable}, a variable that is not set")
        return project.environment[variable].encode()
    content = fields.take("content")
    if content is None:
        raise ComposeError(
            fields.node.place, f"{fields.path} has no content: give it a file, or external: true"
        )
    return str(getattr(content, "value", "")).encode()
