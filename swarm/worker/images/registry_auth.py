"""Docker's X-Registry-Auth: a login to one registry, as it travels."""

from __future__ import annotations

import base64
import json

from swarm.worker.images.reference import parse, server_of
from swarm.worker.runtime.port import RuntimeRefused


def credentials(reference: str, registry_auth: str) -> dict[str, str]:
    """`username` and `password`, or `identitytoken`; nothing for a login to another registry than
    the image's: that one is not to see it. Raises RuntimeRefused."""
    if not registry_auth:
        return {}
    try:
        padded = registry_auth + "=" * (-len(registry_auth) % 4)
        login: dict[str, str] = json.loads(base64.urlsafe_b64decode(padded))
        server = login.get("serveraddress", "")
    except (ValueError, AttributeError):
        raise RuntimeRefused("the registry credentials are damaged", "registry_auth") from None
    if server and server_of(server) != server_of(parse(reference).name):
        return {}
    return login
