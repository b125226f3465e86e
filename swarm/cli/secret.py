"""`swarmctl secret`: bytes for tasks, in memory only."""

from __future__ import annotations

from collections.abc import Sequence

import click

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.secret_pb2 import Secret, SecretSpec
from swarm.api.v1.types_pb2 import Annotations
from swarm.cli.client import Client, new_request_id
from swarm.cli.command import DockerGroup
from swarm.cli.file_commands import FileNoun, add_verbs
from swarm.cli.pretty import secret_text
from swarm.cli.tables import Column
from swarm.dockerapi.file import secret_to_json

_COLUMNS = (
    Column("ID", "ID"),
    Column("Name", "NAME"),
    Column("Driver", "DRIVER"),
    Column("CreatedAt", "CREATED"),
    Column("UpdatedAt", "UPDATED"),
    Column("Labels", "LABELS", default=False),
)


@click.group(cls=DockerGroup, name="secret", help="Manage Swarm secrets")
def secret() -> None:
    pass


def _create(client: Client, annotations: Annotations, data: bytes, template_driver: str) -> Secret:
    spec = SecretSpec(annotations=annotations, data=data, template_driver=template_driver)
    request = pb.CreateSecretRequest(request_id=new_request_id(), spec=spec)
    return client.ask(lambda stubs: stubs.control.CreateSecret, request).secret


def _all(client: Client) -> Sequence[Secret]:
    return client.ask(lambda stubs: stubs.control.ListSecrets, pb.ListSecretsRequest()).secrets


def _get(client: Client, reference: str) -> Secret:
    request = pb.GetSecretRequest(reference=reference)
    return client.ask(lambda stubs: stubs.control.GetSecret, request).secret


def _remove(client: Client, reference: str) -> None:
    request = pb.RemoveSecretRequest(request_id=new_request_id(), reference=reference)
    client.ask(lambda stubs: stubs.control.RemoveSecret, request)


add_verbs(
    secret, FileNoun("secret", _create, _all, _get, _remove, secret_to_json, secret_text, _COLUMNS)
)
