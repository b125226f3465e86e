"""`swarmctl local demo failover`: a leader and a worker are lost, and what becomes of that."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from swarm.api.v1 import control_pb2 as pb
from swarm.cli.client import Client, NotFoundError, new_request_id
from swarm.local import cluster as clusters
from swarm.local import members, processes, record
from swarm.local.errors import LocalError
from swarm.local.record import MANAGER, LocalCluster, LocalNode
from swarm.local.stage import Stage, port_flag
from swarm.local.writers import Writers, missing, remove_all
from swarm.worker.runtime.demo import DEMO_NAME

Say = Callable[[str], None]

SERVICE = "failover"
_WRITERS = "failover-write"
_REPLICAS = 3
_MANAGERS, _WORKERS = 3, 2
_TAKEOVER_TIMEOUT_S = 30.0


def run(folder: Path, runtime: str, say: Say) -> None:
    """On the cluster in `folder`, which is left as it was; or on one of its own, which is
    removed. LocalError where a promise is broken."""
    if record.exists(folder):
        cluster = record.load(folder)
        _check(cluster)
        with members.asking(cluster) as client:
            _clear(client)
            try:
                _Failover(Stage(cluster, client, say)).show()
            finally:
                _clear(client)
        return
    cluster = clusters.up(folder, _MANAGERS, _WORKERS, runtime, say)
    try:
        with members.asking(cluster) as client:
            _Failover(Stage(cluster, client, say)).show()
    finally:
        clusters.down(folder)
    say("The cluster of the demonstration is removed.")


def _check(cluster: LocalCluster) -> None:
    stopped = [node.name for node in cluster.nodes if processes.daemon(node) is None]
    if stopped:
        raise LocalError(f"{', '.join(stopped)} does not run: `swarmctl local start --all` first")
    if len(cluster.managers) < _MANAGERS:
        raise LocalError("losing a leader takes three managers: make the cluster with --managers 3")


def _clear(client: Client) -> None:
    remove_all(client, _WRITERS)
    request = pb.RemoveServiceRequest(request_id=new_request_id(), reference=SERVICE)
    with suppress(NotFoundError):
        client.ask(lambda stubs: stubs.control.RemoveService, request)


class _Failover:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._say = stage.say
        self._writers = Writers(stage.client, _WRITERS, DEMO_NAME)

    def show(self) -> None:
        flag = port_flag(self._stage.cluster)
        self._stage.swarmctl(
            *("service", "create", "--quiet", "--name", SERVICE),
            *("--replicas", str(_REPLICAS), "-p", flag, DEMO_NAME),
        )
        self._stage.swarmctl("service", "ps", SERVICE)
        self._say("")
        self._say("Two clients write from now on, one service after another.")
        self._writers.start()
        try:
            self._lose_the_leader()
            self._lose_a_worker()
        finally:
            writes = self._writers.stop()
        lost = missing(self._stage.client, writes)
        if lost:
            raise LocalError(
                f"{len(lost)} of {len(writes)} acknowledged writes are lost: {lost[0]}"
            )
        self._say("")
        self._say(f"All {len(writes)} writes that were acknowledged on the way are there.")

    def _lose_the_leader(self) -> None:
        leader = self._stage.leader()
        self._say("")
        self._say(f"{leader.name} leads. Its power is cut: daemon, agent and tasks die at once.")
        moment = self._cut(leader)
        write = self._writers.first_after(moment, _TAKEOVER_TIMEOUT_S)
        if write is None:
            raise LocalError(f"no write was accepted within {_TAKEOVER_TIMEOUT_S:g} s")
        successor = self._stage.leader(besides=leader.name)
        self._say(
            f"{successor.name} took over: the first new write was accepted after "
            f"{(write.acknowledged - moment) * 1000:.0f} ms."
        )
        self._see_replaced(leader, moment)

    def _lose_a_worker(self) -> None:
        victim = self._victim()
        self._say("")
        self._say(f"{victim.name} runs a task. Its power is cut too.")
        self._see_replaced(victim, self._cut(victim))

    def _victim(self) -> LocalNode:
        """A node with a task; a worker if there is one, and the leader in no case."""
        self._stage.wait_running(SERVICE, _REPLICAS)
        names = self._stage.running_on(SERVICE)
        leader = self._stage.leader().name
        busy = [node for node in self._stage.cluster.nodes if node.name in names]
        found = [node for node in busy if node.name != leader]
        found.sort(key=lambda node: node.role == MANAGER)
        return found[0] if found else busy[0]

    def _cut(self, node: LocalNode) -> float:
        """The moment at which its processes were gone."""
        clusters.kill(self._stage.cluster, [node.name], daemon_only=False)
        return time.monotonic()

    def _see_replaced(self, lost: LocalNode, moment: float) -> None:
        self._stage.wait_running(SERVICE, _REPLICAS, without=[lost.name])
        took_s = time.monotonic() - moment
        self._say(f"{_REPLICAS} of {_REPLICAS} tasks run on other nodes after {took_s:.1f} s.")
        self._stage.swarmctl("service", "ps", "--filter", "desired-state=running", SERVICE)
        node = next(node for node in self._stage.cluster.nodes if node.name != lost.name)
        url = f"http://{node.host}:{self._stage.published_port(SERVICE)}/"
        said = self._stage.answer(url)
        self._say("")
        self._say(f"{url} answers: slot {said.get('slot')} on {said.get('node')}.")
        clusters.start(self._stage.cluster, [lost.name])
        self._say(f"{lost.name} is started again, and ready.")
