"""Apply: what the log says becomes the cluster's state, the same on every manager.

Deterministic: no clock, no randomness, no id is made here. A transaction has its whole effect
or none, and its verdict is the client's answer (DESIGN, "What is in the log").
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import cast

from swarm.api.v1.cluster_pb2 import Cluster
from swarm.api.v1.config_pb2 import Config
from swarm.api.v1.image_pb2 import Image
from swarm.api.v1.node_pb2 import Member
from swarm.api.v1.raft_pb2 import ConfChange, ConfState
from swarm.api.v1.secret_pb2 import Secret
from swarm.api.v1.service_pb2 import Service
from swarm.api.v1.store_pb2 import (
    TABLE_CLUSTER,
    TABLE_MEMBER,
    TABLE_SERVICE,
    TABLE_TASK,
    VERDICT_EXISTS,
    VERDICT_NOT_FOUND,
    VERDICT_OK,
    VERDICT_STALE_TERM,
    VERDICT_VERSION,
    Change,
    Deletion,
    LogPayload,
    MemberChange,
    Object,
    RememberedVerdict,
    SnapshotHeader,
    SnapshotPiece,
    Table,
    TaskStatusChange,
    Transaction,
    Verdict,
    VerdictCode,
)
from swarm.api.v1.task_pb2 import TASK_STATE_RUNNING, Task, TaskStatus
from swarm.manager.core.store.changes import Applied, StoreChange
from swarm.manager.core.store.objects import (
    TABLES,
    StoreObject,
    UnknownOperation,
    noun_of,
    unwrap,
)
from swarm.manager.core.store.snapshot import FEATURE_LEVEL, FORMAT, StoreImage
from swarm.manager.core.store.tables import Tables
from swarm.manager.core.store.verdicts import RequestMemory

# A user's request is one transaction; what is larger is refused before it is proposed.
TRANSACTION_BYTES_MAX = 3 << 19
# Revisions that a watch can resume from.
RING_REVISIONS = 10_000


class _Refused(Exception):  # noqa: N818  # an outcome, not a fault
    def __init__(self, code: VerdictCode.ValueType, message: str) -> None:
        super().__init__(message)
        self.code: VerdictCode.ValueType = code
        self.message = message


def check_size(transaction: Transaction) -> str | None:
    """Why the transaction can't be proposed, or None."""
    size = transaction.ByteSize()
    if size <= TRANSACTION_BYTES_MAX:
        return None
    return (
        f"the request is {size / (1 << 20):.1f} MiB, more than the "
        f"{TRANSACTION_BYTES_MAX / (1 << 20):.1f} MiB that one request may change: "
        "make it smaller or split it up"
    )


