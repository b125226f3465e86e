"""What makes services a stack, and how they are called in it."""

from __future__ import annotations

from collections.abc import Mapping

STACK_LABEL = "com.docker.stack.namespace"
# Containers of a stack ask here; their node's agent answers. Of the range that is set aside for
# benchmarks of networks (RFC 2544), which nobody uses for anything else.
NAMES_NETWORK = "198.18.0.0/15"
NAMES_SERVER = "198.18.0.1"
NAMES_DOMAIN = "stack.swarm"


def stack_of(labels: Mapping[str, str]) -> str:
    """The stack that a service with these labels is of; empty: of none."""
    return labels.get(STACK_LABEL, "")


def short_name(stack: str, service_name: str) -> str:
    """Its name in the compose file: "web" of "shop_web"."""
    return service_name.removeprefix(f"{stack}_")


def search_domain(stack: str) -> str:
    """Where the short names of the stack's services are."""
    return f"{stack.lower()}.{NAMES_DOMAIN}"
