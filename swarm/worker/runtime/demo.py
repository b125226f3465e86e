"""The demo image, `swarm/demo:latest`: made on the spot, needs no registry."""

from __future__ import annotations

DEMO_NAME = "swarm/demo"


def is_demo(reference: str) -> bool:
    """Whether an image reference means the demo image, whatever its tag or digest."""
    name = reference.partition("@")[0].removeprefix("docker.io/")
    return name == DEMO_NAME or name.startswith(DEMO_NAME + ":")
