"""Create, update, remove a service: requests to transactions."""

from swarm.api.v1.service_pb2 import Service, ServiceRevision, ServiceSpec
from swarm.api.v1.store_pb2 import TABLE_SERVICE, Change, Deletion, Object, Transaction
from swarm.api.v1.types_pb2 import PUBLISH_MODE_INGRESS
from swarm.manager.core.allocator import ports
from swarm.manager.core.store import Ids, View, revision_id
from swarm.manager.core.store.service_index import name_taken
from swarm.manager.core.validate import service_spec
from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest


def create(view: View, spec: ServiceSpec, ids: Ids, now_ns: int, who: str) -> Transaction:
    """A service with its first revision. Its id is the first that `ids` makes.

    Raises InvalidRequest.
    """
    del now_ns  # the log entry's time becomes the objects'
    spec = service_spec.with_defaults(spec)
    service_spec.check(spec)
    name = spec.annotations.name
    if view.service_by_name(name) is not None:
        raise InvalidRequest(name_taken(name), ErrorCode.ALREADY_EXISTS)
    service = Service(id=ids.new(), name=name, revision=1, task_revision=1)
    _publish(view, service, spec, None)
    return Transaction(
        who=who,
        changes=[
            Change(create=Object(service=service)),
            Change(create=Object(service_revision=_revision_row(service.id, 1, spec, who))),
        ],
    )


def update(
    view: View, service_id: str, version: int, spec: ServiceSpec, now_ns: int, who: str
) -> Transaction:
    """A new revision of the spec, read by the caller at `version`.

    The same spec again makes no revision, but a new version: an update that was paused goes on.
    Raises InvalidRequest.
    """
    del now_ns  # the log entry's time becomes the objects'
    current = _existing(view, service_id)
    _check_version(view, current, version)
    spec = service_spec.with_defaults(spec)
    service_spec.check(spec)
    old_spec = view.spec(service_id, current.revision)
    assert old_spec is not None, "a service's current revision is never pruned"
    _check_unchangeable(old_spec, spec)
    service = Service()
    service.CopyFrom(current)
    _publish(view, service, spec, current)
    changes = [Change(replace=Object(service=service), expected_version=current.meta.version)]
    if spec != old_spec:
        number = max(view.revisions_of_service(service_id)) + 1
        service.previous_revision = current.revision
        service.revision = number
        service.task_revision = task_revision(view, service_id, spec) or number
        changes = [
            Change(replace=Object(service=service), expected_version=current.meta.version),
            Change(create=Object(service_revision=_revision_row(service_id, number, spec, who))),
        ]
    return Transaction(who=who, changes=changes)


def remove(view: View, service_id: str, who: str) -> Transaction:
    """The service goes at once; the brain removes its tasks, and then its revisions.

    Raises InvalidRequest.
    """
    _existing(view, service_id)
    deletion = Deletion(table=TABLE_SERVICE, id=service_id)
    return Transaction(who=who, changes=[Change(delete=deletion)])


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


def _publish(view: View, service: Service, spec: ServiceSpec, current: Service | None) -> None:
    start = int(service.id, 36) if service.id.isalnum() else 0
    try:
        filled = ports.publish(view, spec.endpoint.ports, start, current)
    except ports.PortUnavailable as error:
        raise InvalidRequest(str(error), ErrorCode.FAILED_PRECONDITION) from None
    del service.ports[:]
    service.ports.extend(filled)


def _revision_row(service_id: str, number: int, spec: ServiceSpec, who: str) -> ServiceRevision:
    return ServiceRevision(
        id=revision_id(service_id, number),
        service_id=service_id,
        revision=number,
        spec=spec,
        who=who,
    )


def _existing(view: View, service_id: str) -> Service:
    service = view.service(service_id)
    if service is None:
        raise InvalidRequest(f"service {service_id} not found", ErrorCode.NOT_FOUND)
    return service


def _check_version(view: View, service: Service, version: int) -> None:
    """The spec must be the one that the caller read. What managers write to the service
    meanwhile (why its tasks wait) is none of the caller's business."""
    row = view.revision_row(service.id, service.revision)
    written = row.meta.version if row is not None else service.meta.version
    if not written <= version <= service.meta.version:
        raise InvalidRequest(
            f"update out of sequence: service {service.name} was changed meanwhile; "
            "read it again and repeat",
            ErrorCode.CONFLICT,
        )


def _check_unchangeable(old: ServiceSpec, new: ServiceSpec) -> None:
    if new.annotations.name != old.annotations.name:
        raise InvalidRequest(
            "renaming services is not supported: create one with the new name, then remove "
            f"{old.annotations.name}"
        )
    if new.WhichOneof("mode") != old.WhichOneof("mode"):
        raise InvalidRequest(
            "service mode change is not allowed: create another service with the new mode"
        )
