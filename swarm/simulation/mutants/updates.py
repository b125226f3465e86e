"""Deliberate bugs of updates, jobs and drains."""

from __future__ import annotations

from typing import Any

from swarm.api.v1.service_pb2 import UPDATE_STATE_ROLLBACK_STARTED
from swarm.manager.core.orchestrator import jobs, move, restart, slot, update_status
from swarm.manager.core.orchestrator.update import Rollout
from swarm.manager.core.store import SlotKey
from swarm.simulation.mutants.patches import Maker, Patch


def monitor_ignored() -> list[Patch]:
    """Nobody looks at what becomes of an update's tasks."""

    def judge_end(*_: Any) -> None:
        return

    return [(slot, "judge_end", judge_end)]


def parallelism_off_by_one() -> list[Patch]:
    """One slot more than may be is updated at once."""
    take = Rollout.take

    def one_more(self: Rollout, parallelism: int) -> list[SlotKey]:
        return take(self, parallelism + 1 if parallelism else 0)

    return [(Rollout, "take", one_more)]


def rollback_of_a_rollback() -> list[Patch]:
    """A rollback that fails is rolled back to what failed before."""
    act = update_status._act  # noqa: SLF001  # pyright: ignore

    def back_again(work: Any, service: Any, status: Any, config: Any, task: Any) -> None:
        back = service.update.state == UPDATE_STATE_ROLLBACK_STARTED
        if not back or update_status._roll_back(work, service, status, "again"):  # noqa: SLF001  # pyright: ignore
            act(work, service, status, config, task)

    return [(update_status, "_act", back_again)]


def completion_counted_twice() -> list[Patch]:
    """A slot of a job that is complete is run once more now and then."""
    complete = jobs.is_complete
    asked = [0]

    def not_always(service: Any, tasks: Any) -> bool:
        asked[0] += 1
        return complete(service, tasks) and asked[0] % 5 != 0

    def never(*_: Any) -> bool:
        return False

    return [(jobs, "is_complete", not_always), (restart, "gave_up", never)]


def drain_stops_first() -> list[Patch]:
    """A drain in turn stops a task as soon as its replacement is made."""

    def never(*_: Any) -> bool:
        return False

    return [(slot, "is_moving", never)]


def drain_one_more() -> list[Patch]:
    """One slot more than may be is on its way from a node."""
    most = move._most  # noqa: SLF001  # pyright: ignore

    def one_more(work: Any, key: SlotKey) -> int:
        return most(work, key) + 1

    return [(move, "_most", one_more)]


MAKERS: dict[str, Maker] = {
    "completion-counted-twice": completion_counted_twice,
    "drain-one-more": drain_one_more,
    "drain-stops-first": drain_stops_first,
    "monitor-ignored": monitor_ignored,
    "parallelism-off-by-one": parallelism_off_by_one,
    "rollback-of-a-rollback": rollback_of_a_rollback,
}
