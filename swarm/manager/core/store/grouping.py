"""Which changes of a draft stand or fall together: groups, each one a Transaction."""

from collections.abc import Hashable, Iterable, Mapping

from swarm.api.v1.store_pb2 import Change, Deletion, Guard, Table, Transaction
from swarm.manager.core.store.objects import StoreObject, wrap

RowKey = tuple[Table.ValueType, str]

# One log entry takes at most this much: it is applied in one go, in some 10 ms.
BATCH_BYTES_MAX = 1 << 20
BATCH_CHANGES_MAX = 400


class Groups:
    """Groups that come to share an object are one from then on."""

    def __init__(self) -> None:
        self._by_name: dict[Hashable, int] = {}
        self._of_row: dict[RowKey, int] = {}
        self._merged_into: list[int] = []
        self._guards: list[dict[RowKey, Guard]] = []

    def named(self, name: Hashable, guards: Iterable[Guard]) -> int:
        group = self._by_name.get(name)
        if group is None:
            group = self._by_name[name] = self._new()
        group = self._root(group)
        for guard in guards:
            self._guards[group][guard.table, guard.id] = guard
        return group

    def add(self, row: RowKey, group: int | None) -> None:
        """The row changes in this group; None: in its own, or the one it is in already."""
        present = self._of_row.get(row)
        if present is None:
            self._of_row[row] = self._new() if group is None else group
        elif group is not None:
            self._merge(present, group)

    def transactions(
        self,
        changes: Mapping[RowKey, tuple[StoreObject | None, StoreObject | None]],
        who: str,
    ) -> list[Transaction]:
        """One per group that changes something, in the order in which the groups began.

        Those that change an object which another group guards come last: they would make
        the other's guard fail.
        """
        rows_of: dict[int, list[RowKey]] = {}
        for row in changes:
            rows_of.setdefault(self._root(self._of_row[row]), []).append(row)
        guarded_by = self._guarding(rows_of)
        first: list[Transaction] = []
        last: list[Transaction] = []
        for group, rows in rows_of.items():
            transaction = Transaction(
                who=who,
                guards=self._guards[group].values(),
                changes=[_change(row, *changes[row]) for row in rows],
            )
            breaks_guard = any(guarded_by.get(row, group) != group for row in rows)
            (last if breaks_guard else first).append(transaction)
        return first + last

    def _guarding(self, groups: Iterable[int]) -> dict[RowKey, int]:
        """Rows with the group that guards each; -1 where several do."""
        guarded_by: dict[RowKey, int] = {}
        for group in groups:
            for row in self._guards[group]:
                guarded_by[row] = -1 if row in guarded_by else group
        return guarded_by

    def _new(self) -> int:
        self._merged_into.append(len(self._merged_into))
        self._guards.append({})
        return self._merged_into[-1]

    def _root(self, group: int) -> int:
        while self._merged_into[group] != group:
            self._merged_into[group] = self._merged_into[self._merged_into[group]]
            group = self._merged_into[group]
        return group

    def _merge(self, one: int, other: int) -> None:
        kept, gone = sorted((self._root(one), self._root(other)))
        if kept != gone:
            self._merged_into[gone] = kept
            self._guards[kept].update(self._guards[gone])


def batches(
    transactions: Iterable[Transaction], max_bytes: int, max_changes: int
) -> list[list[Transaction]]:
    """In order, whole transactions; one that is larger than a batch is alone in its own."""
    pieces: list[list[Transaction]] = []
    size = changes = 0
    for transaction in transactions:
        added = transaction.ByteSize()
        size += added
        changes += len(transaction.changes)
        if not pieces or size > max_bytes or changes > max_changes:
            pieces.append([])
            size, changes = added, len(transaction.changes)
        pieces[-1].append(transaction)
    return pieces


def _change(row: RowKey, old: StoreObject | None, new: StoreObject | None) -> Change:
    if new is None:
        assert old is not None, "a change from nothing to nothing"
        deletion = Deletion(table=row[0], id=row[1])
        return Change(delete=deletion, expected_version=old.meta.version)
    if old is None:
        return Change(create=wrap(new))
    return Change(replace=wrap(new), expected_version=old.meta.version)
