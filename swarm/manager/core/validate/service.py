"""Create, update, roll back, remove a service: requests to transactions."""

from swarm.api.v1.service_pb2 import (
    UPDATE_STATE_ROLLBACK_STARTED,
    Service,
    ServiceRevision,
    ServiceSpec,
    UpdateStatus,
)
from swarm.api.v1.store_pb2 import TABLE_SERVICE, Change, Deletion, Object, Transaction
from swarm.manager.core.allocator.ports import PortUnavailable
from swarm.manager.core.allocator.revision import next_revision, republished, revision_row
from swarm.manager.core.modes import is_job
from swarm.manager.core.store import Ids, View
from swarm.manager.core.store.service_index import name_taken
from swarm.manager.core.validate import file_references, images, service_spec
from swarm.manager.core.validate.errors import ErrorCode, InvalidRequest, changed_since


def create(view: View, spec: ServiceSpec, ids: Ids, now_ns: int, who: str) -> Transaction:
    """A service with its first revision. Its id is the first that `ids` makes.

    Raises InvalidRequest.
    """
    del now_ns  # the log entry's time becomes the objects'
    spec = whole(view, spec)
    name = spec.annotations.name
    if view.service_by_name(name) is not None:
        raise InvalidRequest(name_taken(name), ErrorCode.ALREADY_EXISTS)
    service = Service(
        id=ids.new(), name=name, revision=1, task_revision=1, held=bool(spec.depends_on)
    )
    try:
        service = republished(view, service, spec)
    except PortUnavailable as error:
        raise InvalidRequest(str(error), ErrorCode.FAILED_PRECONDITION) from None
    return Transaction(
        who=who,
        guards=file_references.guards(view, spec.task.container),
        changes=[
            Change(create=Object(service=service)),
            Change(create=Object(service_revision=revision_row(service.id, 1, spec, who))),
        ],
    )


def update(
    view: View,
    service_id: str,
    version: int,
    spec: ServiceSpec,
    now_ns: int,
    who: str,
    check_index: int | None = None,
) -> Transaction:
    """A new revision of the spec, read by the caller at `version`; refused where somebody changed
    it after `check_index`, a revision of the store.

    The same spec again makes no revision, but a new version: an update that was paused goes on. A
    job gets a revision by every update, and runs anew.
    Raises InvalidRequest.
    """
    del now_ns  # the log entry's time becomes the objects'
    current = check_version(view, service_id, version, check_index)
    spec = whole(view, spec)
    old_spec = view.spec(service_id, current.revision)
    assert old_spec is not None, "a service's current revision is never pruned"
    _check_unchangeable(old_spec, spec)
    try:
        if spec != old_spec or is_job(spec):
            service, row = next_revision(view, current, spec, who)
            return _replacement(view, current, service, row, spec, who)
        service = republished(view, current, spec)
    except PortUnavailable as error:
        raise InvalidRequest(str(error), ErrorCode.FAILED_PRECONDITION) from None
    service.ClearField("update")
    return _replacement(view, current, service, None, spec, who)


def rollback(
    view: View,
    service_id: str,
    version: int,
    now_ns: int,
    who: str,
    to: int = 0,
    check_index: int | None = None,
) -> Transaction:
    """A new revision with the spec of revision `to` (0: the previous one); rolled back again, it is
    as it was before.

    `version` and `check_index` as in `update`. Raises InvalidRequest.
    """
    current = check_version(view, service_id, version, check_index)
    earlier = _spec_of(view, current, to) if to else _previous_spec(view, current)
    file_references.check_there(view, earlier.task.container)
    try:
        service, row = next_revision(view, current, earlier, who)
    except PortUnavailable as error:
        raise InvalidRequest(str(error), ErrorCode.FAILED_PRECONDITION) from None
    status = UpdateStatus(
        state=UPDATE_STATE_ROLLBACK_STARTED,
        started_at_ns=now_ns,
        message=f"manually requested rollback to revision {to}"
        if to
        else "manually requested rollback",
    )
    if not is_job(earlier):
        service.update.CopyFrom(status)
    return _replacement(view, current, service, row, earlier, who)


def remove(view: View, service_id: str, who: str) -> Transaction:
    """The service goes at once; the brain removes its tasks, and then its revisions.

    Raises InvalidRequest.
    """
    _existing(view, service_id)
    deletion = Deletion(table=TABLE_SERVICE, id=service_id)
    return Transaction(who=who, changes=[Change(delete=deletion)])


def check_version(
    view: View, service_id: str, version: int, check_index: int | None = None
) -> Service:
    """The service, whose spec must be the one that the caller read (`version` 0: any). What
    managers write to the service meanwhile (why its tasks wait) is none of the caller's business.

    Raises InvalidRequest.
    """
    service = _existing(view, service_id)
    row = view.revision_row(service.id, service.revision)
    written = row.meta.version if row is not None else service.meta.version
    if check_index is not None and written > check_index:
        raise InvalidRequest(changed_since("service", service.name, written, check_index))
    if version and not written <= version <= service.meta.version:
        raise InvalidRequest(
            f"update out of sequence: service {service.name} was changed meanwhile; "
            "read it again and repeat",
            ErrorCode.CONFLICT,
        )
    return service


def whole(view: View, spec: ServiceSpec) -> ServiceSpec:
    """A copy with nothing left to be guessed, and checked. Raises InvalidRequest."""
    spec = service_spec.with_defaults(spec)
    file_references.resolve(view, spec.task.container)
    service_spec.check(spec)
    images.pin(view, spec.task.container)
    return spec


def _replacement(
    view: View,
    current: Service,
    service: Service,
    row: ServiceRevision | None,
    spec: ServiceSpec,
    who: str,
) -> Transaction:
    changes = [Change(replace=Object(service=service), expected_version=current.meta.version)]
    if row is not None:
        changes.append(Change(create=Object(service_revision=row)))
    guards = file_references.guards(view, spec.task.container)
    return Transaction(who=who, guards=guards, changes=changes)


def _existing(view: View, service_id: str) -> Service:
    service = view.service(service_id)
    if service is None:
        raise InvalidRequest(f"service {service_id} not found", ErrorCode.NOT_FOUND)
    return service


def _previous_spec(view: View, service: Service) -> ServiceSpec:
    previous = view.spec(service.id, service.previous_revision)
    if previous is None:
        raise InvalidRequest(
            f"service {service.name} does not have a previous spec: it was not updated since it "
            "was created or last rolled back by itself",
            ErrorCode.FAILED_PRECONDITION,
        )
    return previous


def _spec_of(view: View, service: Service, revision: int) -> ServiceSpec:
    if revision == service.revision:
        raise InvalidRequest(
            f"service {service.name} is at revision {revision} already",
            ErrorCode.FAILED_PRECONDITION,
        )
    spec = view.spec(service.id, revision)
    if spec is None:
        kept = ", ".join(map(str, view.revisions_of_service(service.id)))
        raise InvalidRequest(
            f"service {service.name} has no revision {revision}: it has {kept} "
            f"(swarmctl history service {service.name})",
            ErrorCode.FAILED_PRECONDITION,
        )
    return spec


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
