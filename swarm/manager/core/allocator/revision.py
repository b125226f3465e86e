"""A service's next revision: its number, whose tasks it keeps, and the ports it publishes."""

from __future__ import annotations

from swarm.api.v1.service_pb2 import Service, ServiceRevision, ServiceSpec
from swarm.api.v1.types_pb2 import PUBLISH_MODE_INGRESS
from swarm.manager.core.allocator import ports
from swarm.manager.core.modes import is_job
from swarm.manager.core.store import View, revision_id


def next_revision(
    view: View, current: Service, spec: ServiceSpec, who: str
) -> tuple[Service, ServiceRevision]:
    """The service with `spec` wanted, and the row of that revision; its update is yet to begin.

    Raises PortUnavailable.
    """
    number = max(view.revisions_of_service(current.id)) + 1
    service = republished(view, current, spec)
    service.previous_revision = current.revision
    service.revision = number
    service.task_revision = number if is_job(spec) else task_revision(view, current.id, spec)
    service.task_revision = service.task_revision or number
    service.ClearField("update")
    return service, revision_row(service.id, number, spec, who)


def republished(view: View, current: Service, spec: ServiceSpec) -> Service:
    """A copy with the ports of `spec`, those it has being kept. Raises PortUnavailable."""
    service = Service()
    service.CopyFrom(current)
    start = int(service.id, 36) if service.id.isalnum() else 0
    filled = ports.publish(view, spec.endpoint.ports, start, current)
    del service.ports[:]
    service.ports.extend(filled)
    return service


def revision_row(service_id: str, number: int, spec: ServiceSpec, who: str) -> ServiceRevision:
    return ServiceRevision(
        id=revision_id(service_id, number),
        service_id=service_id,
        revision=number,
        spec=spec,
        who=who,
    )


def task_revision(view: View, service_id: str, spec: ServiceSpec) -> int:
    """The oldest revision whose tasks need not be replaced to run `spec`; 0 for none."""
    wanted = _what_tasks_run(spec)
    for number in view.revisions_of_service(service_id):
        earlier = view.spec(service_id, number)
        if earlier is not None and _what_tasks_run(earlier) == wanted:
            return number
    return 0


def _what_tasks_run(spec: ServiceSpec) -> tuple[bytes, int, list[tuple[int, ...]]]:
    """All in a spec that a task is made of. The number under which an ingress port is published
    is not: it can change while the task runs on."""
    listening = sorted(
        (
            port.protocol,
            port.target_port,
            port.publish_mode,
            0 if port.publish_mode == PUBLISH_MODE_INGRESS else port.published_port,
        )
        for port in spec.endpoint.ports
    )
    return spec.task.SerializeToString(deterministic=True), spec.endpoint.mode, listening
