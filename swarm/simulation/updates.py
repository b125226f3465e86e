"""Updates as users ask for them, of images that run and one that does not; how they must end."""

from __future__ import annotations

import random

from swarm.api.v1.service_pb2 import (
    UPDATE_FAILURE_ACTION_CONTINUE,
    UPDATE_FAILURE_ACTION_PAUSE,
    UPDATE_FAILURE_ACTION_ROLLBACK,
    UPDATE_ORDER_START_FIRST,
    UPDATE_ORDER_STOP_FIRST,
    UPDATE_STATE_PAUSED,
    UPDATE_STATE_ROLLBACK_PAUSED,
    Service,
    ServiceSpec,
)
from swarm.manager.core.orchestrator.update_status import in_progress, is_paused
from swarm.manager.core.store import View, wanted
from swarm.simulation.containers import BROKEN_IMAGE

_SECOND_NS = 1_000_000_000


def draw_image(rng: random.Random) -> str:
    return BROKEN_IMAGE if rng.random() < 0.25 else f"image:{rng.randrange(3)}"


def draw_updates(rng: random.Random, spec: ServiceSpec) -> None:
    """How it is updated and rolled back."""
    for config in (spec.update, spec.rollback):
        config.parallelism = rng.choice((0, 1, 2))
        config.delay_ns = rng.choice((0, _SECOND_NS // 10))
        config.monitor_ns = rng.choice((_SECOND_NS // 5, _SECOND_NS, 3 * _SECOND_NS))
        config.max_failure_ratio = rng.choice((0.0, 0.0, 0.3))
        config.order = rng.choice((UPDATE_ORDER_STOP_FIRST, UPDATE_ORDER_START_FIRST))
        config.failure_action = rng.choice(
            (UPDATE_FAILURE_ACTION_PAUSE, UPDATE_FAILURE_ACTION_CONTINUE)
        )
    if rng.random() < 0.4:
        spec.update.failure_action = UPDATE_FAILURE_ACTION_ROLLBACK


def stuck_updates(view: View) -> list[tuple[str, int, ServiceSpec]]:
    """Paused ones that leave tasks which never run: (service id, version, spec), to be updated
    with the same spec."""
    stuck: list[tuple[str, int, ServiceSpec]] = []
    for service in view.services():
        spec = view.spec(service.id, service.revision)
        if spec is None or not is_paused(service):
            continue
        revisions = {t.revision for t in view.tasks_of_service(service.id) if wanted(t)}
        specs = [view.spec(service.id, revision) for revision in revisions]
        if any(s is not None and s.task.container.image == BROKEN_IMAGE for s in specs):
            again = ServiceSpec()
            again.CopyFrom(spec)
            stuck.append((service.id, service.meta.version, again))
    return stuck


def end_problem(service: Service, spec: ServiceSpec) -> str | None:
    """Has the update ended as its spec says? None where it has."""
    state, action = service.update.state, spec.update.failure_action
    if in_progress(service):
        return f"is still being updated: {service.update.message}"
    paused = state == UPDATE_STATE_PAUSED
    helpless = "can't be rolled back" in service.update.message
    if paused and action != UPDATE_FAILURE_ACTION_PAUSE and not helpless:
        return f"is paused, though it shall not be: {service.update.message}"
    if (
        state == UPDATE_STATE_ROLLBACK_PAUSED
        and spec.rollback.failure_action == UPDATE_FAILURE_ACTION_CONTINUE
    ):
        return f"is paused while rolling back, though it shall not be: {service.update.message}"
    return None


def mended(spec: ServiceSpec) -> None:
    """An image that never runs is replaced, and it is all the same how."""
    if spec.task.container.image == BROKEN_IMAGE:
        spec.task.container.image = "image:0"
