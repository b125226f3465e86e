"""A local cluster before an audience: commands shown as they are run, answers over HTTP, and
waiting for what is announced."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeVar

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING
from swarm.cli.client import Client
from swarm.cli.errors import CliError
from swarm.local import members
from swarm.local.errors import LocalError
from swarm.local.record import LocalCluster, LocalNode

T = TypeVar("T")

PORT = 8080
"""What the demonstration's service publishes, where it is free."""
_PORTS_TRIED = 50
_POLL_S = 0.02
_HTTP_TIMEOUT_S = 5.0


class Stage:
    """`say` gets a line at a time."""

    def __init__(self, cluster: LocalCluster, client: Client, say: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.client = client
        self.say = say

    def swarmctl(self, *words: str) -> None:
        """Show the command and what it prints. LocalError where it fails."""
        self.say("")
        self.say(f"$ swarmctl {' '.join(words)}")
        done = subprocess.run(
            [sys.executable, "-P", "-m", "swarm.cli", *words],
            env={**os.environ, "SWARM_HOST": ",".join(self.cluster.hosts)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            self.say(line.rstrip())
        if done.returncode != 0:
            raise LocalError(f"swarmctl {words[0]}: {' '.join(done.stderr.split())}")

    def leader(self, timeout_s: float = 15.0, besides: str = "") -> LocalNode:
        """Who leads, as soon as somebody other than `besides` does. LocalError."""

        def look() -> LocalNode | None:
            found = members.leader(self.cluster, self.client)
            return found if found is not None and found.name != besides else None

        return self._until(look, timeout_s, "no manager leads")

    def running_on(self, service: str) -> list[str]:
        """The node of each running task. CliError."""
        answer = self.client.ask(
            lambda stubs: stubs.control.GetService, pb.GetServiceRequest(reference=service)
        )
        tasks = self.client.ask(
            lambda stubs: stubs.control.ListTasks,
            pb.ListTasksRequest(service_ids=[answer.service.service.id]),
        ).tasks
        nodes = self.client.ask(lambda stubs: stubs.control.ListNodes, pb.ListNodesRequest()).nodes
        names = {view.node.id: view.node.description.hostname for view in nodes}
        return [
            names.get(view.task.node_id, "")
            for view in tasks
            if view.task.status.state == TASK_STATE_RUNNING
            and view.task.desired_state == TASK_STATE_RUNNING
        ]

    def wait_running(
        self, service: str, replicas: int, *, without: Collection[str] = (), timeout_s: float = 60.0
    ) -> float:
        """Until so many tasks run on nodes other than these; the seconds that it took."""
        started = time.monotonic()

        def look() -> bool:
            nodes = [name for name in self.running_on(service) if name not in without]
            return len(nodes) >= replicas

        self._until(look, timeout_s, f"{service} has not {replicas} tasks running")
        return time.monotonic() - started

    def answer(self, url: str, timeout_s: float = 20.0) -> dict[str, str]:
        """What the service says of itself over HTTP: service, slot, node, ... LocalError."""

        def get() -> dict[str, str]:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=_HTTP_TIMEOUT_S) as response:
                head = response.read().decode(errors="replace").partition("\n\n")[0]
            return dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)

        return self._until(get, timeout_s, f"{url} does not answer")

    def published_port(self, service: str) -> int:
        """CliError where there is no such service."""
        answer = self.client.ask(
            lambda stubs: stubs.control.GetService, pb.GetServiceRequest(reference=service)
        )
        return answer.service.service.ports[0].published_port

    def _until(self, look: Callable[[], T | None], timeout_s: float, problem: str) -> T:
        deadline = time.monotonic() + timeout_s
        while True:
            with suppress(CliError, OSError):
                found = look()
                if found:
                    return found
            if time.monotonic() > deadline:
                raise LocalError(f"{problem} within {timeout_s:g} s")
            time.sleep(_POLL_S)


def port_flag(cluster: LocalCluster) -> str:
    """For `service create -p`: a port that is free on this machine; an automatic one where the
    nodes share an address."""
    if not cluster.block:
        return "8000"
    for port in range(PORT, PORT + _PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((cluster.nodes[0].host, port))
                probe.listen(1)
                return f"{port}:8000"
    return "8000"
