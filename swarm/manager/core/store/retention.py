"""Which revisions of a service are kept: those in use, and the last 20 (DESIGN).

The brain deletes the others, through the log like every change.
"""

from swarm.manager.core.store.view import View

KEPT_REVISIONS = 20


def needs_pruning(view: View, service_id: str) -> bool:
    """A cheap first question: more rows than are kept anyway, or rows of a service that is gone."""
    revisions = view.revisions_of_service(service_id)
    kept = KEPT_REVISIONS if view.service(service_id) is not None else 0
    return len(revisions) > kept


def prunable_revisions(view: View, service_id: str) -> list[int]:
    """Those that may be deleted now, oldest first."""
    revisions = view.revisions_of_service(service_id)
    service = view.service(service_id)
    needed: tuple[int, ...] = ()
    if service is not None:
        needed = (service.revision, service.task_revision, service.previous_revision)
        revisions = revisions[:-KEPT_REVISIONS]
    return [
        revision
        for revision in revisions
        if revision not in needed and not view.revision_uses(service_id, revision)
    ]
