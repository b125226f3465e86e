"""A Docker Engine of the tests' own: its files, socket, bridge and processes are nobody else's."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


def missing_for_engine() -> str:
    """Why no engine can be run here, "" where one can."""
    if os.geteuid() != 0:
        return "an engine needs root"
    for program in ("dockerd", "containerd", "runc", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return ""


class Engine:
    """`start` and `stop`; between them `socket_path` answers the Engine API."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="engine"))
        self.socket_path = self.directory / "docker.sock"
        self._bridge = f"dk{random.getrandbits(40):010x}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._make_bridge()
        directory = self.directory
        arguments = [
            f"--data-root={directory}/data",
            f"--exec-root={directory}/exec",
            f"--pidfile={directory}/docker.pid",
            f"--host=unix://{self.socket_path}",
            f"--bridge={self._bridge}",
            f"--config-file={directory}/daemon.json",
            "--iptables=false",
            "--ip-masq=false",
            "--ip-forward=false",
            "--log-level=warn",
        ]
        (directory / "daemon.json").write_text("{}")
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["dockerd", *arguments], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (directory / "log").read_text()[-2000:]
                self.stop()
                raise RuntimeError(f"dockerd did not start: {said}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket_path))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200 OK" in client.recv(1024)
        return False

    def _make_bridge(self) -> None:
        used = [
            ipaddress.ip_interface(f"{address['local']}/{address['prefixlen']}").network
            for link in json.loads(_run("ip", "-j", "-4", "addr"))
            for address in link["addr_info"]
        ]
        free = [
            network
            for network in ipaddress.ip_network("10.254.0.0/16").subnets(new_prefix=24)
            if not any(network.overlaps(other) for other in used)
        ]
        network = random.choice(free)
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{network[1]}/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")

    def stop(self) -> None:
        """Ends it and leaves nothing: processes, mounts, bridge, files."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._end_processes()
        for mount in sorted(self._mounts(), reverse=True):
            _run("umount", "-l", mount)
        subprocess.run(["ip", "link", "del", self._bridge], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _mounts(self) -> list[str]:
        points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
        return [point for point in points if point.startswith(f"{self.directory}/")]

    def _end_processes(self) -> None:
        """containerd and shims name our directory in their arguments."""
        mark = f"{self.directory}/".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (entry / "cmdline").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
