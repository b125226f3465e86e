"""What `swarmctl version` says, read from the installed package."""

from importlib.metadata import version

VERSION = version("swarm")
