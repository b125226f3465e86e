"""What a local node's tasks need when its daemon is not there: a power cut, and their removal."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterable

from swarm.local.record import LocalCluster, LocalNode
from swarm.worker.runtime.docker.runtime import DockerRuntime
from swarm.worker.runtime.oci.runtime import OciRuntime
from swarm.worker.runtime.port import Identity, Runtime, RuntimeFailed
from swarm.worker.runtime.powercut import kill_node
from swarm.worker.runtime.process import ProcessRuntime


def cut_power(node: LocalNode) -> None:
    """All tasks of the node die at once; its daemon must be dead already. RuntimeFailed."""
    kill_node(node.runtime_dir)
    if (node.runtime_dir / "docker").is_dir():
        asyncio.run(_kill_containers(node))


async def _kill_containers(node: LocalNode) -> None:
    runtime = _docker(node)
    if runtime is None:
        return
    try:
        found = await runtime.list()
        await asyncio.gather(*(runtime.kill(task.task_id) for task in found))
    finally:
        await runtime.close()


def remove_all(cluster: LocalCluster) -> list[str]:
    """Nothing is left of the nodes' tasks: processes, containers, mounts, namespaces. What could
    not be removed, a line each."""
    return asyncio.run(_remove_all(cluster.nodes))


async def _remove_all(nodes: Iterable[LocalNode]) -> list[str]:
    found = await asyncio.gather(*(_remove_of(node) for node in nodes))
    return [problem for problems in found for problem in problems]


async def _remove_of(node: LocalNode) -> list[str]:
    problems: list[str] = []
    for runtime in _runtimes(node):
        try:
            for task in await runtime.list():
                await runtime.remove(task.task_id)
        except (RuntimeFailed, OSError) as error:
            problems.append(f"{node.name}: {error}")
        finally:
            await runtime.close()
    return problems


def _runtimes(node: LocalNode) -> list[Runtime]:
    """The drivers that have been at work on this node."""
    identity, folder = _identity(node), node.runtime_dir
    found: list[Runtime] = []
    docker = _docker(node)
    if docker is not None:
        found.append(docker)
    if identity is not None and (folder / "oci").is_dir() and shutil.which("ip"):
        found.append(OciRuntime(identity, folder / "oci"))
    if (folder / "process").is_dir():
        found.append(ProcessRuntime(folder / "process"))
    return found


def _docker(node: LocalNode) -> DockerRuntime | None:
    identity = _identity(node)
    if identity is None or not (node.runtime_dir / "docker").is_dir():
        return None
    return DockerRuntime(identity, "", node.runtime_dir / "docker")


def _identity(node: LocalNode) -> Identity | None:
    """None while the node has been in no cluster."""
    try:
        content = json.loads((node.state_dir / "node.json").read_text())
    except (OSError, ValueError):
        return None
    return Identity(content["cluster_id"], content["node_id"])
