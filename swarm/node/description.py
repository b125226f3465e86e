"""What a machine says of itself when it joins. The agent says it again, with its runtime."""

import os
import platform

from swarm.api.v1.node_pb2 import EngineDescription, NodeDescription
from swarm.api.v1.types_pb2 import Platform, Resources
from swarm.generic_resources import parse_generic_resources
from swarm.node.config import NodeConfig


def describe(config: NodeConfig) -> NodeDescription:
    return NodeDescription(
        hostname=config.hostname,
        platform=Platform(architecture=platform.machine(), os=platform.system().lower()),
        resources=Resources(
            nano_cpus=int((config.cpus or os.cpu_count() or 1) * 1e9),
            memory_bytes=config.memory_bytes or _memory_bytes(),
            generic=parse_generic_resources(config.node_generic_resource),
        ),
        engine=EngineDescription(labels=config.labels),
    )


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
