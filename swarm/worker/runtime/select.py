"""Picks the runtime of a node: the one that was named, or the first that works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from swarm.worker.images.layout import Layout
from swarm.worker.runtime.fake import FakeRuntime
from swarm.worker.runtime.oci.runtime import OciRuntime
from swarm.worker.runtime.port import Identity, Runtime, RuntimeFailed
from swarm.worker.runtime.process import ProcessRuntime

AUTO = ("docker", "oci", "process")


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Where the drivers keep their files and find their engines.

    `docker_host` is a path or URL of the engine's socket, "" for $DOCKER_HOST or the usual one.
    `oci_runtime` is the program ("" for runc or crun, whichever works). With `nat`, containers of
    the oci runtime reach beyond this machine. `layout` is where the node has its images.
    """

    state_dir: Path
    identity: Identity
    docker_host: str = ""
    oci_runtime: str = ""
    nat: bool = True
    layout: Layout | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """`reasons` holds a line for each runtime that was passed over."""

    runtime: Runtime
    reasons: list[str]
    version: str = ""


async def choose(name: str, config: RuntimeConfig) -> Choice:
    """The runtime `name`, or for "auto" the first of docker, oci, process that works.

    Raises RuntimeFailed, with the reason of each, when none does.
    """
    makers: dict[str, Callable[[], Runtime]] = {
        "docker": lambda: _docker(config),
        "oci": lambda: OciRuntime(
            config.identity,
            config.state_dir / "oci",
            config.oci_runtime,
            nat=config.nat,
            layout=config.layout,
        ),
        "process": lambda: ProcessRuntime(config.state_dir / "process"),
        "fake": FakeRuntime,
    }
    if name != "auto" and name not in makers:
        names = ", ".join(["auto", *makers])
        raise RuntimeFailed(f'there is no runtime "{name}"; choose one of {names}')
    reasons: list[str] = []
    for candidate in AUTO if name == "auto" else (name,):
        runtime = makers[candidate]()
        probe = await runtime.probe()
        if probe.works:
            return Choice(runtime, reasons, probe.version)
        await runtime.close()
        reasons.append(f"{candidate}: {probe.reason}")
    raise RuntimeFailed("no runtime works on this node: " + "; ".join(reasons))


def _docker(config: RuntimeConfig) -> Runtime:
    # Loading its HTTP client takes as long as all the rest of an agent.
    from swarm.worker.runtime.docker.runtime import DockerRuntime

    return DockerRuntime(config.identity, config.docker_host, config.state_dir / "docker")
