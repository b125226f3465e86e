"""Digests that tell whether two managers' tables are the same, at a cost per change.

Also what finds a message that was changed after it was stored: it no longer has its digest.
"""

from hashlib import blake2b

from swarm.api.v1.store_pb2 import Table
from swarm.manager.core.store.objects import TABLES, StoreObject

_MASK = (1 << 64) - 1


def digest_of(obj: StoreObject) -> int:
    data = obj.SerializeToString(deterministic=True)
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


class Digests:
    """A sum per table of its objects' digests, modulo 2**64: the order does not matter."""

    def __init__(self, check_mutation: bool) -> None:
        self._check_mutation = check_mutation
        self._sums: dict[int, int] = dict.fromkeys(TABLES, 0)
        self._of_objects: dict[int, dict[str, int]] = {table: {} for table in TABLES}

    def sum(self, table: Table.ValueType) -> int:
        return self._sums[table]

    def swap(
        self, table: Table.ValueType, key: str, old: StoreObject | None, new: StoreObject | None
    ) -> None:
        digests = self._of_objects[table]
        change = 0
        if old is not None:
            if self._check_mutation:
                self.check_unchanged(table, key, old)
            change -= digests.pop(key) if new is None else digests[key]
        if new is not None:
            digest = digests[key] = digest_of(new)
            change += digest
        self._sums[table] = (self._sums[table] + change) & _MASK

    def check_unchanged(self, table: Table.ValueType, key: str, obj: StoreObject) -> None:
        assert digest_of(obj) == self._of_objects[table][key], (
            f"{type(obj).__name__} {key} was mutated while it was in the store"
        )
