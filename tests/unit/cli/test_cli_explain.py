"""`swarmctl explain`: what a user reads."""

import time

from swarm.api.v1 import control_pb2 as pb
from swarm.api.v1.logs_pb2 import LogLine
from swarm.api.v1.node_pb2 import NODE_STATE_READY, Node, NodeStatus
from swarm.api.v1.task_pb2 import (
    TASK_STATE_FAILED,
    TASK_STATE_RUNNING,
    ContainerStatus,
    Task,
    TaskStatus,
)

NS = 1_000_000_000


def test_service(manager, cluster, swarmctl) -> None:
    now_ns = time.time_ns()
    failed = TaskStatus(
        state=TASK_STATE_FAILED,
        timestamp_ns=now_ns - 5 * NS,
        err="task: non-zero exit (3)",
        container=ContainerStatus(exit_code=3),
    )
    running = Task(service_name="web", slot=1, status=TaskStatus(state=TASK_STATE_RUNNING))
    cluster.explanation = pb.ExplainResponse(
        index=9,
        name="web",
        running=1,
        wanted=3,
        waiting=[
            pb.WaitingTasks(
                service_name="web",
                tasks=1,
                slots=[3],
                refusals=[pb.NodeRefusal(hostname="beta", reason="needs 2 CPUs, 0.5 free")],
            )
        ],
        failing=[
            pb.FailingSlot(
                service_name="web",
                slot=2,
                attempts=[pb.TaskAttempt(task_id="t1", hostname="beta", status=failed)],
                next_attempt_at_ns=now_ns + 3600 * NS,
            )
        ],
        placed=[pb.PlacedTask(task=running, hostname="alpha", reason="no other node takes it")],
    )
    cluster.log_answers = [pb.ServiceLogsResponse(lines=[LogLine(data=b"no database")])]
    shown = swarmctl("explain", "service", "web")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == (
        "service web: 1 of 3 tasks run\n"
        "\n"
        "web.3 fits on no node\n"
        "    beta: needs 2 CPUs, 0.5 free\n"
        "It is tried again the moment one of these changes.\n"
        "\n"
        "web.2 failed; the last attempts:\n"
        "    5 seconds ago on beta: task: non-zero exit (3)\n"
        "    it is tried again in 1h0m0s\n"
        "    the last lines of its log:\n"
        "        no database\n"
        "\n"
        "web.1 is running on alpha: no other node takes it\n"
        "\n"
        "Computed from the state of now (index 9).\n"
    )
    assert cluster.log_requests[0].references == ["t1"]
    assert cluster.log_requests[0].options.tail == 5
    assert manager.requests[0].service == "web"


def test_node(manager, cluster, swarmctl) -> None:
    cluster.explanation = pb.ExplainResponse(
        name="beta",
        running=1,
        wanted=2,
        node=pb.NodeUse(
            node=Node(status=NodeStatus(state=NODE_STATE_READY)),
            resources=[
                pb.ResourceUse(kind="CPUs", total=4 * NS, reserved=NS // 2),
                pb.ResourceUse(kind="memory", total=8 << 30, reserved=2 << 30),
                pb.ResourceUse(kind="gpu", total=2, reserved=2),
            ],
            refusal="is paused",
        ),
        placed=[
            pb.PlacedTask(task=Task(service_name="web", slot=1), reason="reserves 0.5 CPUs"),
            pb.PlacedTask(task=Task(service_name="agent"), reason="reserves nothing"),
        ],
        waiting=[
            pb.WaitingTasks(
                service_name="db", tasks=2, refusals=[pb.NodeRefusal(reason="is paused")]
            )
        ],
    )
    assert swarmctl("explain", "node", "self").out == (
        "node beta: ready, active, 1 of 2 tasks run\n"
        "  takes no tasks: it is paused\n"
        "  CPUs: 0.5 of 4 reserved, 3.5 free\n"
        "  memory: 2GiB of 8GiB reserved, 6GiB free\n"
        "  gpu: 2 of 2 reserved, 0 free\n"
        "\n"
        "tasks\n"
        "  web.1  reserves 0.5 CPUs\n"
        "  agent  reserves nothing\n"
        "\n"
        "not here\n"
        "  2 of db wait: is paused\n"
    )
    assert manager.requests[-1].node == "m1"