class Store(Tables):
    """The committed state. It implements `View`.

    With `check_mutation`, a message that was changed after it was stored is found when it is
    replaced, or by `check`.
    """

    def __init__(self, check_mutation: bool = False) -> None:
        super().__init__(check_mutation)
        # Of the last entry that was applied, or of the snapshot it was restored from.
        self.applied_index = 0
        self._memory = RequestMemory()
        self._ring: deque[Sequence[StoreChange]] = deque(maxlen=RING_REVISIONS)

    # The log

    def apply(self, index: int, term: int, payload: LogPayload) -> Applied:
        """Apply the entry at `index`, proposed in any term and committed with `term`.

        Raises UnknownOperation: the manager must stop.
        """
        self.applied_index = index
        if payload.only_in_term not in (0, term):
            stale = Verdict(
                code=VERDICT_STALE_TERM,
                message="leadership changed before this took effect: it is computed anew",
                revision=self._revision,
            )
            return Applied([stale] * len(payload.transactions), ())
        at_ns = payload.proposed_at_ns
        self._memory.forget_old(at_ns)
        changes: list[StoreChange] = []
        verdicts: list[Verdict] = []
        for transaction in payload.transactions:
            try:
                verdicts.append(self._verdict_of(transaction, at_ns, changes))
            except UnknownOperation as error:
                raise UnknownOperation(f"log entry {index}: {error}") from None
        self._settle()
        return Applied(verdicts, changes)

    def apply_member_change(
        self, index: int, conf_change: ConfChange, conf_state: ConfState
    ) -> Applied:
        """Bring the members table in line with the configuration of the entry at `index`.

        The configuration is Raft's and has taken effect: who is a learner or removed follows
        from `conf_state`; the change's context adds addresses.
        """
        self.applied_index = index
        context = MemberChange.FromString(conf_change.context)
        revision, at_ns = self._revision + 1, context.proposed_at_ns
        done: list[StoreChange] = []
        for member in self._members_after(context, conf_state):
            old = self._members.get(member.id)
            if old is None or _without_meta(old) != member:
                self._put(TABLE_MEMBER, old, member, revision, at_ns, done)
        changes: list[StoreChange] = []
        self._took_effect(done, changes)
        if not conf_change.context:
            return Applied((), changes)
        verdict = self._memory.get(context.request_id) or Verdict(
            code=VERDICT_OK, revision=self._revision
        )
        if context.request_id and self._memory.get(context.request_id) is None:
            self._memory.remember(context.request_id, verdict, at_ns)
        return Applied((verdict,), changes)

    @property
    def remembered_requests(self) -> int:
        """How many requests' verdicts are remembered."""
        return len(self._memory)

    def verdict(self, request_id: str) -> Verdict | None:
        """What a request was answered, while it is remembered."""
        return self._memory.get(request_id)

    def changes_since(self, revision: int) -> list[StoreChange] | None:
        """All changes after `revision`; None when they are not kept (or it is not reached
        here): list anew."""
        missed = self._revision - revision
        if missed < 0 or missed > len(self._ring):
            return None
        rest = islice(self._ring, len(self._ring) - missed, None)
        return [change for changes in rest for change in changes]

    def changes_kept(self) -> list[StoreChange]:
        """All that a watch can still be told of, oldest first."""
        return [change for changes in self._ring for change in changes]

    # Transactions

    def _verdict_of(
        self, transaction: Transaction, at_ns: int, changes: list[StoreChange]
    ) -> Verdict:
        request_id = transaction.request_id
        if request_id and (first := self._memory.get(request_id)) is not None:
            return first
        if transaction.HasField("refusal"):
            refusal = Verdict(revision=self._revision)
            refusal.MergeFrom(transaction.refusal)
            self._memory.remember(request_id, refusal, at_ns)
            return refusal
        done: list[StoreChange] = []
        try:
            self._perform(transaction, at_ns, done)
        except _Refused as refused:
            self._undo(done)
            verdict = Verdict(code=refused.code, message=refused.message, revision=self._revision)
        except UnknownOperation:
            self._undo(done)
            raise
        else:
            self._took_effect(done, changes)
            verdict = Verdict(revision=self._revision)
        if request_id:
            self._memory.remember(request_id, verdict, at_ns)
        return verdict

    def _perform(self, transaction: Transaction, at_ns: int, done: list[StoreChange]) -> None:
        for guard in transaction.guards:
            self._find(guard.table, guard.id, guard.version)
        revision = self._revision + 1
        for change in transaction.changes:
            operation = change.WhichOneof("operation")
            if operation == "task_status":
                self._set_task_status(change.task_status, revision, at_ns, done)
            elif operation == "create":
                self._create(change.create, revision, at_ns, done)
            elif operation == "replace":
                self._replace(change, revision, at_ns, done)
            elif operation == "delete":
                self._delete(change.delete, change.expected_version, revision, at_ns, done)
            else:
                raise UnknownOperation(
                    "an operation that this version does not know: update swarmd on this node"
                )

    def _took_effect(self, done: list[StoreChange], changes: list[StoreChange]) -> None:
        if done:
            self._revision += 1
            self._ring.append(done)
            changes.extend(done)

    def _undo(self, done: list[StoreChange]) -> None:
        for change in reversed(done):
            row = change.new or change.old
            assert row is not None
            self._swap(change.table, row.id, change.new, change.old)

    def _create(self, wrapped: Object, revision: int, at_ns: int, done: list[StoreChange]) -> None:
        table, new = unwrap(wrapped)
        if new.id in self._rows[table]:
            raise _Refused(VERDICT_EXISTS, f"{noun_of(table)} {new.id} already exists")
        self._put(table, None, new, revision, at_ns, done)

    def _replace(self, change: Change, revision: int, at_ns: int, done: list[StoreChange]) -> None:
        table, new = unwrap(change.replace)
        old = self._find(table, new.id, change.expected_version)
        self._put(table, old, new, revision, at_ns, done)

    def _delete(
        self,
        deletion: Deletion,
        version: int,
        revision: int,
        at_ns: int,
        done: list[StoreChange],
    ) -> None:
        table, key = deletion.table, deletion.id
        old = self._find(table, key, version, any_version=not version)
        if isinstance(old, Secret | Config) and (hold := self._file_hold(old)) is not None:
            raise _Refused(*hold)
        self._swap(table, key, old, None)
        done.append(StoreChange(revision, table, old, None, at_ns))

    def _set_task_status(
        self, change: TaskStatusChange, revision: int, at_ns: int, done: list[StoreChange]
    ) -> None:
        old = self._tasks.get(change.task_id)
        if old is None or not _advances(old.status, change.status):
            return
        new = Task()
        new.CopyFrom(old)
        new.status.CopyFrom(change.status)
        if new.status.state == TASK_STATE_RUNNING and not new.running_at_ns:
            new.running_at_ns = at_ns
        self._put(TABLE_TASK, old, new, revision, at_ns, done)

    def _put(
        self,
        table: Table.ValueType,
        old: StoreObject | None,
        new: StoreObject,
        revision: int,
        at_ns: int,
        done: list[StoreChange],
    ) -> None:
        if table == TABLE_SERVICE and (clash := self._clash(cast("Service", new))) is not None:
            raise _Refused(*clash)
        if isinstance(new, Secret | Config) and (taken := self._file_clash(new)) is not None:
            raise _Refused(*taken)
        if isinstance(new, Image) and (taken := self._image_clash(new)) is not None:
            raise _Refused(*taken)
        if table == TABLE_CLUSTER:
            _check_feature_level(cast("Cluster", new).feature_level)
        meta = new.meta
        meta.version = revision
        meta.created_at_ns = old.meta.created_at_ns if old is not None else at_ns
        meta.updated_at_ns = at_ns
        self._swap(table, new.id, old, new)
        done.append(StoreChange(revision, table, old, new, at_ns))

    def _find(
        self, table: Table.ValueType, key: str, version: int, any_version: bool = False
    ) -> StoreObject:
        """The row, which must be there with this version."""
        rows = self._rows.get(table)
        if rows is None:
            raise UnknownOperation(
                f"table {table}, which this version does not know: update swarmd on this node"
            )
        obj = rows.get(key)
        if obj is None:
            raise _Refused(VERDICT_NOT_FOUND, f"{noun_of(table)} {key} is not there any more")
        if obj.meta.version != version and not any_version:
            raise _Refused(
                VERDICT_VERSION,
                f"update out of sequence: {noun_of(table)} {key} was changed meanwhile; "
                "read it again and repeat",
            )
        return obj

    def _members_after(self, context: MemberChange, conf_state: ConfState) -> list[Member]:
        """All members, without Meta, as the configuration has them now."""
        members = {key: _without_meta(member) for key, member in self._members.items()}
        if context.member.raft_id:
            named = _without_meta(context.member)
            named.id = str(named.raft_id)
            members[named.id] = named
        learners = {*conf_state.learners, *conf_state.learners_next}
        everybody = {*conf_state.voters, *conf_state.voters_outgoing, *learners}
        for member in members.values():
            member.removed = member.raft_id not in everybody
            member.learner = member.raft_id in learners
        return list(members.values())

    # Snapshots

    def snapshot(self, index: int, term: int, conf_state: ConfState) -> StoreImage:
        """All of the store now; later changes do not show in it."""
        cluster = self.cluster()
        header = SnapshotHeader(
            format=FORMAT,
            index=index,
            term=term,
            revision=self._revision,
            feature_level=cluster.feature_level if cluster is not None else 0,
            conf_state=conf_state,
        )
        rows = [list(self._rows[table].values()) for table in TABLES]
        return StoreImage(header, rows, self._memory.all())

    @classmethod
    def from_image(cls, image: StoreImage) -> "Store":
        """A store that goes its own way from there. Rows are shared: they are never mutated."""
        store = cls()
        for table, rows in zip(TABLES, image.rows, strict=True):
            for row in rows:
                store.load(table, row)
        store.loaded(image.header, image.verdicts)
        return store

    def load(self, table: Table.ValueType, obj: StoreObject) -> None:
        """One row of a snapshot, into a store that is not in use yet: see Restoration."""
        self._swap(table, obj.id, self._rows[table].get(obj.id), obj)

    def loaded(self, header: SnapshotHeader, verdicts: Iterable[RememberedVerdict]) -> None:
        """All rows are in: what is left of the snapshot."""
        self.applied_index, self._revision = header.index, header.revision
        self._memory = RequestMemory(verdicts)
        self._settle()

    @classmethod
    def restore(cls, pieces: Iterable[SnapshotPiece], check_mutation: bool = False) -> "Store":
        """Fresh tables from a whole snapshot. Raises UnknownOperation, ValueError."""
        restoration = Restoration(check_mutation)
        for piece in pieces:
            restoration.add(piece)
        return restoration.finish()

    def check(self) -> None:
        """Everything that is kept beside the rows is what the rows say. For tests and the
        simulator: it looks at every row. Raises AssertionError."""
        self._check_against(Store.restore(self.snapshot(0, 0, ConfState()).pieces()))


