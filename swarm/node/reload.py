"""SIGHUP: what the configuration says now, as far as it can be taken over while swarmd runs."""

from dataclasses import dataclass, fields, replace

from swarm.node.config import NodeConfig

# What this node says of itself, and how much it says. All else is decided at the start: where it
# listens, where its state is, Raft's clock, the runtime that has its tasks.
_CHANGEABLE = ("label", "labels", "log_level", "cpus", "memory_bytes", "node_generic_resource")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """`config`: what holds from now on. The names of settings are as users write them."""

    config: NodeConfig
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def take_over(running: NodeConfig, wanted: NodeConfig) -> Reloaded:
    different = [
        f.name for f in fields(NodeConfig) if getattr(running, f.name) != getattr(wanted, f.name)
    ]
    taken = {name: getattr(wanted, name) for name in different if name in _CHANGEABLE}
    return Reloaded(
        replace(running, **taken),
        tuple(_as_written(name) for name in taken if name != "labels"),
        tuple(_as_written(name) for name in different if name not in _CHANGEABLE),
    )


def _as_written(name: str) -> str:
    return name.replace("_", "-")
