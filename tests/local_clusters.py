"""`swarmctl local` as a user runs it: clusters of real processes, in folders of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

UP_TIMEOUT_S = 120.0


def until(what: Callable[[], T], timeout_s: float = 30.0, saying: str = "") -> T:
    """The first answer that counts as true."""
    deadline = time.monotonic() + timeout_s
    while not (answer := what()):
        assert time.monotonic() < deadline, f"{saying or what} within {timeout_s:g} s"
        time.sleep(0.05)
    return answer


class Local:
    """A folder for one cluster, and swarmctl for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, timeout_s: float = UP_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SWARM_LOCAL_DIR": str(self.folder)}
        environment.pop("SWARM_HOST", None)
        if (self.folder / "cluster.json").exists():
            environment["SWARM_HOST"] = ",".join(self.hosts())
        return subprocess.run(
            [sys.executable, "-m", "swarm.cli", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def do(self, *words: str, timeout_s: float = UP_TIMEOUT_S) -> str:
        """What it prints; an assertion when it fails."""
        done = self.run(*words, timeout_s=timeout_s)
        assert done.returncode == 0, f"swarmctl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def hosts(self) -> list[str]:
        nodes = json.loads((self.folder / "cluster.json").read_text())["nodes"]
        return [f"unix://{node['socket']}" for node in nodes if node["role"] == "manager"]

    def rows(self, *words: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.do(*words, "--format", "json").splitlines()]

    def nodes(self) -> dict[str, dict[str, str]]:
        return {row["Name"]: row for row in self.rows("local", "ps")}

    def leader(self) -> str:
        def look() -> list[str]:
            return [name for name, row in self.nodes().items() if row["Leader"]]

        return until(look, saying="a leader")[0]

    def running(self, service: str) -> dict[str, str]:
        """Node of each task that is to run and does, by task id."""
        rows = self.rows(
            "service", "ps", "--no-trunc", "--filter", "desired-state=running", service
        )
        return {r["ID"]: r["Node"] for r in rows if r["CurrentState"].startswith("Running")}

    def address(self, node: str) -> str:
        return self.nodes()[node]["Address"]

    def answer(self, node: str, port: int) -> dict[str, str]:
        """Of the demo service: which task it is."""

        def get() -> dict[str, str] | None:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(f"http://{address}:{port}/", timeout=5) as response:
                    head = response.read().decode().partition("\n\n")[0]
            except (urllib.error.URLError, OSError):
                return None
            return dict(line.split(": ", 1) for line in head.splitlines())

        address = self.address(node)
        return until(get, saying=f"an answer at {address}:{port}")


class Locals:
    """Makes clusters; `close` removes them and sees that nothing is left."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="local"))
        self._made: list[Local] = []

    def folder(self) -> Local:
        local = Local(self._root / f"c{len(self._made)}")
        self._made.append(local)
        return local

    def up(self, managers: int = 3, workers: int = 2, runtime: str = "process") -> Local:
        local = self.folder()
        counts = ("--managers", str(managers), "--workers", str(workers))
        local.do("local", "up", *counts, "--runtime", runtime)
        return local

    def close(self) -> None:
        for local in self._made:
            if local.folder.exists():
                local.do("local", "down")
        left = [*processes_of(self._root), *mounts_of(self._root), *self._root.iterdir()]
        shutil.rmtree(self._root)
        assert not left


def processes_of(folder: Path) -> list[str]:
    """Command lines of live processes that name the folder, or have a file in it open."""
    mark = os.fsencode(folder)
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            links = [os.fsencode((entry / "cwd").readlink())]
            links += [os.fsencode(link.readlink()) for link in (entry / "fd").iterdir()]
        except OSError:
            continue
        if mark in words or any(link.startswith(mark) for link in links):
            found.append(f"{entry.name} {words.decode(errors='replace')}")
    return found


def mounts_of(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(folder) in line]
