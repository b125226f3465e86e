"""What an applied entry did."""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.api.v1.store_pb2 import Table, Verdict
from swarm.manager.core.store.objects import StoreObject


@dataclass(frozen=True, slots=True)
class StoreChange:
    """One row as it was and as it is. None: it was not there, or is not any more."""

    revision: int
    table: Table.ValueType
    old: StoreObject | None
    new: StoreObject | None
    # When the entry was proposed, by the leader's clock; 0 in a draft.
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """What an entry did: a verdict per transaction, and the changes in order."""

    verdicts: Sequence[Verdict]
    changes: Sequence[StoreChange]
