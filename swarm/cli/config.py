"""`swarmctl config`: files for tasks."""

from __future__ import annotations

from collections.abc import Sequence

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.config_pb2 import Config, ConfigSpec
from swarm.api.v1.types_pb2 import Annotations
from swarm.cli.client import Client, new_request_id
from swarm.cli.command import DockerGroup
from swarm.cli.file_commands import FileNoun, add_verbs
from swarm.cli.pretty import config_text
from swarm.cli.tables import Column
from swarm.dockerapi.file import config_to_json

_COLUMNS = (
    Column("ID", "ID"),
    Column("Name", "NAME"),
    Column("CreatedAt", "CREATED"),
    Column("UpdatedAt", "UPDATED"),
    Column("Labels", "LABELS", default=False),
)


@click.group(cls=DockerGroup, name="config", help="Manage Swarm configs")
def config() -> None:
    pass


def _create(client: Client, annotations: Annotations, data: bytes, template_driver: str) -> Config:
    spec = ConfigSpec(annotations=annotations, data=data, template_driver=template_driver)
    request = pb.CreateConfigRequest(request_id=new_request_id(), spec=spec)
    return client.ask(lambda stubs: stubs.control.CreateConfig, request).config


def _all(client: Client) -> Sequence[Config]:
    return client.ask(lambda stubs: stubs.control.ListConfigs, pb.ListConfigsRequest()).configs


def _get(client: Client, reference: str) -> Config:
    request = pb.GetConfigRequest(reference=reference)
    return client.ask(lambda stubs: stubs.control.GetConfig, request).config


def _remove(client: Client, reference: str) -> None:
    request = pb.RemoveConfigRequest(request_id=new_request_id(), reference=reference)
    client.ask(lambda stubs: stubs.control.RemoveConfig, request)


add_verbs(
    config, FileNoun("config", _create, _all, _get, _remove, config_to_json, config_text, _COLUMNS)
)
