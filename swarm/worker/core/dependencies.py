"""The secrets, configs and logins to registries that a manager gave this node: in memory, never in
the database.

A restarted agent has none. Tasks that run keep what was laid out for them; one that is yet to be
prepared waits until a manager has said what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping

from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.dispatcher_pb2 import Assignments
from swarm.api.v1.dispatcher_pb2 import Dependencies as DependenciesMessage
from swarm.api.v1.secret_pb2 import Secret


class Dependencies:
    def __init__(self) -> None:
        self._secrets: dict[str, Secret] = {}
        self._configs: dict[str, Config] = {}
        self._logins: dict[str, str] = {}
        # Heard, and to be held with the assignments that come after it.
        self._arriving = DependenciesMessage()

    @property
    def secrets(self) -> Mapping[str, Secret]:
        return self._secrets

    @property
    def configs(self) -> Mapping[str, Config]:
        return self._configs

    @property
    def logins(self) -> Mapping[str, str]:
        """By the service whose images they are for, as Docker's X-Registry-Auth value."""
        return self._logins

    def arrived(self, message: DependenciesMessage) -> None:
        self._arriving.MergeFrom(message)

    def session_over(self) -> None:
        """What came without its assignments is sent again, by another manager."""
        self._arriving = DependenciesMessage()

    def take(self, assignments: Assignments) -> None:
        """Hold what has arrived, and let go of what is not needed any more."""
        if assignments.complete:
            self._secrets, self._configs, self._logins = {}, {}, {}
        self._secrets |= {secret.id: secret for secret in self._arriving.secrets}
        self._configs |= {config.id: config for config in self._arriving.configs}
        self._logins |= {row.service_id: row.registry_auth for row in self._arriving.logins}
        for secret_id in assignments.removed_secret_ids:
            self._secrets.pop(secret_id, None)
        for config_id in assignments.removed_config_ids:
            self._configs.pop(config_id, None)
        for service_id in assignments.removed_login_ids:
            self._logins.pop(service_id, None)
        self._arriving = DependenciesMessage()