class Restoration:
    """Builds a store from a snapshot's pieces, one at a time between other work."""

    def __init__(self, check_mutation: bool = False) -> None:
        self.header: SnapshotHeader | None = None
        self._store = Store(check_mutation)
        self._verdicts: list[RememberedVerdict] = []

    def add(self, piece: SnapshotPiece) -> None:
        """Raises UnknownOperation for what a newer version wrote, ValueError without header."""
        if piece.HasField("header"):
            self._begin(piece.header)
        if self.header is None:
            raise ValueError("the snapshot does not begin with its header")
        for wrapped in piece.objects:
            table, obj = unwrap(wrapped)
            self._store.load(table, obj)
        for verdict in piece.verdicts:
            kept = RememberedVerdict()
            kept.CopyFrom(verdict)
            self._verdicts.append(kept)

    def finish(self) -> Store:
        if self.header is None:
            raise ValueError("the snapshot is empty")
        self._store.loaded(self.header, self._verdicts)
        return self._store

    def _begin(self, header: SnapshotHeader) -> None:
        if header.format != FORMAT:
            raise UnknownOperation(
                f"a snapshot in format {header.format}, which this version does not know: "
                "update swarmd on this node"
            )
        _check_feature_level(header.feature_level)
        self.header = SnapshotHeader()
        self.header.CopyFrom(header)


def _advances(old: TaskStatus, new: TaskStatus) -> bool:
    """Observed state never goes back; within a state, neither does its time."""
    if new.state != old.state:
        return new.state > old.state
    return new.timestamp_ns >= old.timestamp_ns and new != old


def _without_meta(member: Member) -> Member:
    bare = Member()
    bare.CopyFrom(member)
    bare.ClearField("meta")
    return bare


def _check_feature_level(level: int) -> None:
    if level > FEATURE_LEVEL:
        raise UnknownOperation(
            f"the cluster's feature level is {level} and this version knows {FEATURE_LEVEL}: "
            "update swarmd on this node"
        )
