"""Logs that are followed survive their manager: agents move, tasks are replaced, lines go on."""

import secrets
import threading
from collections.abc import Iterator

import grpc
import pytest
from daemons import Daemons, leader_of, until

from swarm.api.v1 import control_pb2 as control
from swarm.api.v1.logs_pb2 import LogOptions
from swarm.api.v1.service_pb2 import ServiceSpec

TICKS = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done"


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    running = Daemons()
    yield running
    running.close()


def test_followed_logs_go_on_when_the_leader_is_killed(daemons: Daemons) -> None:
    nodes = daemons.cluster(3)
    spec = ServiceSpec()
    spec.annotations.name = "ticks"
    spec.task.container.image = "sh"
    spec.task.container.command.extend(["sh", "-c", TICKS])
    spec.replicated.replicas = 3
    leader = leader_of(nodes)
    reader = next(node for node in nodes if node is not leader)
    reader.control.CreateService(
        control.CreateServiceRequest(request_id=secrets.token_hex(8), spec=spec), timeout=20
    )
    until(lambda: len(reader.running()) == 3)
    on_survivors = {task.id for task in reader.tasks() if task.node_id != leader.info().node_id}
    lines: dict[str, list[int]] = {}
    stream = reader.control.ServiceLogs(
        control.ServiceLogsRequest(
            references=["ticks"],
            options=LogOptions(follow=True, tail=-1, stdout=True, stderr=True),
        )
    )

    def read() -> None:
        try:
            for answer in stream:
                for line in answer.lines:
                    number = int(line.data.split()[-1])
                    lines.setdefault(line.task_id, []).append(number)
        except grpc.RpcError:
            pass  # cancelled below

    thread = threading.Thread(target=read)
    thread.start()
    try:
        until(lambda: len(lines) == 3)
        leader.stop_hard()
        seen = {task: len(lines[task]) for task in on_survivors}
        until(lambda: all(len(lines[task]) > seen[task] + 100 for task in on_survivors), 40)
        # The lost leader's task runs elsewhere, and is followed without being asked for.
        until(lambda: len(lines) == 4, 40)
    finally:
        stream.cancel()
        thread.join()
    for task in on_survivors:
        assert lines[task] == list(range(1, len(lines[task]) + 1)), "none lost, none twice"
