"""Docker Engines of the benchmark's own, each in namespaces of its own.

Network, mounts, processes and host name are the engine's alone; when its first process ends, so
does everything it started, and its network goes with it. Nothing of another engine is touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import processes
from benchmarks.docker_api import EngineApi
from benchmarks.network import Namespace
from swarm.worker.runtime.demo import write_demo_image

_START_TIMEOUT_S = 30.0
_PROGRAMS = ("dockerd", "containerd", "runc", "docker", "unshare", "nsenter", "ip")


def missing() -> str:
    """Why no engine can be run here; "" where one can."""
    if os.geteuid() != 0:
        return "an engine needs root"
    absent = [program for program in _PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


class Engine:
    """`start` and `stop`; `socket` answers in between. `kill` is a power cut."""

    def __init__(self, name: str = "engine", place: Namespace | None = None) -> None:
        """In `place`, another's namespace, it has no docker0 bridge and no packet filter."""
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix="bench-engine-"))
        self.socket = self.folder / "docker.sock"
        self._place = place
        self._own_place: Namespace | None = None
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "run").mkdir()
        (self.folder / "daemon.json").write_text("{}")

    @property
    def api(self) -> EngineApi:
        return EngineApi(self.socket)

    def start(self) -> None:
        """RuntimeError with the end of its log where it does not start."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        (self.folder / "run").mkdir()
        self.socket.unlink(missing_ok=True)
        flags = [
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/run/exec",
            f"--pidfile={self.folder}/run/pid",
            f"--config-file={self.folder}/daemon.json",
            f"--host=unix://{self.socket}",
        ]
        if self._place is not None:
            flags += ["--bridge=none", "--iptables=false", "--ip-masq=false"]
        script = (
            f"mount --make-rprivate / && mount -t proc proc /proc"
            f" && mount --bind {self.folder}/run /run && hostname {self.name}"
            f" && exec dockerd {' '.join(flags)}"
        )
        if self._place is None and self._own_place is None:
            self._own_place = Namespace()
        place = self._place or self._own_place
        assert place is not None
        self._process = processes.start(
            [
                *place.inside(),
                *("unshare", "-m", "-u", "-p", "--fork", "--kill-child", "sh", "-c", script),
            ],
            self.folder / "log",
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd: {processes.last_lines(self.folder / 'log')}")
            time.sleep(0.05)

    async def load_demo_image(self) -> None:
        archive = self.folder / "demo.tar"
        if not archive.exists():
            await write_demo_image(archive)
        self.docker("load", "-qi", str(archive))

    def docker(self, *arguments: str) -> str:
        """Docker's own command line."""
        command = ["docker", "-H", f"unix://{self.socket}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def pids(self) -> list[int]:
        """dockerd and containerd."""
        found: list[int] = []
        if self._process is not None:
            pending = processes.children_of(self._process.pid)
            while pending:
                pid = pending.pop()
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/comm").read_text().strip() in ("dockerd", "containerd"):
                        found.append(pid)
                        pending += processes.children_of(pid)
        return found

    def kill(self) -> None:
        """All its processes and containers at once."""
        if self._process is not None:
            processes.kill(processes.children_of(self._process.pid))
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        self.kill()
        if self._own_place is not None:
            self._own_place.close()
        _remove(self.folder)

    def _answers(self) -> bool:
        try:
            self.api.call("GET", "/info")
        except OSError:
            return False
        return True


def _remove(folder: Path) -> None:
    """Its last processes may still be on the way out."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
