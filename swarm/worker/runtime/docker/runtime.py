"""The docker runtime: a task is a container of the Docker Engine, named and labelled as Swarm's."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from aiodocker import Docker, DockerError
from aiodocker.containers import DockerContainer

from swarm.worker.runtime.demo import ensure_demo_image, is_demo
from swarm.worker.runtime.docker import state
from swarm.worker.runtime.docker.container_config import container_config
from swarm.worker.runtime.docker.errors import CONNECTION_STATUS, engine_errors, reason
from swarm.worker.runtime.docker.exec import DockerExec
from swarm.worker.runtime.docker.images import DockerImages
from swarm.worker.runtime.docker.logs import LogParser
from swarm.worker.runtime.port import (
    CLUSTER_LABEL,
    NODE_LABEL,
    TASK_LABEL,
    ExecOptions,
    ExecProcess,
    Exit,
    Found,
    Health,
    HealthStatus,
    Identity,
    LogLine,
    Probe,
    RuntimeFailed,
    RuntimeRefused,
    Started,
    Stats,
    TaskRun,
)
from swarm.worker.runtime.probe_image import ensure_probe_image
from swarm.worker.runtime.task_files import TaskFiles

SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
PROBE_TIMEOUT_S = 30.0
# The one that containers are on where nothing else is said.
BRIDGE_NETWORK = "bridge"
RECONNECT_S = 1.0
REMOVAL_POLL_S = 0.1
REMOVAL_WAIT_S = 10.0


class DockerRuntime:
    """A Runtime (port.py) over an engine's socket.

    `host` is a path or URL, "" for $DOCKER_HOST or the usual places. `scratch` is a directory for
    archives of images on their way into the engine.
    """

    name = "docker"

    def __init__(self, identity: Identity, host: str, scratch: Path) -> None:
        self._identity = identity
        self._host = host
        self._scratch = scratch
        self._files = TaskFiles(identity.cluster_id, identity.node_id)
        self._client: Docker | None = None
        self._ids: dict[str, str] = {}
        self._fresh: set[str] = set()  # created by us, so not started by anybody yet
        self._demo = asyncio.Lock()

    @property
    def _docker(self) -> Docker:
        if self._client is None:
            url = engine_url(self._host)
            try:
                self._client = Docker(url)
            except ValueError as error:
                raise RuntimeFailed(f"{url}: {error}") from None
        return self._client

    @property
    def client(self) -> Docker:
        """For what the port does not have: building."""
        return self._docker

    @property
    def images(self) -> DockerImages:
        return DockerImages(self._docker)

    async def probe(self) -> Probe:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                async with engine_errors("reach the engine"):
                    version = await self._docker.version()
                await self._probe_container()
        except TimeoutError:
            return Probe(False, f"the engine did not run a container in {PROBE_TIMEOUT_S:g} s")
        except (RuntimeRefused, RuntimeFailed, OSError) as error:
            return Probe(False, str(error))
        return Probe(True, "", f"{version.get('Version', '')} (API {version.get('ApiVersion')})")

    async def _probe_container(self) -> None:
        await asyncio.to_thread(self._scratch.mkdir, parents=True, exist_ok=True)
        image, command = await ensure_probe_image(self.images, self._scratch)
        task_id = f"probe-{self._identity.node_id}-{os.getpid()}"
        try:
            await self.prepare(TaskRun(task_id, task_id, image, command=command))
            await self.start(task_id)
            ended = await self.wait(task_id)
        finally:
            await self.remove(task_id)
        if ended.exit_code != 0:
            raise RuntimeFailed(f"a container ended with {ended.exit_code} {ended.message}".strip())

    async def bridge(self) -> str:
        async with engine_errors("look at the engine's network"):
            network = await (await self._docker.networks.get(BRIDGE_NETWORK)).show()
        options: dict[str, str] = network.get("Options") or {}
        return options.get("com.docker.network.bridge.name", "docker0")

    async def prepare(self, run: TaskRun) -> None:
        files = await asyncio.to_thread(self._files.lay, run.task_id, run.files)
        image = await self._provide_demo(run.image) if is_demo(run.image) else run.image
        config = container_config(run, self._identity, files, image)
        try:
            await self._create(run, config)
        except DockerError as error:
            if error.status != 404 or is_demo(run.image):
                raise _creation_verdict(error) from None
            await self.images.pull(run.image, run.registry_auth)
            try:
                await self._create(run, config)
            except DockerError as again:
                raise _creation_verdict(again) from None
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeFailed(f"cannot create a container: {reason(error)}") from None

    async def _create(self, run: TaskRun, config: dict[str, Any]) -> None:
        try:
            container = await self._docker.containers.create(config, name=run.name)
        except DockerError as error:
            if error.status != 409:
                raise
            await self._adopt(run)
            return
        self._ids[run.task_id] = container.id
        self._fresh.add(run.task_id)

    async def _adopt(self, run: TaskRun) -> None:
        """The name is taken: by this very task, or by somebody else's container."""
        found = await (await self._docker.containers.get(run.name)).show()
        labels: dict[str, str] = found["Config"].get("Labels") or {}
        ours = (self._identity.cluster_id, self._identity.node_id, run.task_id)
        if (labels.get(CLUSTER_LABEL), labels.get(NODE_LABEL), labels.get(TASK_LABEL)) != ours:
            raise RuntimeFailed(f'the container name "{run.name}" is taken by another container')
        self._ids[run.task_id] = found["Id"]

    async def _provide_demo(self, reference: str) -> str:
        await asyncio.to_thread(self._scratch.mkdir, parents=True, exist_ok=True)
        async with self._demo:
            return await ensure_demo_image(self.images, reference, self._scratch)

    async def start(self, task_id: str) -> Started:
        container = await self._container(task_id)
        if task_id in self._fresh or (await self._show(container))["State"]["Status"] == "created":
            self._fresh.discard(task_id)
            try:
                await container.start()
            except (DockerError, aiohttp.ClientError, OSError) as error:
                raise RuntimeFailed(reason(error), await self._exit_code(container)) from None
        return state.started(await self._show(container))

    async def wait(self, task_id: str) -> Exit:
        while True:
            try:
                container = await self._container(task_id)
                found = await container.show()
                ended = state.exit_of(found)
                if ended is not None:
                    return ended
                if found["State"]["Status"] == "created":
                    raise RuntimeFailed(f"task {task_id} was not started")
                await container.wait()
            except DockerError as error:
                if error.status == 404:
                    return Exit(None, time.time_ns(), False, "the container was removed by hand")
                if error.status != CONNECTION_STATUS:
                    raise RuntimeFailed(reason(error)) from None
                await asyncio.sleep(RECONNECT_S)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(RECONNECT_S)  # the engine restarts; its containers may live

    async def stop(self, task_id: str, signal: str = "", grace_s: float = 10.0) -> None:
        async with engine_errors(f"stop task {task_id}"):
            container = await self._find(task_id)
            if container is None:
                return
            try:
                if signal and grace_s > 0:
                    await self._signal_first(container, signal, grace_s)
                await container.stop(t=0 if signal else math.ceil(grace_s))
            except DockerError as error:
                if error.status not in (304, 404, 409):
                    raise

    async def _signal_first(self, container: DockerContainer, signal: str, grace_s: float) -> None:
        await container.kill(signal=signal)
        try:
            async with asyncio.timeout(grace_s):
                await container.wait()
        except TimeoutError:
            return

    async def kill(self, task_id: str) -> None:
        await self.stop(task_id, "", 0)

    async def remove(self, task_id: str) -> None:
        async with engine_errors(f"remove task {task_id}"):
            deadline = time.monotonic() + REMOVAL_WAIT_S
            while (container := await self._find(task_id)) is not None:
                try:
                    await container.delete(force=True, v=True)
                except DockerError as error:
                    if error.status == 404:
                        break
                    if error.status != 409 or time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(REMOVAL_POLL_S)  # the engine is removing it already
                else:
                    break
        self._ids.pop(task_id, None)
        self._fresh.discard(task_id)
        await asyncio.to_thread(self._files.remove, task_id)

    async def logs(
        self,
        task_id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ns: int = 0,
        until_ns: int = 0,
        streams: Sequence[str] = ("stdout", "stderr"),
    ) -> AsyncIterator[LogLine]:
        container = await self._container(task_id)
        found = await self._show(container)
        parser = LogParser(bool(found["Config"].get("Tty")))
        params = {
            "follow": str(int(follow)),
            "stdout": str(int("stdout" in streams)),
            "stderr": str(int("stderr" in streams)),
            "timestamps": "1",
            "tail": "all" if tail is None else str(tail),
        }
        if since_ns:
            params["since"] = f"{since_ns // 10**9}.{since_ns % 10**9:09d}"
        if until_ns:
            params["until"] = f"{until_ns // 10**9}.{until_ns % 10**9:09d}"
        async with engine_errors(f"read the log of task {task_id}"):
            async with self._get(f"containers/{container.id}/logs", params) as response:
                await _check(response)
                async for data in response.content.iter_any():
                    for line in parser.feed(data):
                        yield line
            for line in parser.rest():
                yield line

    async def list(self) -> list[Found]:
        found: list[Found] = []
        async with engine_errors("list containers"):
            for container in await self._labelled([]):
                try:
                    shown = await container.show()
                except DockerError as error:
                    if error.status == 404:
                        continue
                    raise
                task = state.found(shown)
                self._ids[task.task_id] = container.id
                found.append(task)
        return found

    async def health(self, task_id: str) -> AsyncIterator[Health]:
        container = await self._container(task_id)
        last: HealthStatus | None = None
        filters = {"container": [container.id], "event": ["health_status", "die", "destroy"]}
        while True:
            try:
                # Listening comes before looking, so nothing falls between them.
                async with self._get("events", {"filters": json.dumps(filters)}) as response:
                    await _check(response)
                    while True:
                        found = await container.show()
                        health = state.health(found)
                        if health.status is not last:
                            last = health.status
                            yield health
                        if health.status is HealthStatus.NONE or not found["State"]["Running"]:
                            return
                        if not await response.content.readline():
                            break
            except DockerError as error:
                if error.status == 404:
                    return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(RECONNECT_S)

    async def stats(self, task_id: str) -> Stats:
        container = await self._container(task_id)
        params = {"stream": "0", "one-shot": "1"}
        async with (
            engine_errors(f"measure task {task_id}"),
            self._get(f"containers/{container.id}/stats", params) as response,
        ):
            await _check(response)
            return state.stats(await response.json())

    async def exec(self, task_id: str, options: ExecOptions) -> ExecProcess:
        container = await self._container(task_id)
        async with engine_errors(f"run a command in task {task_id}"):
            command = await container.exec(
                list(options.command),
                stdin=options.open_stdin or options.tty,
                tty=options.tty,
                user=options.user,
                environment=list(options.env),
                workdir=options.working_dir or None,
            )
            stream = command.start(detach=False)
            await stream.__aenter__()
        return DockerExec(command, stream)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _get(self, path: str, params: Mapping[str, str]) -> Any:
        """A GET whose answer is a stream, which aiodocker has no call for."""
        docker = self._docker
        url = f"{docker.docker_host}/{docker.api_version}/{path}"
        return docker.session.get(url, params=params, timeout=aiohttp.ClientTimeout())

    async def _exit_code(self, container: DockerContainer) -> int | None:
        """Of a start that failed; None where the engine does not say."""
        try:
            found = await container.show()
        except (DockerError, aiohttp.ClientError, OSError):
            return None
        return found["State"].get("ExitCode") or None

    async def _show(self, container: DockerContainer) -> dict[str, Any]:
        async with engine_errors("inspect a container"):
            return await container.show()

    async def _container(self, task_id: str) -> DockerContainer:
        async with engine_errors(f"find task {task_id}"):
            container = await self._find(task_id)
        if container is None:
            raise RuntimeFailed(f"there is no container of task {task_id} on this node")
        return container

    async def _find(self, task_id: str) -> DockerContainer | None:
        known = self._ids.get(task_id)
        if known is not None:
            return self._docker.containers.container(known)
        found = await self._labelled([f"{TASK_LABEL}={task_id}"])
        if not found:
            return None
        self._ids[task_id] = found[0].id
        return found[0]

    async def _labelled(self, labels: list[str]) -> list[DockerContainer]:
        """The containers of this cluster and node, and no others."""
        wanted = [
            f"{CLUSTER_LABEL}={self._identity.cluster_id}",
            f"{NODE_LABEL}={self._identity.node_id}",
            *labels,
        ]
        return await self._docker.containers.list(all=True, filters=json.dumps({"label": wanted}))


def engine_url(host: str) -> str:
    """Where the engine listens. Raises RuntimeFailed where there is nothing to try."""
    host = host or os.environ.get("DOCKER_HOST", "")
    if host:
        return f"unix://{host}" if host.startswith("/") else host
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    places = [*SOCKETS, *([f"{own}/docker.sock", f"{own}/podman/podman.sock"] if own else [])]
    for place in places:
        if Path(place).is_socket():
            return f"unix://{place}"
    raise RuntimeFailed(f"no engine listens at {SOCKETS[0]}, and DOCKER_HOST is not set")


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        said = await response.json(content_type=None)
        raise DockerError(response.status, said.get("message", "refused"))


def _creation_verdict(error: DockerError) -> RuntimeRefused | RuntimeFailed:
    text = reason(error)
    if error.status in (400, 404):
        lower = text.lower()
        words = {"mount": "mounts", "bind": "mounts", "image": "image", "reference": "image"}
        field = next((name for word, name in words.items() if word in lower), "")
        return RuntimeRefused(text, field)
    return RuntimeFailed(f"cannot create a container: {text}")
