"""What may be forgotten: old tasks of a slot, and old revisions of a service."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.api.v1.store_pb2 import TABLE_SERVICE_REVISION
from swarm.api.v1.task_pb2 import Task
from swarm.manager.core.orchestrator.work import Work
from swarm.manager.core.store import View, ended, guard, prunable_revisions
from swarm.manager.core.store.objects import revision_id, wanted


def reap_slot(work: Work, tasks: Sequence[Task], max_attempts: int) -> None:
    """Keep the newest tasks of a slot, the live one included, up to the cluster's limit.

    Those that still run or stop are kept whatever the limit. With a limit of attempts, one
    task more than that is kept, as in Swarm (task_reaper.go).
    """
    limit = history_limit(work.draft)
    if limit < 0:
        return
    if max_attempts:
        limit = max(limit, max_attempts + 1)
    surplus = len(tasks) - limit
    for task in tasks:
        if surplus <= 0:
            return
        if ended(task) and not wanted(task):
            work.delete(task)
            surplus -= 1


def history_limit(view: View) -> int:
    """Tasks kept per slot; negative for all."""
    cluster = view.cluster()
    limit = cluster.spec.task_history_limit if cluster is not None else -1
    return max(1, limit) if limit >= 0 else limit


def prune_revisions(work: Work, committed: View, service_id: str) -> None:
    """Delete the service's revisions that nobody needs.

    Decided from what is committed: a task that this draft deletes may yet stay.
    """
    revisions = prunable_revisions(committed, service_id)
    if not revisions:
        return
    service = committed.service(service_id)
    guards = [guard(service)] if service is not None else []
    with work.draft.group(("prune", service_id), guards):
        for revision in revisions:
            work.changes += 1
            work.draft.delete(TABLE_SERVICE_REVISION, revision_id(service_id, revision))
