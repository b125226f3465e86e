"""What commands are given (`@click.pass_obj`): the options of the root, and a client on demand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarm.cli import endpoints

if TYPE_CHECKING:
    from swarm.cli.client import Client


@dataclass
class Session:
    """One run of swarmctl. gRPC is loaded with the first use of `client`."""

    hosts: Sequence[str] = ()
    certificate_files: Mapping[str, str] = field(default_factory=dict[str, str])
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    _client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            from swarm.cli.client import Client

            hosts = self.hosts or (self.environment.get("SWARM_HOST", ""),)
            found = endpoints.parse_endpoints(hosts)
            self._client = Client(
                found or [endpoints.default_endpoint(self.environment)],
                endpoints.certificates(self.environment, self.certificate_files),
            )
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
