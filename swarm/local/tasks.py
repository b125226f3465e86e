"""What a local node's tasks need when its daemon is not there: a power cut, and their removal."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from swarm.local.record import LocalNode
from swarm.worker.network.redirect import Redirect, RedirectError
from swarm.worker.runtime.oci.runtime import OciRuntime
from swarm.worker.runtime.port import Identity, Runtime, RuntimeFailed
from swarm.worker.runtime.powercut import kill_node
from swarm.worker.runtime.process import ProcessRuntime


def cut_power(node: LocalNode, docker_host: str) -> None:
    """All tasks of the node die at once; its daemon must be dead already. RuntimeFailed."""
    kill_node(node.runtime_dir)
    asyncio.run(_remove_redirect(node.runtime_dir, identity_of(node)))
    if (node.runtime_dir / "docker").is_dir():
        asyncio.run(_kill_containers(node, docker_host))


async def _kill_containers(node: LocalNode, docker_host: str) -> None:
    identity = identity_of(node)
    if identity is None:
        return
    runtime = _docker(node.runtime_dir, identity, docker_host)
    try:
        found = await runtime.list()
        await asyncio.gather(*(runtime.kill(task.task_id) for task in found))
    finally:
        await runtime.close()


def remove_all(places: Mapping[Path, Identity | None], docker_host: str) -> list[str]:
    """Nothing is left of the tasks in these runtime folders: processes, containers, mounts,
    namespaces. What could not be removed, a line each."""

    async def remove() -> list[list[str]]:
        return await asyncio.gather(*(_remove_in(*place, docker_host) for place in places.items()))

    return [problem for problems in asyncio.run(remove()) for problem in problems]


async def _remove_redirect(folder: Path, identity: Identity | None) -> list[str]:
    """The kernel's rules for names, which outlive an agent that is killed. What went wrong."""
    has_containers = (folder / "docker").is_dir() or (folder / "oci").is_dir()
    if identity is None or not has_containers or not shutil.which("nft"):
        return []
    try:
        await Redirect(identity.cluster_id, identity.node_id, "").uninstall()
    except RedirectError as error:
        return [str(error)]
    return []


async def _remove_in(folder: Path, identity: Identity | None, docker_host: str) -> list[str]:
    problems = await _remove_redirect(folder, identity)
    for runtime in _runtimes(folder, identity, docker_host):
        try:
            for task in await runtime.list():
                await runtime.remove(task.task_id)
        except (RuntimeFailed, OSError) as error:
            problems.append(str(error))
        finally:
            await runtime.close()
    return problems


def _runtimes(folder: Path, identity: Identity | None, docker_host: str) -> list[Runtime]:
    """The drivers that have been at work here."""
    found: list[Runtime] = []
    if identity is not None and (folder / "docker").is_dir():
        found.append(_docker(folder, identity, docker_host))
    if identity is not None and (folder / "oci").is_dir() and shutil.which("ip"):
        found.append(OciRuntime(identity, folder / "oci"))
    if (folder / "process").is_dir():
        found.append(ProcessRuntime(folder / "process"))
    return found


def _docker(folder: Path, identity: Identity, docker_host: str) -> Runtime:
    # Its HTTP client takes long to load, and most clusters never need it.
    from swarm.worker.runtime.docker.runtime import DockerRuntime

    return DockerRuntime(identity, docker_host, folder / "docker")


def identity_of(node: LocalNode) -> Identity | None:
    """None while the node has been in no cluster."""
    try:
        content = json.loads((node.state_dir / "node.json").read_text())
    except (OSError, ValueError):
        return None
    return Identity(content["cluster_id"], content["node_id"])
