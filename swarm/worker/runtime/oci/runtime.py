"""The oci runtime: containers by runc or crun, with images, roots and networks of our own."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from swarm.worker.images.layout import Layout, StoredImage
from swarm.worker.runtime import healthcheck
from swarm.worker.runtime.demo import ensure_demo_image, is_demo
from swarm.worker.runtime.monitored import MonitoredTasks, log_limits, signal_number
from swarm.worker.runtime.oci import bundle, cgroup, user
from swarm.worker.runtime.oci.images import OciImages
from swarm.worker.runtime.oci.network import NodeNetwork
from swarm.worker.runtime.oci.root import read_inside, unmount
from swarm.worker.runtime.oci.start_errors import start_failure
from swarm.worker.runtime.port import (
    Endpoint,
    ExecOptions,
    ExecProcess,
    Exit,
    Found,
    Health,
    Healthcheck,
    Identity,
    LogLine,
    Port,
    Probe,
    RuntimeFailed,
    RuntimeRefused,
    Started,
    Stats,
    TaskRun,
)
from swarm.worker.runtime.probe_image import ensure_probe_image
from swarm.worker.runtime.subprocess_exec import SubprocessExec, run_check
from swarm.worker.runtime.task_dir import TaskDir
from swarm.worker.runtime.task_files import TaskFiles

PROGRAMS = ("runc", "crun")
PROBE_TIMEOUT_S = 30.0


class OciRuntime:
    """A Runtime (port.py) whose images, layers and tasks live under `state_dir`.

    `program` is the OCI runtime, "" for runc or crun, whichever works. `layout` is the node's store
    of images; without one it has its own under `state_dir`.
    """

    name = "oci"

    def __init__(
        self,
        identity: Identity,
        state_dir: Path,
        program: str = "",
        *,
        nat: bool = True,
        layout: Layout | None = None,
    ) -> None:
        self._directory = state_dir
        self._programs = (program,) if program else PROGRAMS
        self._program = next((name for name in self._programs if shutil.which(name)), "")
        self._tasks = MonitoredTasks(state_dir / "tasks", self._end_leftovers)
        self._images = OciImages(state_dir, self._layers_in_use, layout)
        self._network = NodeNetwork(identity, nat=nat)
        self._files = TaskFiles(identity.cluster_id, identity.node_id)
        self._preparing: dict[str, asyncio.Lock] = {}
        self._demo = asyncio.Lock()
        runs = {task.task_id: task.read_run() or {} for task in self._tasks.tasks()}
        self._network.restore({key: run["address"] for key, run in runs.items() if run})

    @property
    def images(self) -> OciImages:
        return self._images

    async def probe(self) -> Probe:
        if os.geteuid() != 0:
            return Probe(False, "it needs root for mounts and namespaces")
        reasons: list[str] = []
        for program in self._programs:
            if shutil.which(program) is None:
                reasons.append(f"{program} is not installed")
                continue
            self._program = program
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await self._probe_container()
                    return Probe(True, "", await self._version())
            except TimeoutError:
                reasons.append(f"{program} did not run a container in {PROBE_TIMEOUT_S:g} s")
            except (RuntimeRefused, RuntimeFailed, OSError) as error:
                reasons.append(f"{program}: {error}")
        return Probe(False, "; ".join(reasons))

    async def _probe_container(self) -> None:
        await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True)
        image, command = await ensure_probe_image(self._images, self._directory)
        task_id = f"probe{os.getpid()}"
        try:
            await self.prepare(TaskRun(task_id, task_id, image, command=command))
            await self.start(task_id)
            ended = await self.wait(task_id)
        finally:
            await self.remove(task_id)
        if ended.exit_code != 0:
            raise RuntimeFailed(f"a container ended with {ended.exit_code} {ended.message}".strip())

    async def _version(self) -> str:
        process = await asyncio.create_subprocess_exec(self._program, "--version", stdout=PIPE)
        out, _ = await process.communicate()
        return out.decode(errors="replace").partition("\n")[0]

    async def bridge(self) -> str:
        return self._network.bridge

    async def prepare(self, run: TaskRun) -> None:
        task = self._tasks.task(run.task_id)
        async with self._preparing.setdefault(run.task_id, asyncio.Lock()):
            if task.read_run() is not None:
                return
            if task.exists():
                await self._take_apart(run.task_id)  # an earlier agent was killed in its middle
            stored = await self._image(run.image)
            image: dict[str, Any] = stored.config.get("config") or {}
            record = _run_record(run, image)
            bundle.check(run, image)
            try:
                await self._put_together(run, stored, image, record)
            except (RuntimeRefused, RuntimeFailed):
                await self._take_apart(run.task_id)
                raise
            except OSError as error:
                await self._take_apart(run.task_id)
                raise RuntimeFailed(f"cannot make the container: {error}") from None

    async def _image(self, reference: str) -> StoredImage:
        if is_demo(reference):
            self._directory.mkdir(parents=True, exist_ok=True)
            async with self._demo:
                reference = await ensure_demo_image(self._images, reference, self._directory)
        return await self._images.image(reference)

    async def _put_together(
        self, run: TaskRun, stored: StoredImage, image: dict[str, Any], record: dict[str, Any]
    ) -> None:
        task = self._tasks.task(run.task_id)
        layers = await self._images.layers(stored)
        task.path.mkdir(parents=True, mode=0o700, exist_ok=True)
        address = await self._network.attach(run.task_id)

        def build() -> None:
            around = bundle.Surroundings(
                directory=task.path,
                volumes=self._directory / "volumes",
                layers=layers,
                image=image,
                files=self._files.lay(run.task_id, run.files),
                address=address,
                gateway=self._network.gateway,
                netns=self._network.netns_path(run.task_id),
                cgroup=self._group(run.task_id),
            )
            bundle.assemble(run, around)
            names = [layer.name for layer in layers]
            task.write_run({**record, "address": address, "layers": names})

        await asyncio.to_thread(build)

    async def start(self, task_id: str) -> Started:
        task = self._tasks.task(task_id)

        async def launch() -> dict[str, Any]:
            return self._launch(task)

        try:
            started = await self._tasks.start(task_id, launch)
        except RuntimeFailed as error:
            raise start_failure(str(error)) from None
        run = task.read_run() or {}
        address: str = run["address"]
        return Started(
            container_id=task_id,
            pid=started.process.pid if self._tasks.is_running(task_id) else 0,
            started_at_ns=started.started_at_ns,
            address=address,
            endpoints={
                Port(target, protocol): Endpoint(address, target)
                for target, protocol in run["ports"]
            },
            netns=self._network.netns_path(task_id),
        )

    def _launch(self, task: TaskDir) -> dict[str, Any]:
        run = task.read_run() or {}
        console = ["--console-socket", "console"] if run["tty"] else []
        pid_file = str(task.path / "pid")
        options = ["--detach", "--bundle", str(task.path), "--pid-file", pid_file, *console]
        return {
            "kind": "oci",
            "argv": [*self._command(), "run", *options, task.task_id],
            "env": [f"PATH={os.environ.get('PATH', os.defpath)}"],
            "tty": run["tty"],
            "open_stdin": run["open_stdin"],
            "log_bytes_max": run["log_bytes_max"],
            "log_files_max": run["log_files_max"],
            "oom_files": cgroup.oom_files(self._group(task.task_id)),
        }

    def _command(self) -> list[str]:
        if not self._program:
            names = " or ".join(self._programs)
            raise RuntimeFailed(f"there is no OCI runtime on this node: install {names}")
        return [self._program, "--root", str(self._directory / "containers")]

    async def wait(self, task_id: str) -> Exit:
        return await self._tasks.wait(task_id)

    async def stop(self, task_id: str, signal: str = "", grace_s: float = 10.0) -> None:
        run = self._tasks.task(task_id).read_run()
        if run is not None:
            number = signal_number(signal or run["stop_signal"] or "SIGTERM")
            await self._tasks.stop(task_id, number, grace_s)

    async def kill(self, task_id: str) -> None:
        await self.stop(task_id, "SIGKILL", 0)

    async def remove(self, task_id: str) -> None:
        await self.kill(task_id)
        await self._take_apart(task_id)

    async def _take_apart(self, task_id: str) -> None:
        task = self._tasks.task(task_id)
        launched = task.read_launch() is not None
        await asyncio.gather(
            self._delete_container(task_id) if launched else _nothing(),
            self._network.detach(task_id),
        )
        await asyncio.to_thread(unmount, task.path / "rootfs")
        await asyncio.to_thread(self._files.remove, task_id)
        await self._tasks.forget(task_id)
        self._preparing.pop(task_id, None)

    async def _delete_container(self, task_id: str) -> None:
        """Kills what runs of it and removes its cgroup; one that is not there is no error."""
        process = await asyncio.create_subprocess_exec(
            *self._command(), "delete", "--force", task_id, stdout=DEVNULL, stderr=DEVNULL
        )
        await process.wait()

    async def _end_leftovers(self, task: TaskDir) -> None:
        await self._delete_container(task.task_id)

    def _group(self, task_id: str) -> str:
        return cgroup.group_path(self._network.netns_name(task_id))

    def _layers_in_use(self) -> set[str]:
        runs = [task.read_run() or {} for task in self._tasks.tasks()]
        return {name for run in runs for name in run.get("layers", ())}

    def logs(
        self,
        task_id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ns: int = 0,
        until_ns: int = 0,
        streams: Sequence[str] = ("stdout", "stderr"),
    ) -> AsyncIterator[LogLine]:
        return self._tasks.logs(
            task_id, follow=follow, tail=tail, since_ns=since_ns, until_ns=until_ns, streams=streams
        )

    async def list(self) -> list[Found]:
        return await self._tasks.list()

    async def health(self, task_id: str) -> AsyncIterator[Health]:
        started = self._tasks.task(task_id).started()
        run = self._tasks.task(task_id).read_run()
        if started is None or run is None:
            raise RuntimeFailed(f"task {task_id} was not started on this node")
        check = Healthcheck(**run["healthcheck"]) if run["healthcheck"] else None

        async def once(command: tuple[str, ...]) -> tuple[int, bytes]:
            return await run_check(await self._exec(task_id, ExecOptions(command)))

        async for health in healthcheck.watch(
            check,
            started.started_at_ns,
            once,
            lambda: self.wait(task_id),
            shell=tuple(run["shell"]),
        ):
            yield health

    async def stats(self, task_id: str) -> Stats:
        self._tasks.running_process(task_id)
        return await asyncio.to_thread(cgroup.stats, self._group(task_id))

    async def exec(self, task_id: str, options: ExecOptions) -> ExecProcess:
        return await self._exec(task_id, options)

    async def _exec(self, task_id: str, options: ExecOptions) -> SubprocessExec:
        self._tasks.running_process(task_id)
        flags: list[str] = []
        if options.tty:
            flags.append("--tty")
        if options.working_dir:
            flags += ["--cwd", options.working_dir]
        for item in options.env:
            flags += ["--env", item]
        if options.user:
            root = self._tasks.task(task_id).path / "rootfs"
            passwd, group = read_inside(root, "etc/passwd"), read_inside(root, "etc/group")
            account = user.resolve(options.user, (), passwd, group)
            flags += ["--user", f"{account.uid}:{account.gid}"]
        return await SubprocessExec.start(
            (*self._command(), "exec", *flags, task_id, *options.command),
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd="/",
            tty=options.tty,
            open_stdin=options.open_stdin,
        )

    async def close(self) -> None:
        await self._tasks.close()


async def _nothing() -> None:
    return


def _run_record(run: TaskRun, image: dict[str, Any]) -> dict[str, Any]:
    """What `run.json` keeps. Raises RuntimeRefused for options that are not known here."""
    bytes_max, files_max = log_limits(run.log_driver, dict(run.log_options))
    stop_signal = run.stop_signal or str(image.get("StopSignal") or "")
    if stop_signal:
        signal_number(stop_signal)
    check = healthcheck.merged(run.healthcheck, _image_check(image))
    names = Healthcheck.__dataclass_fields__
    return {
        "name": run.name,
        "labels": dict(run.labels),
        "tty": run.tty,
        "open_stdin": run.open_stdin,
        "stop_signal": stop_signal,
        "ports": [[port.target, port.protocol] for port in run.ports],
        "log_bytes_max": bytes_max,
        "log_files_max": files_max,
        "healthcheck": {name: getattr(check, name) for name in names} if check else None,
        "shell": image.get("Shell") or ["/bin/sh", "-c"],
    }


def _image_check(image: dict[str, Any]) -> Healthcheck | None:
    """HEALTHCHECK of a Dockerfile, which Docker keeps in the image's config."""
    check: dict[str, Any] = image.get("Healthcheck") or {}
    if not check.get("Test"):
        return None
    return Healthcheck(
        tuple(check["Test"]),
        check.get("Interval", 0),
        check.get("Timeout", 0),
        check.get("Retries", 0),
        check.get("StartPeriod", 0),
        check.get("StartInterval", 0),
    )
