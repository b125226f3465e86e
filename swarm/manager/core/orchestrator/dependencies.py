"""What a service depends on (`depends_on`): its tasks are held back until that has come so far.

It is waited for once, when the service is created: then `Service.held` is taken off for good, and
what its dependencies do later is no affair of this one's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from swarm.api.v1.service_pb2 import (
    DEPENDENCY_CONDITION_COMPLETED,
    DEPENDENCY_CONDITION_HEALTHY,
    Service,
    ServiceDependency,
    ServiceSpec,
)
from swarm.api.v1.task_pb2 import TASK_STATE_COMPLETE, TASK_STATE_RUNNING, Task, TaskState
from swarm.manager.core.modes import is_job
from swarm.manager.core.store import SlotKey, View, slot_key


class Dependents:
    """Which held services wait for which: so that a task's progress concerns those alone."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, None]] = {}
        self._names: dict[str, tuple[str, ...]] = {}

    def note(self, service_id: str, service: Service | None, spec: ServiceSpec | None) -> None:
        """The service is so now."""
        for name in self._names.pop(service_id, ()):
            waiting = self._of[name]
            del waiting[service_id]
            if not waiting:
                del self._of[name]
        if service is None or spec is None or not service.held:
            return
        names = tuple(dict.fromkeys(d.service_name for d in spec.depends_on))
        self._names[service_id] = names
        for name in names:
            self._of.setdefault(name, {})[service_id] = None

    def of(self, service_name: str) -> Iterable[str]:
        """The ids of the held services that wait for it."""
        return list(self._of.get(service_name, ()))

    def held(self) -> Iterable[str]:
        """All that are held."""
        return list(self._names)


def unmet(view: View, spec: ServiceSpec) -> Iterator[ServiceDependency]:
    """What the service still waits for. A service that is gone is not waited for."""
    for dependency in spec.depends_on:
        service = view.service_by_name(dependency.service_name)
        wanted = view.spec(service.id, service.revision) if service is not None else None
        if service is None or wanted is None:
            continue
        if not _has_come(view, service, wanted, dependency):
            yield dependency


def in_words(dependency: ServiceDependency) -> str:
    """For who waits: "db to be healthy"."""
    match dependency.condition:
        case x if x == DEPENDENCY_CONDITION_COMPLETED:
            return f"{dependency.service_name} to complete"
        case x if x == DEPENDENCY_CONDITION_HEALTHY:
            return f"{dependency.service_name} to be healthy"
        case _:
            return f"{dependency.service_name} to run"


def cycle_of(specs: Sequence[ServiceSpec]) -> list[str]:
    """Names of services that wait for each other in a ring, the first one twice; or empty."""
    needs = {s.annotations.name: [d.service_name for d in s.depends_on] for s in specs}
    done: set[str] = set()

    def visit(name: str, chain: list[str]) -> list[str]:
        if name in chain:
            return [*chain[chain.index(name) :], name]
        if name in done or name not in needs:
            return []
        for other in needs[name]:
            found = visit(other, [*chain, name])
            if found:
                return found
        done.add(name)
        return []

    for name in needs:
        cycle = visit(name, [])
        if cycle:
            return cycle
    return []


def _has_come(
    view: View, service: Service, spec: ServiceSpec, dependency: ServiceDependency
) -> bool:
    tasks = view.tasks_of_service(service.id)
    complete = _slots([t for t in tasks if _is_current(t, service)], TASK_STATE_COMPLETE)
    if dependency.condition == DEPENDENCY_CONDITION_COMPLETED:
        return not service.held and len(complete) >= _wanted(spec, tasks)
    # Of whatever revision: one whose update is paused runs all the same.
    begun = _slots(tasks, TASK_STATE_RUNNING) | complete
    if is_job(spec):
        return not service.held and bool(begun)
    return not service.held and len(begun) >= _wanted(spec, tasks)


def _slots(tasks: Iterable[Task], state: TaskState.ValueType) -> set[SlotKey]:
    """Slots with a task in that state."""
    return {slot_key(task) for task in tasks if task.status.state == state}


def _is_current(task: Task, service: Service) -> bool:
    """What an earlier update's task completed is not what is waited for."""
    return task.revision == service.task_revision


def _wanted(spec: ServiceSpec, tasks: Iterable[Task]) -> int:
    mode = spec.WhichOneof("mode")
    if mode == "replicated":
        return spec.replicated.replicas
    if mode == "replicated_job":
        return spec.replicated_job.total_completions
    # One on each node that takes it, and on one at least.
    return max(1, len({task.node_id for task in tasks if task.desired_state <= TASK_STATE_RUNNING}))
