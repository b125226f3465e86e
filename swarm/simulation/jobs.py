"""Jobs as users ask for them, and how they must end."""

from __future__ import annotations

import random

from swarm.api.v1.node_pb2 import NODE_AVAILABILITY_ACTIVE
from swarm.api.v1.service_pb2 import RESTART_CONDITION_ON_FAILURE, Service, ServiceSpec
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.orchestrator.jobs import is_complete
from swarm.manager.core.store import SlotKey, View, slot_key, wanted
from swarm.simulation.containers import JOB_IMAGE

_COMPLETIONS_MAX = 6


def draw_job(rng: random.Random, spec: ServiceSpec) -> None:
    """Make a job of the spec."""
    spec.task.container.image = JOB_IMAGE
    spec.task.restart.condition = RESTART_CONDITION_ON_FAILURE
    spec.task.container.ClearField("health_check")
    spec.ClearField("endpoint")
    if rng.random() < 0.2:
        spec.global_job.SetInParent()
        return
    spec.replicated_job.total_completions = rng.randint(1, _COMPLETIONS_MAX)
    spec.replicated_job.max_concurrent = rng.randint(1, 3)


def change_job(rng: random.Random, spec: ServiceSpec) -> None:
    """More, fewer, or the same again: it runs anew."""
    if spec.HasField("replicated_job") and rng.random() < 0.7:
        spec.replicated_job.total_completions = rng.randint(0, _COMPLETIONS_MAX)
        spec.replicated_job.max_concurrent = rng.randint(1, 3)


def open_nodes(view: View) -> list[str]:
    """Those that take tasks when the storm is over."""
    return [n.id for n in view.nodes() if n.spec.availability == NODE_AVAILABILITY_ACTIVE]


def job_problem(service: Service, spec: ServiceSpec, view: View) -> str | None:
    """Why the job is not at its end; None where it is."""
    tasks = list(view.tasks_of_service(service.id))
    if any(wanted(task) for task in tasks):
        return "still has something to run"
    slots: dict[SlotKey, list[Task]] = {}
    for task in tasks:
        slots.setdefault(slot_key(task), []).append(task)
    complete = sum(
        is_complete(service, mine)
        for slot, mine in slots.items()
        if slot.slot <= spec.replicated_job.total_completions
        and (slot.slot or slot.node_id in open_nodes(view))
    )
    expected = spec.replicated_job.total_completions
    if spec.HasField("global_job"):
        expected = len(open_nodes(view))
    if complete != expected:
        return f"is complete in {complete} of {expected} slots"
    return None
