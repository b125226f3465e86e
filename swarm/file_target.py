"""Where in a container a secret or a config is laid. Docker's folders (moby container_unix.go)."""

import posixpath

from swarm.api.v1.service_pb2 import ConfigReference, SecretReference

SECRETS_FOLDER = "/run/secrets"
CONFIGS_FOLDER = "/"


def target_path(reference: SecretReference | ConfigReference) -> str:
    """The file's absolute path."""
    folder = SECRETS_FOLDER if isinstance(reference, SecretReference) else CONFIGS_FOLDER
    path = posixpath.normpath(posixpath.join(folder, reference.file.name))
    return "/" + path.lstrip("/")
